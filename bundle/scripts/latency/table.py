"""LatencyTable: the measured ms of every operation at every scale, on one device, in its runtime."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from scripts.files import CineError, read_json, write_json
from scripts.latency.timer import Timing, time_call
from scripts.runtime.deploy import Runtime, describe_device
from scripts.space.architecture import OPERATIONS, Architecture, Node, Space
from scripts.space.network import Head, Stem
from scripts.space.operations import Scaling, build_operation
from scripts.space.trellis import KINDS, Cell, Kind

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-latency-1"
ROUNDS = 3
ACTION = "Measure anew: python -m monai.bundle run profile --config_file .../profile.json, with the same overlays."
_SPACE_KEYS = ("scales", "nodes", "channels", "stem_stride", "deployment_size")
Key = tuple[str, int]  # (operation or "scaling_" + kind, or "stem" or "head"; the scale at which it runs)


@dataclass(frozen=True)
class LatencyTable:
    """Measured latencies.

    Args:
        entries: the timing of each (operation, scale); S_cell is keyed ("scaling_" + kind, source scale).
        space: the keys of the space that a latency depends on.
        device: the device's description.
        runtime: the runtime's description.
    """

    entries: Mapping[Key, Timing]
    space: Mapping[str, Any]
    device: Mapping[str, Any]
    runtime: Mapping[str, Any]

    def __getitem__(self, key: Key) -> float:
        """Median ms of one entry."""
        return self.entries[key].median_ms

    @property
    def fixed(self) -> float:
        """ms of stem and head, which every network has."""
        return self["stem", 0] + self["head", 0]

    def scaling(self, cell: Cell) -> float:
        """S_cell of RT-DNAS Eq. 4 in ms."""
        return self[f"scaling_{cell.kind}", cell.source]

    def cell(self, cell: Cell, nodes: tuple[Node, ...]) -> float:
        """ms of a decoded cell: its operations at the source scale, and its scaling operation."""
        return sum(self[name, cell.source] for _, name in nodes) + self.scaling(cell)

    def predict(self, architecture: Architecture) -> float:
        """ms of a network: stem, head and the union of its paths' cells."""
        return self.fixed + sum(self.cell(cell, architecture.cells[cell.kind]) for cell in architecture.union)

    @property
    def digest(self) -> str:
        """SHA-256 of the measured entries, for files that depend on them."""
        entries = sorted((name, scale, timing.median_ms) for (name, scale), timing in self.entries.items())
        return hashlib.sha256(json.dumps(entries).encode()).hexdigest()

    def rows(self) -> list[tuple[str, int, Timing]]:
        """Entries sorted by cost, dearest first."""
        return sorted(((*key, timing) for key, timing in self.entries.items()), key=lambda row: -row[2].median_ms)

    def save(self, path: str | Path) -> None:
        entries = [{"operation": name, "scale": scale, **asdict(timing)} for name, scale, timing in self.rows()]
        described = {"device": dict(self.device), "runtime": dict(self.runtime), "space": dict(self.space)}
        write_json(path, {"format": FORMAT, **described, "entries": entries})

    @classmethod
    def load(cls, path: str | Path, space: Space, runtime: Runtime) -> LatencyTable:
        """Read a table; CineError where it is broken or was measured for another space, size or device."""
        content = read_json(path, SCHEMA, ACTION)
        entries = {}
        for entry in content["entries"]:
            key = entry.pop("operation"), entry.pop("scale")
            entries[key] = Timing(**entry)
        table = cls(entries, content["space"], content["device"], content["runtime"])
        for field, found, expected in (
            ("space", dict(table.space), _relevant(space)),
            ("device", dict(table.device), describe_device(runtime.device)),
            ("runtime", dict(table.runtime), runtime.describe()),
        ):
            for name, value in expected.items():
                if found.get(name) != value:
                    raise CineError(f"{path}, field {field}#{name}", repr(found.get(name)), repr(value), ACTION)
        missing = keys_of(space) - entries.keys()
        if missing:
            raise CineError(f"{path}, field entries", f"no entry for {sorted(missing)}", "all entries", ACTION)
        return table


