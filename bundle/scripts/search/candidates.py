"""Candidate architectures with shared weights: sampled under a constraint, evaluated, fine-tuned (HyperSegNAS 3.2)."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from tqdm import tqdm

from scripts.core.distributed import on_main
from scripts.core.errors import CineError
from scripts.core.json_files import read_json, write_json
from scripts.latency.table import LatencyTable
from scripts.search.memory import measured_step_memory
from scripts.space.architecture import Architecture
from scripts.space.sampling import random_architecture
from scripts.space.space import Space

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-candidates-1"
TRIES = 1000  # the number of tries for each candidate
SECONDS = 10.0  # between two saves of the file


@dataclass(frozen=True)
class Candidate:
    """An architecture that meets the constraint, and what is known about it.

    Args:
        architecture: the architecture.
        cost: its predicted latency in ms, or the MiB of a training step.
        dice: mean Dice of RV, MYO and LV with the shared weights, None while it is unknown.
        fine_tuned_dice: the same after its own fine-tuning.
        scratch_dice: the same after training from scratch.
    """

    architecture: Architecture
    cost: float
    dice: float | None = None
    fine_tuned_dice: float | None = None
    scratch_dice: float | None = None


class LatencyCost:
    """The predicted latency of candidates in ms, and the budget for it.

    Args:
        table: the latency table.
        budget_ms: the upper limit; "auto" is the median of random architectures, so that it matters on any device.
    """

    unit = "ms"

    def __init__(self, table: LatencyTable, budget_ms: float | str):
        self.table, self.most = table, budget_ms

    def resolved(self, space: Space, seed: int) -> float:
        if not isinstance(self.most, str):
            return self.most
        costs = sorted(self(random_architecture(space, Random(f"{seed} {i}"))) for i in range(201))
        return round(costs[len(costs) // 2], 2)

    def __call__(self, architecture: Architecture) -> float:
        return self.table.predict(architecture)


class MemoryCost:
    """The peak memory of a training step of a candidate, measured, in MiB.

    Args:
        max_mib: the upper limit.
        batch_size, patch_size: batch size and patch size (H W D in voxels) of the step.
        device: where the step is measured.
    """

    unit = "MiB"

    def __init__(self, max_mib: float, batch_size: int, patch_size: list[int], device: str | torch.device = "cpu"):
        self.most, self.batch_size, self.patch_size, self.device = max_mib, batch_size, patch_size, device

    def resolved(self, space: Space, seed: int) -> float:
        del space, seed
        return self.most

    def __call__(self, architecture: Architecture) -> float:
        return measured_step_memory(architecture, self.batch_size, self.patch_size, self.device) / 2**20


class CandidateFile:
    """``search/candidates.json``: the candidates and their values, saved as they become known.

    Args:
        path: the file.
        identity: what a resumed run must share. A file with another identity is replaced, since other weights or
            constraints lead to other candidates.
    """

    def __init__(self, path: Path, identity: dict[str, Any]):
        self.path, self.identity = path, json.loads(json.dumps(identity))  # in the form in which JSON returns it
        self._written = 0.0

    def load(self, space: Space) -> list[Candidate]:
        """The candidates in the file; an empty list if there is no file or it belongs to another run."""
        if not self.path.exists():
            return []
        content = read_json(self.path, SCHEMA, "Delete it to sample again.", max_mib=256)
        if content["identity"] != self.identity:
            return []
        candidates = []
        for entry in content["candidates"]:
            cells = {name: tuple((j, o) for j, o in nodes) for name, nodes in entry.pop("cells").items()}
            try:
                paths = tuple(space.trellis.check_path(path) for path in entry.pop("paths"))
            except ValueError as error:
                raise CineError(self.path, str(error), "paths of the trellis", "Delete it to sample again.") from None
            candidates.append(Candidate(Architecture(space, cells, paths), **entry))
        return candidates

    @on_main
    def save(self, candidates: Iterable[Candidate], now: bool = False) -> None:
        """Save the file, but only once every few seconds unless ``now``."""
        if not now and time.monotonic() - self._written < SECONDS:
            return
        entries = []
        for candidate in candidates:
            entry = {**asdict(replace(candidate, architecture=None))}  # type: ignore[arg-type]
            del entry["architecture"]
            architecture = candidate.architecture
            entries.append({"cells": dict(architecture.cells), "paths": [list(p) for p in architecture.paths], **entry})
        write_json(self.path, {"format": FORMAT, "identity": self.identity, "candidates": entries})
        self._written = time.monotonic()


def sample(space: Space, count: int, cost: LatencyCost | MemoryCost, limit: float, seed: int) -> list[Candidate]:
    """Distinct random architectures with a cost of at most ``limit``.

    If fewer than one in a thousand meets the limit, there are fewer candidates than requested, with a warning.

    Raises:
        CineError: none of a thousand meets it; the message gives the lowest cost found.
    """
    candidates: dict[str, Candidate] = {}
    lowest = float("inf")
    with tqdm(total=count, desc="candidates", unit="architecture") as bar:
        for i in range(TRIES * count):
            architecture = random_architecture(space, Random(f"{seed} {i}"))
            if architecture.digest in candidates:
                continue
            value = cost(architecture)
            lowest = min(lowest, value)
            if value <= limit:
                candidates[architecture.digest] = Candidate(architecture, value)
                bar.update()
            if len(candidates) == count or i + 1 >= TRIES * (1 + len(candidates)):
                break
    if not candidates:
        found = f"{limit:.2f} {cost.unit}, which none of {TRIES} random architectures meets"
        raise CineError("budget", found, f"at least {lowest:.2f}", "Raise it, or search a smaller space.")
    if len(candidates) < count:
        logger.warning("Only %d of %d candidates meet %.2f %s", len(candidates), count, limit, cost.unit)
    return list(candidates.values())


_DICE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "identity", "candidates"],
    "properties": {
        "format": {"const": FORMAT},
        "identity": {"type": "object"},
        "candidates": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["cells", "paths", "cost", "dice", "fine_tuned_dice", "scratch_dice"],
                "additionalProperties": False,
                "properties": {
                    "cells": {"type": "object", "additionalProperties": {"type": "array", "maxItems": 16}},
                    "paths": {"type": "array", "minItems": 1, "items": {"type": "array", "items": {"type": "integer"}}},
                    "cost": {"type": "number"},
                    **dict.fromkeys(("dice", "fine_tuned_dice", "scratch_dice"), _DICE),
                },
            },
        },
    },
}
