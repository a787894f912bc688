"""The results of a comparison: one row per network, as CSV, JSON, tables, and a scatter plot of Dice against time."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.cine import STRUCTURES
from scripts.compare.entries import Network
from scripts.compare.plan import Plan
from scripts.core.errors import CineError
from scripts.core.files import replacing
from scripts.core.json_files import read_json, write_json
from scripts.latency.table import LatencyTable
from scripts.report.comparison_figure import scatter_figure
from scripts.report.comparison_tables import everything, tables
from scripts.report.style import save_figure
from scripts.run.run_log import SCHEMA as RUN_SCHEMA
from scripts.runtime.deploy import Runtime
from scripts.search.constraint import Constraint
from scripts.space.architecture import Architecture

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-comparison-2"
Row = dict[str, Any]
_STATISTICS = ("mean", "std")
COLUMNS = (
    *("name", "system", "method", "paths"),
    *(f"dice_{name}_{statistic}" for name in (*STRUCTURES, "mean") for statistic in _STATISTICS),
    *("predicted_ms", "median_ms", "p95_ms", "volumes_per_second"),
    *("parameters", "flops", "peak_memory", "kept", "patients", "seen", "failure"),
)


def report_comparison(plan: Plan, failures: Mapping[str, str], costs: Mapping[str, Any], runtime: Runtime) -> None:
    """Write comparison.csv, comparison.json, comparison.md and figures/scatter.png into the work_dir.

    Args:
        plan: what was compared.
        failures: the networks without results, and why.
        costs: the result of ``measure_costs``.
        runtime: how networks run.
    """
    constraint, folder = plan.resolved_constraint(), Path(plan.work_dir)
    rows = [row_of(network, plan, failures, costs["networks"], constraint, runtime) for network in plan.entries]
    content = {
        "format": FORMAT,
        "constraint": asdict(constraint) if constraint else None,
        "settings": {**plan.settings, "overlays": list(plan.overlays), "overrides": dict(plan.overrides)},
        "train_epochs": plan.train_epochs,
        **{key: costs["of"][key] for key in ("device", "runtime", "deployment_size")},
        "states": costs["states"],
        "slow_only": [name for name, cost in costs["networks"].items() if not cost["fast_visits"]],
        "networks": rows,
    }
    write_json(folder / "comparison.json", content)
    with replacing(folder / "comparison.csv") as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({column: _flat(row, column) for column in COLUMNS} for row in rows)
    with replacing(folder / "comparison.md") as temporary:
        temporary.write_text(tables(content), encoding="utf-8")
    if any(row["dice"]["mean"]["mean"] is not None for row in rows):
        save_figure(scatter_figure(rows, constraint), folder / "figures" / "scatter.png")
    logger.info("In %s: comparison.md, .csv, .json and figures/scatter.png\n%s", folder, everything(content))


def row_of(
    network: Network,
    plan: Plan,
    failures: Mapping[str, str],
    costs: Mapping[str, Mapping[str, Any]],
    constraint: Constraint | None,
    runtime: Runtime,
) -> Row:
    """The known values of a network.

    Returns:
        The entries name, system, search and random; method and number of paths if it was derived; predicted_ms and the
        measured values. The entry dice has the statistics by structure and of the "mean". The entry kept says whether
        the 95th percentile and the throughput meet the constraint. The number of scored patients is in patients, and
        seen says whether its search read any of them. If there are no results, failure says why. Unknown values are
        None.
    """
    row: Row = {
        **dict.fromkeys(COLUMNS[:4] + COLUMNS[4 + 2 * (len(STRUCTURES) + 1) :]),
        **{"name": network.name, "system": network.system, "random": network.random is not None},
        "search": network.search.name if network.search is not None and network.searched else None,
        "dice": {name: dict.fromkeys(_STATISTICS) for name in (*STRUCTURES, "mean")},
        "failure": failures.get(network.name),
    }
    if network.baseline is None and network.architecture_file.exists() and row["failure"] is None:
        architecture = Architecture.load(network.architecture_file)
        row["method"], row["paths"] = architecture.provenance.method, len(architecture.paths)
        row["predicted_ms"] = _predicted_ms(network, plan, architecture, runtime)
    if row["failure"] is not None:
        return row
    metrics = read_json(network.folder / "metrics.json", METRICS_SCHEMA, "Evaluate again.")
    row["dice"] = {name: metrics["dice"][name]["all"] for name in STRUCTURES} | {"mean": metrics["dice"]["mean"]}
    row["patients"] = metrics["patients"]
    cost = costs[network.name]
    row |= {key: cost[key] for key in ("median_ms", "p95_ms", "volumes_per_second")}
    row |= {key: cost[key] for key in ("parameters", "flops", "peak_memory")}
    if constraint is not None and constraint.budget_ms != "auto":
        row["kept"] = (
            cost["p95_ms"] <= constraint.budget_ms and cost["volumes_per_second"] >= constraint.volumes_per_second
        )
    row["seen"] = _seen(network)
    return row


def _predicted_ms(network: Network, plan: Plan, architecture: Architecture, runtime: Runtime) -> float | None:
    """The prediction in its provenance; for a random network, from the latency table of its space."""
    known = architecture.provenance.predicted_ms
    if known is not None or network.search is None:
        return known
    path = Path(plan.latency_file(network.search))
    if not path.exists():
        return None
    # a table of any device: its predictions are compared with measurements here
    return LatencyTable.load(path, architecture.space, runtime, target="foreign").predict(architecture)


def _seen(network: Network) -> bool | None:
    """Whether the search read exams of patients on which the network was scored; None if unknown."""
    if not network.searched:
        return None if network.architecture is not None else False
    assert network.search is not None
    try:
        search, scored = (
            read_json(folder / "run.json", RUN_SCHEMA, "It is written by each step.", max_mib=64)["steps"][step]
            for folder, step in ((network.search.folder, "search"), (network.folder, "evaluate"))
        )
        read = {patient for part in ("weights", "architecture") for patient in search["patients"][part]}
        return bool(read & set(scored["patients"]["test"]))
    except (CineError, KeyError, TypeError):
        return None


def _flat(row: Row, column: str) -> Any:
    if column.startswith("dice_"):
        _, name, statistic = column.split("_")
        return row["dice"][name][statistic]
    return row[column]


_MEAN = {"type": "object", "required": list(_STATISTICS)}
_ALL = {"type": "object", "required": ["all"], "properties": {"all": _MEAN}}
METRICS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["patients", "dice"],
    "properties": {
        "patients": {"type": "integer"},
        "dice": {
            "type": "object",
            "required": [*STRUCTURES, "mean"],
            "properties": {**dict.fromkeys(STRUCTURES, _ALL), "mean": _MEAN},
        },
    },
}
