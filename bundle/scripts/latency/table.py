"""LatencyTable: the latency in ms of every operation at every scale, on one device with its runtime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.core.errors import CineError
from scripts.core.json_files import read_json, write_json
from scripts.latency.counts import (
    REPEATED,
    SPACE_KEYS,
    Key,
    counts_of,
    ends_of,
    key_of,
    keys_of,
    merges_of,
    repeats_of,
)
from scripts.latency.timer import Timing
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.space.architecture import Architecture
from scripts.space.registry import POOLING, ZERO
from scripts.space.space import Space
from scripts.space.trellis import Cell
from scripts.space.trellis import Path as TrellisPath

FORMAT = "rtdnas-latency-4"
ACTION = "Measure again: python -m monai.bundle run profile --config_file .../profile.json, with the same overlays."
COPY = "Copy the latency.json that the step profile wrote on the target device to this path."


@dataclass(frozen=True)
class Entry:
    """The latency of one operation at one scale.

    Args:
        ms: its share of a whole network's latency, fitted to measured networks.
        isolated: its timing outside a network, the prior of that fit.
    """

    ms: float
    isolated: Timing


@dataclass(frozen=True)
class LatencyTable:
    """Additive latencies: the latency of a network is the sum of its entries.

    Args:
        entries: the latency of each (operation, scale); S_cell has the key ("scaling_" + kind, source scale).
        space: the settings of the space that latency depends on.
        device: the device's description.
        runtime: the runtime's description.
        calibration: the number of measured networks, the table's error on held-out networks, the states of
            the device, and the result of measuring twice; empty if the entries are isolated timings.
        foreign: whether it was measured on another device; then predictions cannot be verified here.
    """

    entries: Mapping[Key, Entry]
    space: Mapping[str, Any]
    device: Mapping[str, Any]
    runtime: Mapping[str, Any]
    calibration: Mapping[str, Any] = field(default_factory=dict)
    foreign: bool = False

    def __getitem__(self, key: Key) -> float:
        """ms of one entry."""
        return self.entries[key].ms

    def ends(self, paths: Iterable[TrellisPath]) -> float:
        """ms of the stems and heads of some paths."""
        return sum(count * self[key] for key, count in ends_of(paths).items())

    def scaling(self, cell: Cell) -> float:
        """S_cell of RT-DNAS Eq. 4 in ms; a skip edge has none."""
        return 0.0 if cell.skip else self[f"scaling_{cell.kind}", cell.source]

    def operation(self, name: str, scale: int, reads: int = 0) -> float:
        """ms of a candidate operation at its scale; ``reads`` is the node that it reads, 0 the cell's input."""
        return 0.0 if name == ZERO else self[key_of(name, scale, reads)]

    def repeat(self, scale: int) -> float:
        """The extra ms of a repeated operation compared with the first time; 0 if the space has no such operation."""
        key = POOLING + REPEATED, scale
        return self[key] - self[POOLING, scale] if key in self.entries else 0.0

    def cell(self, cell: Cell, architecture: Architecture) -> float:
        """ms of a decoded cell: its operations and its scaling operation."""
        scale = architecture.space.operation_scale(cell)
        nodes_ms = sum(self.operation(name, scale, j) for j, name in architecture.nodes_of(cell))
        return nodes_ms + self.scaling(cell)

    def merges(self, cells: Iterable[Cell]) -> float:
        """ms of the sums at tiles where several of these cells end."""
        return sum(count * self[key] for key, count in merges_of(cells).items())

    def repeats(self, architecture: Architecture, cells: Iterable[Cell]) -> float:
        """The extra ms of operations that these cells repeat, compared with their entries."""
        return sum(count * self.repeat(scale) for scale, count in repeats_of(architecture, cells).items())

    def predict(self, architecture: Architecture) -> float:
        """ms of a network: stems, heads, the union of its paths' cells, their sums and repeated operations."""
        return sum(count * self[key] for key, count in counts_of(architecture).items())

    @property
    def digest(self) -> str:
        """SHA-256 of the entries, for files that depend on them."""
        entries = sorted((name, scale, entry.ms) for (name, scale), entry in self.entries.items())
        return hashlib.sha256(json.dumps(entries).encode()).hexdigest()

    def rows(self) -> list[tuple[str, int, Entry]]:
        """Entries sorted by latency, slowest first."""
        return sorted(((*key, entry) for key, entry in self.entries.items()), key=lambda row: -row[2].ms)

    def save(self, path: str | Path) -> None:
        entries = [
            {"operation": name, "scale": scale, "ms": entry.ms, **asdict(entry.isolated)}
            for name, scale, entry in self.rows()
        ]
        described = {name: dict(getattr(self, name)) for name in ("device", "runtime", "space", "calibration")}
        write_json(path, {"format": FORMAT, **described, "entries": entries})

    @classmethod
    def load(cls, path: str | Path, space: Space, runtime: Runtime, target: str = "here") -> LatencyTable:
        """Read a table.

        Args:
            path: the file.
            space: the expected space.
            runtime: the expected runtime.
            target: "here": the table must be of this device and runtime. "foreign": of any device; latencies are then
                predicted, not measured.

        Raises:
            CineError: the file is damaged, or was measured for another space, size, device or runtime.
        """
        if target not in ("here", "foreign"):
            raise CineError("target", repr(target), "here or foreign", "Change the key.")
        content = read_json(path, SCHEMA, COPY if target == "foreign" else ACTION)
        entries = {}
        for entry in content["entries"]:
            key = entry.pop("operation"), entry.pop("scale")
            entries[key] = Entry(entry.pop("ms"), Timing(**entry))
        device, here = describe_device(runtime.device), runtime.describe()
        _compare(path, "space", content["space"], relevant(space), ACTION)
        foreign = target == "foreign" and (content["device"] != device or content["runtime"] != here)
        if not foreign:
            action = f"{ACTION} To search here for that device, add --target foreign."
            _compare(path, "device", content["device"], device, action)
            _compare(path, "runtime", content["runtime"], here, f"{action} Or choose its --backend.")
        if len(entries) < len(content["entries"]):
            raise CineError(f"{path}, field entries", "the same operation and scale twice", "each only once", ACTION)
        missing = keys_of(space) - entries.keys()
        if missing:
            raise CineError(f"{path}, field entries", f"no entry for {sorted(missing)}", "all entries", ACTION)
        if not any(entry.ms for entry in entries.values()):
            raise CineError(f"{path}, field entries", "0 ms for all", "times above 0", ACTION)
        return cls(entries, content["space"], content["device"], content["runtime"], content["calibration"], foreign)


