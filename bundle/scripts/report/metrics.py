"""Dice, also by level, Hausdorff distance and volumes of every exam, with a summary over all and by group."""

from __future__ import annotations

import csv
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.metrics import compute_dice, compute_hausdorff_distance
from monai.networks.utils import one_hot
from monai.utils import convert_to_tensor

from scripts.cine import STRUCTURES
from scripts.cine.levels import LEVELS, slices_by_level
from scripts.cine.transforms import ShortAxisOrder
from scripts.core.files import replacing
from scripts.core.json_files import write_json
from scripts.measures.function import volume_ml
from scripts.report.agreement import agreement, function_of_patients
from scripts.report.evaluation_figures import agreement_figure, groups_figure
from scripts.report.exams_figure import exams_figure, view_exam
from scripts.report.label_order import better_label_map, count_pairs, format_hint
from scripts.report.metrics_table import format_summary
from scripts.report.style import save_figure
from scripts.report.training_figures import dice_box_figure

logger = logging.getLogger(__name__)

LEVEL_COLUMNS = {level: f"dice_{level}" for level in LEVELS}
COLUMNS = (
    *("patient", "group", "phase", "frame", "structure", "dice", "hd95_mm", "volume_ml", "reference_ml"),
    *LEVEL_COLUMNS.values(),
    *("scored_slices", "slices"),
)
MIN_LABELLED = 0.5
"""A whole label has structures in at least this share of the slices; with fewer, only some slices were labelled."""
Row = dict[str, Any]


def measure_exam(
    pred_HWD: torch.Tensor,
    label_HWD: torch.Tensor,
    spacing_mm: tuple[float, ...],
    structures: Collection[str] = tuple(STRUCTURES),
) -> list[Row]:
    """One row per structure: dice, hd95_mm, volumes, Dice by level (dice_base, _middle, _apex), and scored slices.

    A structure that is absent from the label is not scored: all its values are None, except volume_ml. In a partly
    labelled exam only the labelled slices count (``scored_slices``). Otherwise, slices without a label count as
    background: they lower the Dice of the exam, but belong to no level (``slices_by_level``). In a level, Dice is None
    if the structure is absent from both masks, and 0 if it is absent from one.

    Args:
        pred_HWD, label_HWD: labels on the original grid, slices last.
        spacing_mm: voxel size.
        structures: the structures of a whole label.
    """
    scored = scored_slices(np.asarray(label_HWD), structures)
    pred_HWD = pred_HWD * torch.as_tensor(scored, device=pred_HWD.device)
    dice = _dice(pred_HWD, label_HWD)
    levels = {
        LEVEL_COLUMNS[level]: _dice(pred_HWD[..., slices], label_HWD[..., slices])
        for level, slices in slices_by_level(np.asarray(label_HWD)).items()
    }
    pred, label = (one_hot(x.long()[None, None], 4) for x in (pred_HWD, label_HWD))
    found_ml, expected_ml = (volume_ml(np.asarray(x), spacing_mm) for x in (pred_HWD, label_HWD))
    rows = []
    for name, index in STRUCTURES.items():
        row: Row = {"structure": name, "dice": None, "hd95_mm": None, "volume_ml": found_ml[name], "reference_ml": None}
        row |= dict.fromkeys(levels) | {"scored_slices": int(scored.sum()), "slices": len(scored)}
        if expected_ml[name]:
            row.update(dice=dice[name], reference_ml=expected_ml[name])
            row |= {column: values[name] for column, values in levels.items()}
        if expected_ml[name] and found_ml[name]:
            found, expected = pred[:, index : index + 1], label[:, index : index + 1]
            row["hd95_mm"] = float(
                compute_hausdorff_distance(found, expected, include_background=True, percentile=95, spacing=spacing_mm)
            )
        rows.append(row)
    return rows


