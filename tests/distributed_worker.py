"""The work of each of two processes in tests/core/test_distributed.py; torchrun starts them with a folder.

Every process works in its own folder RANK below that one, which shows who writes. Only the test writes ``results.pt``
there.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from conftest import table_of
from monai.data import DataLoader, Dataset, DistributedSampler
from small_search import (
    ONE_SHOT_SPACE,
    blocks,
    discrete_search,
    judge_of,
    small_loader,
    small_one_shot,
    small_search,
    small_volumes,
)

from scripts.core import distributed
from scripts.core.errors import CineError
from scripts.search.candidates import LatencyCost
from scripts.search.coarse_to_fine import search_coarse_to_fine
from scripts.search.constraint import BudgetMissed
from scripts.train import checkpoint


def shared_out(items: list[Any], noise: float = 0.5) -> Any:
    """The loader that multi_gpu_search.json makes of a loader."""
    return small_loader(items, noise, sampler=DistributedSampler(items, drop_last=True), shuffle=False)


def search(folder: Path, make: Any = small_search, noise: float = 0.5, **changes: Any) -> Any:
    data = small_volumes()
    halves = {
        "weights": {"loader": shared_out(data[:4], noise), **changes.pop("weights", {})},
        "architecture": {"loader": shared_out(data[2:], noise)},
    }
    return make(folder, **halves, **changes)


def states(searcher: Any) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in searcher.parts.items()}


def error_of(action: Any) -> str:
    """The error that an action raises."""
    try:
        action()
    except (CineError, KeyboardInterrupt) as error:
        return f"{type(error).__name__} {error}"
    return "none"


def interrupt_in_the_second(searcher: Any, at: int) -> None:
    """Send a signal in a step to only one process."""
    step, steps = searcher.weight_step, iter(range(1, 100))

    def weight_step(batch: Any) -> Any:
        if next(steps) == at and not distributed.is_main():
            signal.raise_signal(signal.SIGTERM)
        return step(batch)

    searcher.weight_step = weight_step


def one_shot(folder: Path) -> dict[str, Any]:
    """HyperSegNAS from shared weights to the architecture."""
    items = blocks()
    loader = DataLoader(Dataset(items), sampler=DistributedSampler(items, drop_last=True), generator=torch.Generator())
    searcher = small_one_shot(folder, weights={"loader": loader})
    table = table_of(ONE_SHOT_SPACE)
    chosen = search_coarse_to_fine(
        searcher,
        DataLoader(Dataset(items), batch_size=2),
        LatencyCost(table, 1000.0),
        judge_of(ONE_SHOT_SPACE, table=table, volumes_per_second=0.001),
        **{"candidates": 8, "fine_tuned": 2, "fine_tune_steps": 3},
    )
    return {**states(searcher), "chosen": chosen.digest, "measured": chosen.provenance.measured_ms}


@distributed.on_main
def missed(folder: Path) -> None:
    (folder / "main").touch()
    distributed.on_main(lambda: None)()  # inside, no process waits for another
    error = BudgetMissed("budget_ms", "5", "6", "Raise it.")
    error.excess = 1.5
    raise error


def main(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = {}
    rank = distributed.rank()

    searcher = search(folder / "plain", noise=0.0)
    searcher.run()
    results["plain"], results["history"] = states(searcher), searcher.history

    whole = search(folder / "whole")
    whole.run()
    results["whole"] = states(whole)
    broken = search(folder / "broken")
    interrupt_in_the_second(broken, at=5)
    results["interrupted"] = error_of(broken.run)
    results["steps"] = broken._begun["steps"]
    resumed = search(folder / "broken")
    resumed.run()
    results["resumed"] = states(resumed)

    discrete = search(folder / "discrete", discrete_search)
    discrete.run()
    results["discrete"] = states(discrete)

    results["one_shot"] = one_shot(folder / "one_shot")

    def nan_in_the_second(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return logits.sum() * (1.0 if distributed.is_main() else float("nan"))

    results["nan"] = error_of(search(folder / "nan", weights={"loss": nan_in_the_second}).run)

    try:
        missed(folder)
    except BudgetMissed as error:
        results["missed"] = (str(error), error.excess)

    loader = shared_out(small_volumes())
    checkpoint.seed_epoch(0, 3, [loader])
    results["order"] = list(loader.sampler)
    results["noise"] = next(iter(loader))["image"].sum().item(), torch.rand(()).item()
    norm = torch.nn.BatchNorm1d(1)
    norm(torch.full((2, 1), float(rank)))
    distributed.share_buffers(norm)
    results["running_mean"] = norm.running_mean.item()
    return results


if __name__ == "__main__":
    distributed.join(True)
    own = Path(sys.argv[1]) / str(idist.get_rank())
    own.mkdir()
    torch.save(main(own), own / "results.pt")
