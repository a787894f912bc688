"""Where an evaluated network is good or bad: by group, phase and level, and in heart function."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scripts.cine import STRUCTURES
from scripts.cine.levels import LEVELS
from scripts.report.agreement import MEASURES, bland_altman, pairs_of
from scripts.report.style import STRUCTURE_COLOURS, spread, tidy

SHOWN = ("LV_ef_percent", "RV_ef_percent", "LV_edv_ml", "RV_edv_ml", "myocardial_mass_g")
# the palette of Okabe and Ito, as in style.py
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222")
_MARKERS = ("o", "s", "^", "D")
_SLOT = 0.13
"""Width of the points of one structure and phase; groups and levels are 1 apart."""


def agreement_figure(functions: Sequence[Mapping[str, Any]]) -> Figure:
    """Bland-Altman plots: error of the prediction against the mean of both, with mean error and limits of agreement.

    Args:
        functions: the result of ``function_of_patients``.
    """
    groups = sorted({entry["group"] for entry in functions})
    colours = {group: _COLOURS[i % len(_COLOURS)] for i, group in enumerate(groups)}
    figure = Figure(figsize=(12, 7), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for axes, measure in zip(panels, SHOWN, strict=False):
        for group, colour in colours.items():
            pairs = pairs_of([entry for entry in functions if entry["group"] == group], measure)
            means, errors = [fmean(pair) for pair in pairs], [predicted - reference for predicted, reference in pairs]
            axes.scatter(means, errors, s=22, color=colour, edgecolors="0.25", linewidths=0.5, zorder=3, gid=group)
        _draw_limits(axes, bland_altman(pairs_of(functions, measure)), MEASURES[measure])
    handles = [
        Line2D([], [], color=colour, marker="o", linestyle="", markeredgecolor="0.25", label=group)
        for group, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color="0.2", label="mean error"),
        Line2D([], [], color="0.2", linestyle="--", label="limits of agreement (mean ± 1.96 SD)"),
    ]
    panels[-1].set_axis_off()
    panels[-1].legend(handles=handles, loc="center left", frameon=False, fontsize=10)
    return figure


def _draw_limits(axes: Axes, found: Mapping[str, Any], name: str) -> None:
    note = f"n = {found['count']}"
    if found["correlation"] is not None:
        note += f", r = {found['correlation']:.3f}"
    tidy(axes, "mean of prediction and reference", "prediction - reference", f"{name}: {note}")
    if not found["count"]:
        axes.set(xticks=[], yticks=[])
        return
    axes.axhline(0.0, color="0.75", linewidth=0.8, zorder=1)
    lines = [(found["mean_error"], "-")]
    lines += [(limit, "--") for limit in found["limits"] or ()]
    for y, style in lines:
        axes.axhline(y, color="0.2", linestyle=style, linewidth=1.2, zorder=2)
        axes.text(1.01, y, f"{y:+.1f}", transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.margins(x=0.08, y=0.15)


def groups_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Dice of single exams by structure and phase, for each group (top) and level (bottom), with their means.

    Args:
        rows: as in ``metrics.csv``, with group, phase, structure, dice and its columns by level.
    """
    phases = sorted({row["phase"] for row in rows})
    groups = sorted({row["group"] for row in rows})
    slots = _SLOT * len(STRUCTURES) * len(phases) + 0.2
    width = max(7.0, 2.4 * slots * max(len(groups), len(LEVELS)) + 1.2)
    figure = Figure(figsize=(width, 8), layout="constrained")
    above, beneath = figure.subplots(2, 1, sharey=True)
    by_group = {group: [row for row in rows if row["group"] == group] for group in groups}
    patients = {group: len({row["patient"] for row in own}) for group, own in by_group.items()}
    names = {group: f"{group}\n{n} patient{'s' * (n > 1)}" for group, n in patients.items()}
    _draw_means(above, {names[group]: (own, "dice") for group, own in by_group.items()}, phases)
    _draw_means(beneath, {level: (rows, f"dice_{level}") for level in LEVELS}, phases)
    tidy(above, "", "Dice", "By group")
    tidy(beneath, "", "Dice", "By level: thirds of the slices that carry a label")
    lowest = min(float(offsets[:, 1].min()) for axes in (above, beneath) for offsets in _offsets(axes))
    above.set_ylim(math.floor(10 * lowest) / 10 - 0.02, 1.02)
    handles: list[Any] = [
        Line2D([], [], color=STRUCTURE_COLOURS[name], marker="o", linestyle="", markeredgecolor="0.25", label=name)
        for name in STRUCTURES
    ]
    handles += [
        Line2D([], [], color="white", marker=_MARKERS[p], linestyle="", markeredgecolor="black", label=f"{phase}, mean")
        for p, phase in enumerate(phases)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def _offsets(axes: Axes) -> list[np.ndarray]:
    return [np.asarray(points.get_offsets()) for points in axes.collections]


def _draw_means(
    axes: Axes, parts: Mapping[str, tuple[Sequence[Mapping[str, Any]], str]], phases: Sequence[str]
) -> None:
    """Draw each part of the rows at one tick, from the given column."""
    width = _SLOT * len(phases)
    middle = (len(STRUCTURES) * width - _SLOT) / 2
    spread = width * len(STRUCTURES) + 0.2
    for i, (rows, column) in enumerate(parts.values()):
        for s, structure in enumerate(STRUCTURES):
            for p, phase in enumerate(phases):
                own = [row[column] for row in rows if row["structure"] == structure and row["phase"] == phase]
                values = [value for value in own if value is not None]
                if values:
                    at = i * spread + s * width + p * _SLOT - middle
                    _draw_values(axes, at, values, STRUCTURE_COLOURS[structure], _MARKERS[p % len(_MARKERS)])
    axes.set_xticks([i * spread for i in range(len(parts))], list(parts))
    axes.set_xlim(-0.5 * spread, (len(parts) - 0.5) * spread)


def _draw_values(axes: Axes, at: float, values: list[float], colour: str, marker: str) -> None:
    axes.scatter(
        at + spread(len(values), 0.6 * _SLOT), values, s=9, color=colour, edgecolors="0.4", linewidths=0.4, zorder=3
    )
    axes.scatter(at, fmean(values), s=40, marker=marker, color="white", edgecolors="black", linewidths=1.2, zorder=4)
