"""A comparison in the form of the papers' tables, in Markdown, next to the values that the papers report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts.cine import STRUCTURES
from scripts.report.metrics_table import cell
from scripts.report.reported import (
    HW_SYSTEMS,
    PAPER_MS,
    PAPER_PER_SECOND,
    RT_METHODS,
    RT_SYSTEMS,
    Reported,
    Source,
)

Row = Mapping[str, Any]
MISSES = "†"
_HEADER = ("Network", "RV", "MYO", "LV", "Average", "LT, ms", "TP, volumes/s")


def tables(comparison: Mapping[str, Any]) -> str:
    """The document: facts, Table 1 of RT-DNAS, Table 2 of both papers, all networks, failures.

    Args:
        comparison: as in ``comparison.json``.
    """
    rows = [row for row in comparison["networks"] if row["failure"] is None]
    limit = comparison["constraint"]
    parts = ["# Comparison", _facts(comparison, rows)]
    for search in dict.fromkeys(row["search"] for row in rows if row["search"] is not None):
        derived = [row for row in rows if row["search"] == search]
        if len({row["method"] for row in derived}) > 1:
            ordered = sorted(derived, key=lambda row: (row["method"] or "", row["paths"] or 0))
            names = [f"{(row['method'] or 'other').capitalize()} (N = {row['paths']})" for row in ordered]
            parts += [f"## Derivations of the search {search}", _measured(names, ordered, limit)]
    if len(parts) > 2:
        parts.append(_reported(RT_METHODS))
    parts += ["## Best networks of each system", _best(rows, limit)]
    parts += [_reported(RT_SYSTEMS), _reported(HW_SYSTEMS), "## All networks", everything(comparison)]
    failed = [row for row in comparison["networks"] if row["failure"] is not None]
    if failed:
        parts += ["## Failed", "\n".join(f"- {row['name']}: {' '.join(row['failure'].split())}" for row in failed)]
    return "\n\n".join(parts) + "\n"


def _facts(comparison: Mapping[str, Any], rows: Sequence[Row]) -> str:
    device, runtime, limit = (comparison[key] for key in ("device", "runtime", "constraint"))
    size = "x".join(map(str, comparison["deployment_size"]))
    patients = sorted({row["patients"] for row in rows})
    scored = " or ".join(map(str, patients)) or "no"
    lines = [
        f"Measured on {device['name']} ({'SMs' if device['kind'] == 'cuda' else 'threads'}: {device['units']}), "
        f"{runtime['backend']} {runtime['dtype']}, volumes of {size}, batch 1, side by side in one run.",
        f"Each was trained for {comparison['train_epochs']} epochs. Dice is the mean ± standard deviation over the "
        f"exams of {scored} patients, fold {comparison['settings']['fold']} of {comparison['settings']['folds']}.",
        "LT is the median latency (95th percentile), TP 1000 / mean latency, in the device's fast state.",
    ]
    if states := comparison["states"]:
        lines.append(
            f"The device was in that state at {states['fast_share']:.0%} of the visits; in slower states a reference "
            f"network took {states['slowdown']:.2f} times as long."
        )
    if comparison["slow_only"]:
        lines.append(f"**Never timed in the fast state: {', '.join(comparison['slow_only'])}**. Measure these again.")
    if limit:
        lines.append(
            f"{MISSES} misses the constraint: a 95th percentile of at most {limit['budget_ms']:g} ms, at least "
            f"{limit['volumes_per_second']:g} volumes a second."
        )
    return "\n".join(lines)


def best_of_each_system(rows: Iterable[Row]) -> list[Row]:
    """For each system, the network with the highest mean Dice, and the best one that meets the constraint.

    Both may be the same. Systems are in the order of their first network.
    """
    systems: dict[str, list[Row]] = {}
    for row in rows:
        if row["dice"]["mean"]["mean"] is not None:
            systems.setdefault(row["system"], []).append(row)
    best: list[Row] = []
    for members in systems.values():
        for among in ([row for row in members if row["kept"]], members):
            found = max(among, key=lambda row: row["dice"]["mean"]["mean"], default=None)
            if found is not None and found not in best:
                best.append(found)
    return best


def _best(rows: Sequence[Row], limit: Mapping[str, float] | None) -> str:
    best = best_of_each_system(rows)
    return _measured([row["name"] for row in best], best, limit)


def _measured(names: Sequence[str], rows: Sequence[Row], limit: Mapping[str, float] | None) -> str:
    return markdown(
        _HEADER,
        [
            (name, *(cell(row["dice"][key], 3) for key in (*STRUCTURES, "mean")), *_times(row, limit))
            for name, row in zip(names, rows, strict=True)
        ],
    )


def _times(row: Row, limit: Mapping[str, float] | None) -> tuple[str, str]:
    late = limit is not None and row["p95_ms"] > limit["budget_ms"]
    slow = limit is not None and row["volumes_per_second"] < limit["volumes_per_second"]
    return (
        _marked(f"{row['median_ms']:.2f} ({row['p95_ms']:.2f})", late),
        _marked(f"{row['volumes_per_second']:.1f}", slow),
    )


def _marked(text: str, misses: bool) -> str:
    return f"**{text}** {MISSES}" if misses else text


def _reported(source: Source) -> str:
    """A paper's table; the averages are computed from its columns."""
    title = (
        f"**Reported** by {source.title}, on {source.device}, {source.data}; not measured here. "
        f"{MISSES}: above {PAPER_MS:g} ms or below {PAPER_PER_SECOND:g}/s."
    )
    return f"{title}\n\n{markdown(_HEADER, list(map(_reported_row, source.rows)))}"


def _reported_row(row: Reported) -> tuple[str, ...]:
    dice = [f"{mean:.3f} ± {std:.3f}" for mean, std in (row.rv, row.myo, row.lv)]
    return (
        *(f"{row.name}, reported", *dice, f"{row.mean:.3f}"),
        _marked(f"{row.ms:g}", row.ms > PAPER_MS),
        _marked(f"{row.volumes_per_second:.1f}", row.volumes_per_second < PAPER_PER_SECOND),
    )


def everything(comparison: Mapping[str, Any]) -> str:
    """One table of all networks with their costs; for the arguments see ``tables``."""
    rows, limit = [row for row in comparison["networks"] if row["failure"] is None], comparison["constraint"]
    header = (
        *("Network", "System", "Average Dice", "predicted, ms", "LT, ms", "TP, volumes/s"),
        *("parameters", "GFLOPs", "peak memory, MiB", "real time", "exams seen"),
    )
    answers = {True: "yes", False: "no", None: "?"}
    lines = [
        (
            *(row["name"], row["system"], cell(row["dice"]["mean"], 3)),
            "-" if row["predicted_ms"] is None else f"{row['predicted_ms']:.2f}",
            *_times(row, limit),
            f"{row['parameters']:,}",
            f"{row['flops'] / 1e9:.2f}",
            f"{row['peak_memory'] / 2**20:.1f}",
            *(answers[row["kept"]], answers[row["seen"]]),
        )
        for row in rows
    ]
    note = (
        "A multiply-add counts as two operations. Peak memory: weights, and the largest set of tensors in memory "
        "in one inference. Exams seen: whether the search read exams of the scored patients."
    )
    return f"{markdown(header, lines)}\n\n{note}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with names aligned left and figures aligned right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))
