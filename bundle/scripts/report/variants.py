"""Dice of every variant of the test exams: storage orders, rotated, few slices."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from scripts.cine import STRUCTURES
from scripts.core.json_files import write_json
from scripts.exams.variants import AS_STORED, SLICES, VARIANTS, middle_slices
from scripts.report.comparison_tables import markdown
from scripts.report.metrics import in_working_order, labelled_dice, statistics_of
from scripts.report.metrics_table import cell

logger = logging.getLogger(__name__)

OF_THE_STACK = " of the whole stack"
"""The ending of rows that score the same middle slices in the mask of the whole stack."""
ROWS = (*VARIANTS, *(name + OF_THE_STACK for name in SLICES))


class VariantMetrics:
    """Evaluator handler: ``variants.json`` in ``folder``, and its table in the log.

    The engine's output has pred and label on one grid, its batch has the variant (``Varied``).

    Args:
        folder: the output folder.
        context: further entries of variants.json.
    """

    def __init__(self, folder: str, context: Mapping[str, Any] | None = None):
        self.folder, self.context = Path(folder), dict(context or {})
        self.dice: dict[str, dict[str, list[float | None]]] = {}

    def attach(self, engine: Engine) -> None:
        """Register for every iteration and for the end."""
        engine.add_event_handler(Events.STARTED, lambda _: self.dice.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _collect(self, engine: Engine) -> None:
        for exam, item in zip(engine.state.batch, engine.state.output, strict=True):  # type: ignore[call-overload]
            pred, label = (in_working_order(item[key], item["label"].affine).as_tensor() for key in ("pred", "label"))
            self._add(exam["variant"], pred, label)
            if exam["variant"] == AS_STORED:
                for name, count in SLICES.items():
                    slices = middle_slices(np.asarray(label), count)
                    self._add(name + OF_THE_STACK, pred[..., slices], label[..., slices])

    def _add(self, row: str, pred_HWD: torch.Tensor, label_HWD: torch.Tensor) -> None:
        for structure, value in labelled_dice(pred_HWD, label_HWD).items():
            self.dice.setdefault(row, {}).setdefault(structure, []).append(value)

    def _write(self, engine: Engine) -> None:
        summary = {row: summarise(self.dice[row]) for row in ROWS if row in self.dice}
        write_json(self.folder / "variants.json", {**self.context, "dice": summary})
        logger.info("The variants of the test exams:\n%s", format_variants(summary))


def summarise(dice: Mapping[str, list[float | None]]) -> dict[str, Any]:
    """Structure or "mean" -> mean, standard deviation and count over exams."""
    everything = [value for values in dice.values() for value in values]
    return {**{name: statistics_of(dice[name]) for name in STRUCTURES}, "mean": statistics_of(everything)}


def format_variants(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table with one row per variant."""
    columns = (*STRUCTURES, "mean")
    rows = [(name, *(cell(found[column], 3) for column in columns)) for name, found in summary.items()]
    return markdown(("Dice", *columns), rows)
