"""Figures of a training: its curves, and how well the network segments unseen exams."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.cine import STRUCTURES
from scripts.core.errors import CineError
from scripts.report.style import STRUCTURE_COLOURS, spread, tidy


def training_curves_figure(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss over the epochs and, if there was validation, mean Dice.

    Args:
        history: entries of "epoch", "loss" and perhaps "val_dice".

    Raises:
        CineError: the history is empty, or an entry lacks its epoch or loss.
    """
    if not history or not all("epoch" in entry and "loss" in entry for entry in history):
        raise CineError(
            "training history", "no complete entries", "epoch and loss in each entry", "Run the step train first."
        )
    validated = [(entry["epoch"], entry["val_dice"]) for entry in history if entry.get("val_dice") is not None]
    figure = Figure(figsize=(10, 4) if validated else (7, 4), layout="constrained")
    panels = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]
    _curve(panels[0], [(entry["epoch"], entry["loss"]) for entry in history], "#0072b2")
    tidy(panels[0], "epoch", "loss", "Training loss", whole_x=True)
    if validated:
        _curve(panels[1], validated, "#009e73")
        panels[1].set_ylim(0, 1)
        tidy(panels[1], "epoch", "mean Dice", f"Only monitored: {validated[-1][1]:.3f} at the end", whole_x=True)
    for axes in panels:
        axes.set_xlim(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5)
    return figure


def dice_box_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Dice by structure and phase: quartiles as boxes, single exams as points, the mean as a diamond and a number.

    Args:
        rows: as in ``metrics.csv``, with "structure", "phase" and "dice". A dice of None, NaN or "" (the structure is
            absent from mask and reference) is left out.

    Raises:
        CineError: no row has a dice, or a dice is not a number.
    """
    groups = _dice_groups(rows)
    if not groups:
        raise CineError("metrics", "no row with a dice", "at least one", "Evaluate exams with labels.")
    phases = sorted({phase for _, phase in groups})
    structures = [name for name in STRUCTURES if any(name == s for s, _ in groups)]
    figure = Figure(figsize=(max(5.5, 1.25 * len(structures) * len(phases) + 1.5), 4.8), layout="constrained")
    axes = figure.add_subplot()
    ticks: dict[float, str] = {}
    for s, structure in enumerate(structures):
        for p, phase in enumerate(phases):
            if values := groups.get((structure, phase)):
                at = s * (len(phases) + 0.5) + p
                _draw_box(axes, at, values, STRUCTURE_COLOURS[structure])
                ticks[at] = f"{structure} {phase}\nn = {len(values)}"
    axes.set_xticks(list(ticks), list(ticks.values()))
    lowest = min(min(values) for values in groups.values())
    lower = math.floor(10 * lowest) / 10
    axes.set_ylim(lower - 0.02, 1.0 + 0.08 * (1.0 - lower))
    axes.set_xlim(min(ticks) - 0.6, max(ticks) + 0.6)
    mean = np.mean([value for values in groups.values() for value in values])
    tidy(axes, "", "Dice", f"Dice of single exams; diamonds and numbers are means; over all {mean:.3f}")
    return figure


def _dice_groups(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[float]]:
    groups: dict[tuple[str, str], list[float]] = {}
    for number, row in enumerate(rows, start=1):
        try:
            structure, phase = row["structure"], str(row["phase"] or "all")
            value = math.nan if row["dice"] in (None, "") else float(row["dice"])
        except (KeyError, TypeError, ValueError) as error:
            expected = "structure, phase, and a dice that is a number or empty"
            raise CineError(f"metrics, row {number}", repr(error), expected, "Evaluate again.") from None
        if structure not in STRUCTURES:
            raise CineError(f"metrics, row {number}", repr(structure), f"one of {list(STRUCTURES)}", "Evaluate again.")
        if not math.isnan(value):
            groups.setdefault((structure, phase), []).append(value)
    return groups


def _draw_box(axes: Axes, at: float, values: list[float], colour: str) -> None:
    axes.boxplot(
        values,
        positions=[at],
        widths=0.62,
        showfliers=False,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.45},
        medianprops={"color": "0.15", "linewidth": 1.8},
    )
    axes.scatter(at + spread(len(values), 0.4), values, s=14, color=colour, edgecolors="0.25", linewidths=0.6, zorder=3)
    mean = float(np.mean(values))
    axes.scatter(at, mean, s=46, marker="D", color="white", edgecolors="black", linewidths=1.2, zorder=4)
    axes.annotate(f"{mean:.3f}", (at, 1.0), (0, 4), textcoords="offset points", ha="center", va="bottom", fontsize=9)


def _curve(axes: Axes, points: Sequence[tuple[int, float]], colour: str) -> None:
    axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.8, marker="o" if len(points) <= 30 else None, ms=4)
