"""Searches that are small enough for tests; all their randomness comes from their seed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from conftest import table_of
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.transforms import Compose, RandGaussianNoised

from scripts.latency.expectation import LatencyExpectation
from scripts.latency.table import LatencyTable
from scripts.runtime.deploy import Runtime
from scripts.search.constraint import Constraint
from scripts.search.derive import Deriver
from scripts.search.judge import Judge
from scripts.search.loop import Half
from scripts.search.objective import LatencyMultiplier, LatencyObjective
from scripts.search.one_shot import OneShotSearcher
from scripts.search.relaxation import JointSoftmax
from scripts.search.searcher import Searcher
from scripts.space.mixing import Mixing
from scripts.space.space import Space
from scripts.space.supernet import Supernet

DICE_CE = DiceCELoss(to_onehot_y=True, softmax=True)
SPACE = Space(layers=2, scales=2, nodes=1, channels=4, deployment_size=(8, 8, 2))
ONE_SHOT_SPACE = Space(
    **{"layers": 2, "scales": 2, "nodes": 1, "channels": 4, "operations": ("identity", "conv_3x3x3")},
    **{"deployment_size": (8, 8, 2), "start": "any", "end": "any", "join": "mean", "share_cells": False},
)


def random_mixing(space: Space, seed: int = 0) -> Mixing:
    """The mixing weights of a search with a preference."""
    torch.manual_seed(seed)
    relaxation = JointSoftmax(space)
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()
        return relaxation()


def small_volumes() -> list[dict[str, torch.Tensor]]:
    volumes = torch.rand(6, 1, 8, 8, 2, generator=torch.Generator().manual_seed(3))
    return [{"image": volume, "label": (4 * volume).floor()} for volume in volumes]


def small_loader(items: list[dict[str, torch.Tensor]], noise: float = 0.5, **arguments: Any) -> DataLoader:
    """Batches of one item, shuffled unless there is a sampler, with noise added with a probability."""
    dataset = Dataset(items, Compose([RandGaussianNoised("image", prob=noise, std=0.1)]))
    return DataLoader(dataset, **{"batch_size": 1, "shuffle": True, "generator": torch.Generator(), **arguments})


def judge_of(space: Space, budget_ms: Any = 1000.0, table: LatencyTable | None = None, **settings: Any) -> Judge:
    """Uses a table in which everything takes 1 ms, and measures in float32 on the CPU."""
    constraint = Constraint(budget_ms, **settings)
    return Judge(space, table or table_of(space), constraint, Runtime("cpu", "float32"))


def small_search(work_dir: Any, kind: type[Searcher] = Searcher, **changes: Any) -> Searcher:
    torch.manual_seed(7)
    data = small_volumes()
    options = {
        "supernet": Supernet(SPACE, partial=2),
        "relaxation": JointSoftmax(SPACE),
        "objective": LatencyObjective(weight=0.1),
        "expectation": LatencyExpectation(table_of(SPACE), SPACE, network="derived"),
        "deriver": Deriver(fitness="latency", paths=1, generations=2),
        "judge": judge_of(SPACE, changes.pop("budget_ms", 5.0)),
        "work_dir": str(work_dir),
        "epochs": 4,
        "warm_up_epochs": 1,
        "amp": False,
    }
    halves = {
        "weights": Half(small_loader(data[:3]), DICE_CE, partial(torch.optim.SGD, lr=0.05, momentum=0.9)),
        "architecture": Half(
            small_loader(data[3:]),
            DiceCELoss(to_onehot_y=True, softmax=True, lambda_dice=0.0),
            partial(torch.optim.Adam, lr=0.05),
        ),
    }
    for name, half in halves.items():
        halves[name] = replace(half, **changes.pop(name, {}))
    return kind(**{**options, **halves, **changes})


def discrete_search(work_dir: Any, **changes: Any) -> Searcher:
    """A search that trains discrete networks and moves to its budget by a multiplier."""
    options = {
        "supernet": Supernet(SPACE, partial=1),
        "discrete": True,
        "expectation": LatencyExpectation(table_of(SPACE), SPACE, network="union", count=2),
        "objective": LatencyMultiplier(),
        "deriver": Deriver(paths=2, generations=2),
    }
    return small_search(work_dir, **{**options, **changes})


def blocks() -> list[dict[str, torch.Tensor]]:
    """Volumes whose block-shaped labels are visible in the image."""
    generator = torch.Generator().manual_seed(3)
    blocks = torch.randint(0, 4, (4, 1, 2, 2, 1), generator=generator).float()
    labels = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(2, 4)
    noise = 0.1 * torch.randn(labels.shape, generator=generator)
    return [{"image": image, "label": label} for image, label in zip(labels - 1.5 + noise, labels, strict=True)]


def small_one_shot(work_dir: Any, **changes: Any) -> OneShotSearcher:
    options = {
        "supernet": Supernet(ONE_SHOT_SPACE, partial=1),
        "space": ONE_SHOT_SPACE,
        "work_dir": str(work_dir),
        "epochs": 5,
        "annealing_epochs": 2,
        "amp": False,
    }
    loader = DataLoader(Dataset(blocks()), batch_size=2, shuffle=True, generator=torch.Generator())
    weights = Half(loader, DICE_CE, partial(torch.optim.SGD, lr=0.1, momentum=0.9))
    weights = replace(weights, **changes.pop("weights", {}))
    return OneShotSearcher(**{**options, "weights": weights, **changes})
