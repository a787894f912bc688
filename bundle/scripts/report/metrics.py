"""Dice, Hausdorff distance and volumes of every exam, as a table and in summary."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import affine_to_spacing
from monai.metrics import compute_dice, compute_hausdorff_distance
from monai.networks.utils import one_hot

from scripts.cine import STRUCTURES
from scripts.cine.function import volume_ml
from scripts.files import replacing, write_json
from scripts.report.style import save_figure
from scripts.report.training_figures import dice_box_figure

logger = logging.getLogger(__name__)

COLUMNS = ("patient", "group", "phase", "structure", "dice", "hd95_mm", "volume_ml", "reference_ml")
Row = dict[str, Any]


def measure_exam(pred_HWD: torch.Tensor, label_HWD: torch.Tensor, spacing_mm: tuple[float, ...]) -> list[Row]:
    """One row a structure: dice, hd95_mm, volume_ml, reference_ml.

    Dice and distance are None where the structure is absent from both; absent from one, Dice is 0 and the
    distance None.

    Args:
        pred_HWD, label_HWD: labels on the original grid.
        spacing_mm: voxel size.
    """
    pred, label = (one_hot(x.long()[None, None], 4) for x in (pred_HWD, label_HWD))
    dice = compute_dice(pred, label, include_background=False)[0]
    found_ml, expected_ml = (volume_ml(np.asarray(x), spacing_mm) for x in (pred_HWD, label_HWD))
    rows = []
    for name, index in STRUCTURES.items():
        found, expected = pred[:, index : index + 1], label[:, index : index + 1]
        volumes = found_ml[name], expected_ml[name]
        row: Row = {"structure": name, "dice": None, "hd95_mm": None}
        row.update(volume_ml=volumes[0], reference_ml=volumes[1])
        if all(volumes):
            distance = compute_hausdorff_distance(
                found, expected, include_background=True, percentile=95, spacing=spacing_mm
            )
            row.update(dice=float(dice[index - 1]), hd95_mm=float(distance))
        elif any(volumes):
            row["dice"] = 0.0
        rows.append(row)
    return rows


def summarise(rows: list[Row]) -> dict[str, Any]:
    """Mean, standard deviation and number over exams, for each structure and phase, and over all."""
    phases = sorted({row["phase"] for row in rows})
    summary: dict[str, Any] = {}
    for metric in ("dice", "hd95_mm"):
        summary[metric] = {
            structure: {
                phase: _statistics([r[metric] for r in rows if r["structure"] == structure and r["phase"] in among])
                for phase, among in [*((phase, [phase]) for phase in phases), ("all", phases)]
            }
            for structure in STRUCTURES
        }
        summary[metric]["mean"] = _statistics([row[metric] for row in rows])
    return {"patients": len({row["patient"] for row in rows}), **summary}


def _statistics(values: list[float | None]) -> dict[str, float | int | None]:
    known = [value for value in values if value is not None]
    return {
        "mean": fmean(known) if known else None,
        "std": stdev(known) if len(known) > 1 else None,
        "count": len(known),
    }


class ExamMetrics:
    """Evaluator handler: ``metrics.csv``, ``metrics.json`` and a box plot in ``folder``.

    Args:
        folder: where to write.
        context: further entries of metrics.json, such as latency and throughput of the network.
    """

    def __init__(self, folder: str, context: dict[str, Any] | None = None):
        self.folder, self.context = Path(folder), context or {}
        self.rows: list[Row] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._publish)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _collect(self, engine: Engine) -> None:
        # MONAI's evaluator leaves what is no tensor to the batch
        for exam, item in zip(engine.state.batch, engine.state.output, strict=True):  # type: ignore[call-overload]
            spacing_mm = tuple(float(s) for s in affine_to_spacing(item["label"].affine))
            exam = {key: exam[key] for key in ("patient", "group", "phase")}
            pred, label = (torch.as_tensor(item[key])[0] for key in ("pred", "label"))
            self.rows.extend({**exam, **row} for row in measure_exam(pred, label, spacing_mm))

    def _publish(self, engine: Engine) -> None:
        """Where experiment trackers look."""
        dice = summarise(self.rows)["dice"]
        means = {"mean": dice["mean"]["mean"], **{name: dice[name]["all"]["mean"] for name in STRUCTURES}}
        engine.state.metrics.update({f"dice_{name}": mean for name, mean in means.items() if mean is not None})

    def _write(self, engine: Engine) -> None:
        with replacing(self.folder / "metrics.csv") as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        summary = {**summarise(self.rows), **self.context}
        write_json(self.folder / "metrics.json", summary)
        save_figure(dice_box_figure(self.rows), self.folder / "figures" / "dice.png")
        logger.info("The fold's test exams:\n%s", format_summary(summary))


def format_summary(summary: dict[str, Any]) -> str:
    """The summary as a table for the terminal."""
    phases = list(summary["dice"]["RV"])
    lines = [" " * 6 + "".join(f"{'Dice ' + phase:>16}" for phase in phases) + f"{'HD95 mm':>16}"]
    for structure in STRUCTURES:
        cells = [_cell(summary["dice"][structure][phase], 3) for phase in phases]
        cells.append(_cell(summary["hd95_mm"][structure]["all"], 1))
        lines.append(f"{structure:6}" + "".join(f"{cell:>16}" for cell in cells))
    lines.append(f"mean Dice {_cell(summary['dice']['mean'], 3)} over {summary['patients']} patients")
    if "latency" in summary:
        lines.append(_latency_line(summary["latency"]))
    return "\n".join(lines)


def _latency_line(latency: dict[str, Any]) -> str:
    line = f"latency {latency['median_ms']:.2f} ms a volume of {'x'.join(map(str, latency['deployment_size']))}"
    line += f" (p95 {latency['p95_ms']:.2f}), {latency['volumes_per_second']:.1f} volumes a second"
    if latency["predicted_ms"] is not None:
        line += f"; predicted {latency['predicted_ms']:.2f} ms"
    if latency["budget_ms"] is not None:
        needed = latency["volumes_per_second_required"] or 0
        kept = latency["p95_ms"] <= latency["budget_ms"] and latency["volumes_per_second"] >= needed
        verdict = "kept" if kept else "not kept in this measurement"
        rate = f" and {needed:g} volumes a second" if needed else ""
        line += f"; budget {latency['budget_ms']:.2f} ms{rate}: {verdict}"
    return line


def _cell(statistics: dict[str, Any], digits: int) -> str:
    if statistics["mean"] is None:
        return "-"
    spread = "" if statistics["std"] is None else f" ± {statistics['std']:.{digits}f}"
    return f"{statistics['mean']:.{digits}f}{spread}"