def scored_slices(label_HWD: np.ndarray, structures: Collection[str] = tuple(STRUCTURES)) -> np.ndarray:
    """Which slices count, bool D: all, or in a partly labelled exam those with a label.

    An exam is partly labelled if its label lacks one of ``structures``, a slice between labelled ones, or more than
    half of the slices. In ACDC's volumes, at least 70 % of the slices have a label.
    """
    filled = (label_HWD != 0).any(axis=(0, 1))
    complete = all((label_HWD == STRUCTURES[name]).any() for name in structures)
    first, last = (int(np.argmax(filled)), len(filled) - int(np.argmax(filled[::-1])))
    whole = complete and filled[first:last].all() and filled.mean() >= MIN_LABELLED
    return np.ones_like(filled) if whole else filled


def labelled_dice(pred_HWD: torch.Tensor, label_HWD: torch.Tensor) -> dict[str, float | None]:
    """Dice of each structure in the label, over the scored slices; None for others."""
    scored = torch.as_tensor(scored_slices(np.asarray(label_HWD)), device=pred_HWD.device)
    found = _dice(pred_HWD * scored, label_HWD)
    return {name: found[name] if bool((label_HWD == index).any()) else None for name, index in STRUCTURES.items()}


def _dice(pred_HWD: torch.Tensor, label_HWD: torch.Tensor) -> dict[str, float | None]:
    """Dice of each structure; None if it is absent from both, 0 if from one."""
    pred, label = (one_hot(x.long()[None, None], 4) for x in (pred_HWD, label_HWD))
    values = compute_dice(pred, label, include_background=False, ignore_empty=False)[0]
    there = (pred + label).sum(dim=(0, 2, 3, 4)) > 0
    return {name: float(values[index - 1]) if there[index] else None for name, index in STRUCTURES.items()}


def summarise(rows: list[Row]) -> dict[str, Any]:
    """Mean, standard deviation and number of exams, for each structure and phase, and for all together.

    Returns:
        patients, their number; dice and hd95_mm: structure -> phase or "all" -> statistics, and "mean", those of all;
        dice_by_level and dice_by_group: level or group -> structure or "mean" -> phase or "all" -> statistics;
        function: "patients", their function (``function_of_patients``), and its "agreement";
        not_labelled: structure -> number of exams whose label lacks it; partly_labelled and without_label: numbers of
        exams.
    """
    scored = [row for row in rows if row["scored_slices"]]
    summary: dict[str, Any] = {"patients": len({row["patient"] for row in scored})}
    summary["without_label"] = (len(rows) - len(scored)) // len(STRUCTURES)
    rows = scored
    summary["not_labelled"] = {
        name: sum(row["structure"] == name and row["reference_ml"] is None for row in rows) for name in STRUCTURES
    }
    summary["partly_labelled"] = sum(_partly(row) for row in rows) // len(STRUCTURES)
    phases = sorted({row["phase"] for row in rows})
    for metric in ("dice", "hd95_mm"):
        table = _by_structure(rows, metric, phases)
        summary[metric] = {**table, "mean": table["mean"]["all"]}
    summary["dice_by_level"] = {level: _by_structure(rows, column, phases) for level, column in LEVEL_COLUMNS.items()}
    summary["dice_by_group"] = {
        group: _by_structure([row for row in rows if row["group"] == group], "dice", phases)
        for group in sorted({row["group"] for row in rows})
    }
    functions = function_of_patients([row for row in rows if not _partly(row)])
    return {**summary, "function": {"patients": functions, "agreement": agreement(functions)}}


def _partly(row: Row) -> bool:
    """Whether the exam of a row is partly labelled; its volumes are of only some slices."""
    return row["scored_slices"] < row["slices"]


def _by_structure(rows: list[Row], metric: str, phases: list[str]) -> dict[str, Any]:
    """Structure or "mean" -> phase or "all" -> statistics."""
    return {
        name: {
            phase: statistics_of([r[metric] for r in rows if r["structure"] in structures and r["phase"] in among])
            for phase, among in [*((phase, [phase]) for phase in phases), ("all", phases)]
        }
        for name, structures in [*((name, [name]) for name in STRUCTURES), ("mean", list(STRUCTURES))]
    }