def _compare(path: str | Path, field: str, found: dict[str, Any], expected: dict[str, Any], action: str) -> None:
    for name, value in expected.items():
        if found.get(name) != value:
            raise CineError(f"{path}, field {field}#{name}", repr(found.get(name)), repr(value), action)


def relevant(space: Space) -> dict[str, Any]:
    """The settings of a space that latency depends on."""
    return {key: list(v) if isinstance(v := getattr(space, key), tuple) else v for key in SPACE_KEYS}


_ms = {"type": "number", "minimum": 0, "maximum": 1e6}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "device", "runtime", "space", "calibration", "entries"],
    "properties": {
        "format": {"const": FORMAT},
        "device": {"type": "object"},
        "runtime": {"type": "object"},
        "space": {"type": "object", "required": list(SPACE_KEYS)},
        "calibration": {"type": "object"},
        "entries": {
            "type": "array",
            "maxItems": 1000,
            "items": {
                "type": "object",
                "required": ["operation", "scale", "ms", "median_ms", "mean_ms", "p95_ms", "iqr_ms", "runs"],
                "additionalProperties": False,
                "properties": {
                    "operation": {"type": "string", "maxLength": 64},
                    "scale": {"type": "integer", "minimum": 0, "maximum": 7},
                    **dict.fromkeys(("ms", "median_ms", "mean_ms", "p95_ms", "iqr_ms"), _ms),
                    "runs": {"type": "integer", "minimum": 1},
                },
            },
        },
    },
}
