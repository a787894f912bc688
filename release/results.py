"""The tables of an evaluation as bundle/docs/results.md shows them: ``python -m release.results WORK_DIR``.

Dice by structure, phase, group and level, volumes and EF against the reference, and, where the step evaluate ran with
evaluate_degraded.json too, Dice under each simulated degradation.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from release.eval_metrics import ACTION, SCHEMA
from scripts.cine import STRUCTURES
from scripts.entry import report
from scripts.files import read_json
from scripts.report.agreement import MEASURES
from scripts.report.comparison_tables import markdown

COLUMNS = (*STRUCTURES, "mean")


def tables(work_dir: str | Path) -> str:
    """All tables of an evaluation, in Markdown.

    Raises:
        CineError: metrics.json is missing, or is not what the step evaluate wrote.
    """
    work_dir = Path(work_dir)
    metrics = _read(work_dir)
    parts = [_dice(metrics), _parts_of_the_exams(metrics)]
    if metrics["function"]["patients"]:
        parts.append(_agreement(metrics["function"]["agreement"]))
    degraded = [_read(path.parent) for path in sorted(work_dir.glob("degraded/*/metrics.json"))]
    if degraded:
        parts.append(_degradations(metrics, degraded))
    return "\n\n".join(parts)


def _read(folder: Path) -> dict[str, Any]:
    return read_json(folder / "metrics.json", SCHEMA, ACTION)


def _dice(metrics: Mapping[str, Any]) -> str:
    phases = list(metrics["dice"]["RV"])
    header = (f"{metrics['patients']} exams", *(f"Dice, {phase}" for phase in phases), "HD95, mm")
    rows = [
        (
            name,
            *(_text(metrics["dice"][name][phase], 3) for phase in phases),
            _text(metrics["hd95_mm"][name]["all"], 1),
        )
        for name in STRUCTURES
    ]
    return markdown(header, rows) + f"\n\nMean Dice {_text(metrics['dice']['mean'], 3)}."


def _parts_of_the_exams(metrics: Mapping[str, Any]) -> str:
    rows = [
        (f"{kind} {name}", *(_text(found[column]["all"], 3) for column in COLUMNS))
        for kind, of_kind in (("group", metrics["dice_by_group"]), ("level", metrics["dice_by_level"]))
        for name, found in of_kind.items()
    ]
    return markdown(("Dice", *COLUMNS), rows)


def _agreement(agreements: Mapping[str, Any]) -> str:
    rows = []
    for measure, name in MEASURES.items():
        found = agreements[measure]
        limits, together = found["limits"], found["correlation"]
        rows.append(
            (
                name,
                _text({"mean": found["mean_error"], "std": found["std"]}, 1),
                "-" if limits is None else f"{limits[0]:.1f} to {limits[1]:.1f}",
                "-" if together is None else f"{together:.3f}",
                str(found["count"]),
            )
        )
    return markdown(("measure", "mean error", "limits of agreement", "correlation", "exams"), rows)


def _degradations(clean: Mapping[str, Any], degraded: list[dict[str, Any]]) -> str:
    rows = []
    for metrics in (clean, *degraded):
        kind = metrics.get("degradation", {"kind": "none", "severity": 0})
        dice = [_text(metrics["dice"][name]["all"], 3) for name in STRUCTURES]
        rows.append((f"{kind['kind']} {kind['severity']:g}", *dice, _text(metrics["dice"]["mean"], 3)))
    return markdown(("degradation", *COLUMNS), rows)


def _text(statistics: Mapping[str, float | None], digits: int) -> str:
    if statistics["mean"] is None:
        return "-"
    spread = "" if statistics["std"] is None else f" ± {statistics['std']:.{digits}f}"
    return f"{statistics['mean']:.{digits}f}{spread}"


if __name__ == "__main__":
    sys.excepthook = report
    sys.stdout.write(f"{tables(sys.argv[1])}\n")