def _relevant(space: Space) -> dict[str, Any]:
    return {key: list(v) if isinstance(v := getattr(space, key), tuple) else v for key in _SPACE_KEYS}


def keys_of(space: Space) -> set[Key]:
    """The entries that a space needs."""
    cells = space.trellis.cells
    keys: set[Key] = {("stem", 0), ("head", 0)}
    keys |= {(f"scaling_{cell.kind}", cell.source) for cell in cells}
    return keys | {(name, cell.source) for cell in cells for name in space.operations}


def _build(key: Key, space: Space) -> tuple[nn.Module, torch.Tensor]:
    """The module of an entry and an input of the shape that it reads at deployment."""
    name, scale = key
    width, size = space.width(scale), space.size(scale)
    if name == "stem":
        return Stem(1, space), torch.randn(1, 1, *space.deployment_size)
    if name == "head":
        return Head(space, 4), torch.randn(1, width, *size)
    if name in OPERATIONS:
        return build_operation(name, width), torch.randn(1, width, *size)
    kind: Kind = next(kind for kind in KINDS if name == f"scaling_{kind}")
    target = scale + 1 - KINDS.index(kind)
    return Scaling(kind, space.nodes * width, space.width(target)), torch.randn(1, space.nodes * width, *size)


def measure(space: Space, runtime: Runtime, seconds_per_entry: float = 0.3) -> LatencyTable:
    """Time every entry of a space in the runtime that deploys, with a progress bar.

    Three rounds over all entries, each entry keeping its least disturbed one: a neighbour that takes a core for
    some seconds makes operations tens of times slower, but hardly in all rounds.
    """
    entries: dict[Key, Timing] = {}
    for key in tqdm(sorted(keys_of(space)) * ROUNDS, desc="profile", unit="timing"):
        module, x_BCHWD = _build(key, space)
        deployed, x_BCHWD = runtime.prepare(module), runtime.place(x_BCHWD)
        timing = time_call(partial(deployed, x_BCHWD), seconds_per_entry / ROUNDS)
        if key not in entries or timing.median_ms < entries[key].median_ms:
            entries[key] = timing
    return LatencyTable(entries, _relevant(space), describe_device(runtime.device), runtime.describe())


def load_or_measure(path: str | Path, space: Space, runtime: Runtime, seconds_per_entry: float = 0.3) -> LatencyTable:
    """The table at ``path`` where there is one that fits, else a new measurement, saved there."""
    if Path(path).exists():
        return LatencyTable.load(path, space, runtime)
    table = measure(space, runtime, seconds_per_entry)
    table.save(path)
    return table


def profile(path: str | Path, space: Space, runtime: Runtime, seconds_per_entry: float = 0.3) -> None:
    """Measure anew, save, and log the table sorted by cost."""
    table = measure(space, runtime, seconds_per_entry)
    table.save(path)
    lines = [f"{'operation':24}{'scale':>6}{'median ms':>12}{'p95 ms':>10}{'spread ms':>11}{'runs':>6}"]
    lines += [
        f"{name:24}{scale:6}{timing.median_ms:12.3f}{timing.p95_ms:10.3f}{timing.iqr_ms:11.3f}{timing.runs:6}"
        for name, scale, timing in table.rows()
    ]
    logger.info("Latency of %s on %s, saved as %s\n%s", table.runtime, table.device, path, "\n".join(lines))


_positive = {"type": "number", "exclusiveMinimum": 0}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "device", "runtime", "space", "entries"],
    "properties": {
        "format": {"const": FORMAT},
        "device": {"type": "object"},
        "runtime": {"type": "object"},
        "space": {"type": "object", "required": list(_SPACE_KEYS)},
        "entries": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["operation", "scale", "median_ms", "mean_ms", "p95_ms", "iqr_ms", "runs"],
                "additionalProperties": False,
                "properties": {
                    "operation": {"type": "string"},
                    "scale": {"type": "integer", "minimum": 0},
                    "median_ms": _positive,
                    "mean_ms": _positive,
                    "p95_ms": _positive,
                    "iqr_ms": {"type": "number", "minimum": 0},
                    "runs": {"type": "integer", "minimum": 1},
                },
            },
        },
    },
}
