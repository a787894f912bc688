"""A typical and the worst exam of an evaluation, with the contours of mask and reference.

Arrays in working order (``ShortAxisOrder``): H W in-plane, D slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scripts.cine import STRUCTURES
from scripts.core.errors import CineError
from scripts.report.overlay import draw_contours, draw_slice, heart_window, shown_slices
from scripts.report.style import STRUCTURE_COLOURS

_WHITE = dict.fromkeys(STRUCTURES, "white")
_PANEL = 3.0  # inches


def view_exam(
    image_HWD: np.ndarray, pred_HWD: np.ndarray, label_HWD: np.ndarray, spacing_mm: Sequence[float]
) -> dict[str, Any]:
    """The data that a figure shows of an exam; small enough to keep for every exam until the worst is known.

    Returns:
        spacing_mm, of (number of slices) and slices: (level, index, image, prediction, label) of the three shown
        slices, each cropped around the heart.
    """
    window = heart_window(np.maximum(pred_HWD, label_HWD)[None], spacing_mm)
    cropped = [x[window] for x in (image_HWD, pred_HWD, label_HWD)]
    slices = [(level, d, *(x[..., d].copy() for x in cropped)) for level, d in shown_slices(label_HWD[None])]
    return {"spacing_mm": tuple(spacing_mm), "of": label_HWD.shape[2], "slices": slices}


def exams_figure(views: Sequence[Mapping[str, Any]]) -> Figure:
    """Base, middle and apex of two exams: the median (the lower of two) and the lowest by mean Dice.

    Args:
        views: results of ``view_exam``, each with patient, group, phase and dice (mean over structures, or None).

    Raises:
        CineError: no exam has a dice.
    """
    ranked = sorted((view for view in views if view["dice"] is not None), key=lambda view: view["dice"])
    if not ranked:
        raise CineError("metrics", "no exam with a dice", "at least one", "Evaluate exams with labels.")
    shown = {"typical": ranked[(len(ranked) - 1) // 2], "worst": ranked[0]}
    columns = max(len(view["slices"]) for view in shown.values())
    height = sum(_PANEL * min(2.0, _tallness(view)) + 0.75 for view in shown.values()) + 0.3
    figure = Figure(figsize=(max(6.5, _PANEL * columns), height), layout="constrained")
    rows = figure.subfigures(len(shown), 1, squeeze=False)[:, 0]
    for row, (name, view) in zip(rows, shown.items(), strict=True):
        frame = f" (frame {view['frame']})" if view.get("frame") else ""
        exam = f"{view['patient']}, {view['phase']}{frame}, {view['group']}"
        row.suptitle(f"{name}: {exam}: mean Dice {view['dice']:.3f}", fontsize=11, parse_math=False)
        images = np.concatenate([image.ravel() for _, _, image, _, _ in view["slices"]])
        low, high = np.percentile(images, (1, 99))
        grey = {"cmap": "gray", "vmin": low, "vmax": high, "interpolation": "bilinear"}
        panels = row.subplots(1, columns, squeeze=False)[0]
        for axes in panels[len(view["slices"]) :]:
            axes.set_axis_off()
        for axes, (level, d, image_HW, pred_HW, label_HW) in zip(panels, view["slices"], strict=False):
            draw_slice(axes, image_HW, pred_HW, view["spacing_mm"], grey)
            draw_contours(axes, label_HW, _WHITE, linewidths=1.0)
            axes.set_title(f"{level}, slice {d + 1} of {view['of']}", fontsize=10)
    named = {**{name: STRUCTURE_COLOURS[name] for name in STRUCTURES}, "reference": "white"}
    handles = [Patch(facecolor=colour, edgecolor="0.3", label=name) for name, colour in named.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _tallness(view: Mapping[str, Any]) -> float:
    """Height over width of a shown slice."""
    (width, height), spacing_mm = view["slices"][0][2].shape, view["spacing_mm"]
    return float(height * spacing_mm[1] / (width * spacing_mm[0]))
