"""Rows of a comparison in the form of ``comparison.row_of``."""

from __future__ import annotations

from typing import Any


def row(name: str, system: str = "RT", dice: float | None = 0.8, ms: float = 20.0, **others: Any) -> dict[str, Any]:
    """A network with a 95th percentile 10 % above its median, within 50 ms and 22 volumes per second."""
    statistics = {"mean": dice, "std": None if dice is None else 0.0125}
    known = {
        **{"name": name, "system": system, "search": None, "method": None, "paths": None, "random": False},
        "dice": {key: statistics for key in ("RV", "MYO", "LV", "mean")},
        **{"predicted_ms": None, "median_ms": ms, "p95_ms": 1.1 * ms, "volumes_per_second": 1000 / ms},
        **{"parameters": 12345, "flops": 6_789_000_000, "peak_memory": 3 * 2**20},
        **{"kept": 1.1 * ms <= 50 and 1000 / ms >= 22, "patients": 4, "seen": False, "failure": None},
    }
    return {**known, **others}


def comparison(*rows: dict[str, Any]) -> dict[str, Any]:
    """The content of comparison.json."""
    return {
        "constraint": {"budget_ms": 50.0, "volumes_per_second": 22.0},
        "settings": {"fold": 0, "folds": 5},
        "train_epochs": 30,
        "device": {"kind": "cpu", "name": "a processor", "units": 2},
        "runtime": {"backend": "eager", "dtype": "float32"},
        "deployment_size": [128, 112, 20],
        "slow_only": [],
        "states": {"reference_ms": 12.0, "fast_share": 0.75, "slowdown": 1.334},
        "networks": list(rows),
    }
