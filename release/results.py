"""The tables of an evaluation for bundle/docs/results.md: ``python -m release.results WORK_DIR``.

They show Dice by structure, phase, patient, group and level, missing labels, and volumes and EF compared with the
reference. If the step evaluate also ran with evaluate_degraded.json, they show Dice under each degradation. If it ran
with evaluate_variants.json, they show Dice by storage order, for rotated exams, and for few slices.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from release.eval_metrics import ACTION, VARIANTS
from scripts.cine import STRUCTURES
from scripts.core.json_files import read_json
from scripts.report.agreement import MEASURES, agreement_cells
from scripts.report.comparison_tables import markdown
from scripts.report.metrics_table import cell, missing_labels
from scripts.report.variants import format_variants
from scripts.run.start import report

COLUMNS = (*STRUCTURES, "mean")
KEYS = ("patients", "dice", "hd95_mm", "dice_by_group", "dice_by_level", "function")
METRICS = {"type": "object", "required": list(KEYS), "properties": {key: {"type": "object"} for key in KEYS[1:]}}
LOWEST = 3


def tables(work_dir: str | Path) -> str:
    """All tables of an evaluation, in Markdown.

    Raises:
        CineError: metrics.json is missing, or is not from the step evaluate.
    """
    work_dir = Path(work_dir)
    metrics = _read(work_dir)
    parts = [f"{_dice(metrics)} {_patients(work_dir)}", *missing_labels(metrics), _parts_of_the_exams(metrics)]
    if metrics["function"]["patients"]:
        parts.append(_agreement(metrics["function"]["agreement"]))
    degraded = [_read(path.parent) for path in sorted(work_dir.glob("degraded/*/metrics.json"))]
    if degraded:
        parts.append(_degradations(metrics, degraded))
    variants = work_dir / "variants" / "variants.json"
    if variants.exists():
        parts.append(format_variants(read_json(variants, VARIANTS, ACTION)["dice"]))
    return "\n\n".join(parts)


def _read(folder: Path) -> dict[str, Any]:
    return read_json(folder / "metrics.json", METRICS, ACTION)


def _dice(metrics: Mapping[str, Any]) -> str:
    phases = list(metrics["dice"]["RV"])
    header = (f"{metrics['patients']} exams", *(f"Dice, {phase}" for phase in phases), "HD95, mm")
    rows = [
        (
            name,
            *(cell(metrics["dice"][name][phase], 3) for phase in phases),
            cell(metrics["hd95_mm"][name]["all"], 1),
        )
        for name in STRUCTURES
    ]
    return markdown(header, rows) + f"\n\nMean Dice {cell(metrics['dice']['mean'], 3)}."


def _patients(folder: Path) -> str:
    """How much the patients differ: standard error of their means, the median, and the lowest ones."""
    dice: dict[str, list[float]] = {}
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["dice"]:  # empty if a structure is absent from mask and reference
                dice.setdefault(row["patient"], []).append(float(row["dice"]))
    means = {patient: statistics.fmean(values) for patient, values in dice.items()}
    error = statistics.stdev(means.values()) / len(means) ** 0.5
    lowest = ", ".join(f"{patient} {means[patient]:.3f}" for patient in sorted(means, key=means.__getitem__)[:LOWEST])
    return f"By patient: standard error {error:.3f}, median {statistics.median(means.values()):.3f}; lowest: {lowest}."


def _parts_of_the_exams(metrics: Mapping[str, Any]) -> str:
    rows = [
        (f"{kind} {name}", *(cell(found[column]["all"], 3) for column in COLUMNS))
        for kind, of_kind in (("group", metrics["dice_by_group"]), ("level", metrics["dice_by_level"]))
        for name, found in of_kind.items()
    ]
    return markdown(("Dice", *COLUMNS), rows)


def _agreement(agreements: Mapping[str, Any]) -> str:
    rows = [
        (name, *agreement_cells(agreements[measure]), str(agreements[measure]["count"]))
        for measure, name in MEASURES.items()
    ]
    return markdown(("measure", "mean error", "limits of agreement", "correlation", "exams"), rows)


def _degradations(clean: Mapping[str, Any], degraded: list[dict[str, Any]]) -> str:
    rows = []
    for metrics in (clean, *degraded):
        kind = metrics.get("degradation", {"kind": "none", "severity": 0})
        dice = [cell(metrics["dice"][name]["all"], 3) for name in STRUCTURES]
        rows.append((f"{kind['kind']} {kind['severity']:g}", *dice, cell(metrics["dice"]["mean"], 3)))
    return markdown(("degradation", *COLUMNS), rows)


if __name__ == "__main__":
    sys.excepthook = report
    sys.stdout.write(f"{tables(sys.argv[1])}\n")