def statistics_of(values: list[float | None]) -> dict[str, float | int | None]:
    known = [value for value in values if value is not None]
    return {
        "mean": fmean(known) if known else None,
        "std": stdev(known) if len(known) > 1 else None,
        "count": len(known),
    }


class ExamMetrics:
    """Evaluator handler: ``metrics.csv``, ``metrics.json`` and figures in ``folder``.

    The engine's output has image, pred and label on one grid; its batch has patient, group, phase, and perhaps frame
    and structures (see ``Exam``).

    Args:
        folder: the output folder.
        context: further entries of metrics.json, such as latency and throughput of the network.
        label_map: the one with which the labels were read; results and log report if another one fits much better.
    """

    def __init__(
        self, folder: str, context: dict[str, Any] | None = None, label_map: Mapping[int | str, int] | None = None
    ):
        self.folder, self.context, self.label_map = Path(folder), context or {}, label_map
        self.rows: list[Row] = []
        self.pairs: Any = 0
        self.views: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._publish)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _clear(self, engine: Engine) -> None:
        self.rows.clear()
        self.views.clear()
        self.pairs = 0

    def _collect(self, engine: Engine) -> None:
        # MONAI's evaluator keeps values that are not tensors only in the batch
        for exam, item in zip(engine.state.batch, engine.state.output, strict=True):  # type: ignore[call-overload]
            image, pred, label = (
                in_working_order(item[key], item["label"].affine) for key in ("image", "pred", "label")
            )
            spacing_mm = tuple(float(s) for s in affine_to_spacing(label.affine))
            structures = exam.get("structures", " ".join(STRUCTURES)).split()
            frame = None if exam.get("frame") is None else int(exam["frame"]) + 1
            exam = {key: exam[key] for key in ("patient", "group", "phase")} | {"frame": frame}
            rows = measure_exam(pred.as_tensor(), label.as_tensor(), spacing_mm, structures)
            self.pairs = self.pairs + count_pairs(pred.as_tensor(), label.as_tensor())
            self.rows.extend({**exam, **row} for row in rows)
            view = view_exam(np.asarray(image), np.asarray(pred), np.asarray(label), spacing_mm)
            self.views.append({**exam, **view, "dice": statistics_of([row["dice"] for row in rows])["mean"]})

    def _publish(self, engine: Engine) -> None:
        """Put the means where experiment trackers find them."""
        dice = summarise(self.rows)["dice"]
        means = {"mean": dice["mean"]["mean"], **{name: dice[name]["all"]["mean"] for name in STRUCTURES}}
        engine.state.metrics.update({f"dice_{name}": mean for name, mean in means.items() if mean is not None})

    def _write(self, engine: Engine) -> None:
        with replacing(self.folder / "metrics.csv") as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        summary = {**summarise(self.rows), **self.context}
        hint = better_label_map(self.pairs, self.label_map) if self.label_map and self.rows else None
        if hint is not None:
            summary["label_map_hint"] = hint
            logger.warning("%s", format_hint(hint))
        write_json(self.folder / "metrics.json", summary)
        figures = {"dice": dice_box_figure(self.rows), "groups": groups_figure(self.rows)}
        figures["exams"] = exams_figure(self.views)
        if functions := summary["function"]["patients"]:
            figures["agreement"] = agreement_figure(functions)
        for name, figure in figures.items():
            save_figure(figure, self.folder / "figures" / f"{name}.png")
        logger.info("The test exams:\n%s", format_summary(summary))


def in_working_order(volume: torch.Tensor, affine: torch.Tensor) -> MetaTensor:
    """1 H W D on the label's grid -> H W D with slices last, on the CPU."""
    ordered: Any = ShortAxisOrder()(MetaTensor(convert_to_tensor(volume, device="cpu"), affine=affine))
    return ordered[0]
