"""The picture next to every mask: contours on the cine, and the ventricles' volumes over time.

Tensors: T frames, H W in-plane (towards the patient's left and back), D slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from monai.data import MetaTensor

from scripts.cine import STRUCTURES
from scripts.cine.formats import stem
from scripts.cine.header import read_header
from scripts.cine.levels import LEVELS, labelled_slices
from scripts.cine.reader import read_frames
from scripts.cine.transforms import ShortAxisOrder
from scripts.core.errors import CineError
from scripts.exams.phantom import PHANTOM, is_phantom
from scripts.measures.function import function_of
from scripts.quality.flags import IMPLAUSIBLE, of_exam
from scripts.report.style import STRUCTURE_COLOURS, save_figure, tidy

MARGIN_MM = 15.0
MIN_EXTENT_MM = 80.0
MAX_TITLE = 80
FILL = 0.3
"""Opacity of a structure within its contour."""
DEPTHS = dict(zip(LEVELS, (0.15, 0.5, 0.85), strict=True))
"""Relative position of the shown slices in the labelled stack; its ends show only small parts of structures."""


def save_overlay(item: Mapping[str, Any], path: str | Path) -> None:
    """Draw ``item["pred"]`` (T H W D labels, in the order of the file ``item["source"]``) over its image.

    Raises:
        CineError: the labels and the file differ in shape.
    """
    function = function_of(item)
    image_path = Path(item["source"])
    header = read_header(image_path)
    labels = np.ascontiguousarray(item["pred"])  # torch does not accept reversed views

    def in_working_order(voxels_THWD: np.ndarray) -> Any:
        return ShortAxisOrder()(MetaTensor(voxels_THWD, affine=torch.as_tensor(header.affine)))

    labels_THWD = in_working_order(labels)
    spacing_mm = [float(size) for size in labels_THWD.pixdim]
    shown = {t for _, t in shown_phases(header.frames, function["ed_frame"], function["es_frame"])}
    images = {t: np.asarray(in_working_order(x[None])[0]) for t, x in enumerate(read_frames(header)) if t in shown}
    title = stem(image_path) + (f" ({PHANTOM})" if is_phantom(image_path) else "")
    save_figure(overlay_figure(images, np.asarray(labels_THWD), spacing_mm, function, title), path)


def overlay_figure(
    images: Mapping[int, np.ndarray],
    labels_THWD: np.ndarray,
    spacing_mm: Sequence[float],
    function: Mapping[str, Any],
    title: str,
) -> Figure:
    """Base, middle and apex at four phases of the cine, and below them the volume-time curve.

    Args:
        images: frame, counted from 0 -> intensities H W D, for ``shown_phases``, in working order (``ShortAxisOrder``).
        labels_THWD: labels as in STRUCTURES, of all frames.
        spacing_mm: voxel size along H, W and D (mm).
        function: the result of ``cardiac_function`` for the labels.
        title: the exam's name.

    Raises:
        CineError: image, labels, spacing and function do not belong together.
    """
    frames = function["frames"]
    phases = shown_phases(frames, function["ed_frame"], function["es_frame"])
    found = {images[t].shape if t in images else None for _, t in phases}
    if found != {labels_THWD.shape[1:]} or labels_THWD.shape[:-3] != (frames,) or len(spacing_mm) != 3:
        shapes = f"images {found}, labels {labels_THWD.shape}, {frames} frames, spacing {list(spacing_mm)}"
        raise CineError(
            title, shapes, "arrays H W D and T H W D, T and three spacings", "Take all of them from one exam."
        )
    slices, window = shown_slices(labels_THWD), heart_window(labels_THWD, spacing_mm)
    images, labels_THWD = {t: images[t][window] for _, t in phases}, labels_THWD[(slice(None), *window)]
    low, high = np.percentile([image_HWD[..., d] for image_HWD in images.values() for _, d in slices], (1, 99))
    grey = {"cmap": "gray", "vmin": low, "vmax": high, "interpolation": "bilinear"}

    width_mm, height_mm = ((w.stop - w.start) * mm for w, mm in zip(window, spacing_mm, strict=False))
    rows, columns = (len(slices), len(phases)) if frames > 1 else (1, len(slices))  # one frame is shown as a row
    panel = 9.4 / max(3, columns)
    row = panel * min(2.0, height_mm / width_mm)  # a long, narrow image must not make a very tall picture
    curve = [2.3] if frames > 1 else []
    size = (max(6.5, panel * columns + 0.6), row * rows + sum(curve) + 1.2)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.05, wspace=0, hspace=0))
    grid = figure.add_gridspec(rows + len(curve), columns, height_ratios=[row] * rows + curve)
    for r, (level, d) in enumerate(slices):
        for c, (phase, t) in enumerate(phases):
            axes = figure.add_subplot(grid[r, c] if frames > 1 else grid[0, r])
            draw_slice(axes, images[t][..., d], labels_THWD[t, ..., d], spacing_mm, grey)
            place = f"{level}\nslice {d + 1} of {labels_THWD.shape[3]}"
            if frames == 1:
                axes.set_title(place, fontsize=10)
                continue
            axes.set_title(f"{phase} (frame {t + 1})" if r == 0 else "", fontsize=10)
            axes.set_ylabel(place if c == 0 else "", fontsize=10)
    if curve:
        _draw_volumes(figure.add_subplot(grid[-1, :]), function)
    shown = title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1]}…"
    figure.suptitle(f"{shown}\n{_summary(function)}", fontsize=11, parse_math=False)
    flags = of_exam(function["flags"])
    flags += [IMPLAUSIBLE] * any(flag["flag"] == IMPLAUSIBLE for flag in function["flags"])
    if flags:
        figure.text(0.01, 0.99, "\n".join(flags), color="white", backgroundcolor="#b00020", fontsize=10, va="top")
    patches = [Patch(facecolor=STRUCTURE_COLOURS[name], edgecolor="0.3", label=name) for name in STRUCTURES]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def shown_slices(labels_THWD: np.ndarray) -> list[tuple[str, int]]:
    """(name, index) of base, middle and apex: of the slices with labels, or of all; fewer if the stack is shorter."""
    filled = labelled_slices(labels_THWD)
    stack = filled if len(filled) else np.arange(labels_THWD.shape[3])
    ends = DEPTHS if len(filled) else dict(zip(LEVELS, (0.0, 0.5, 1.0), strict=True))
    if len(stack) < 3:
        return list(zip(("base", "apex") if len(stack) == 2 else ("middle",), stack.tolist(), strict=True))
    return [(level, int(stack[round(share * (len(stack) - 1))])) for level, share in ends.items()]


def shown_phases(frames: int, ed: int | None, es: int | None) -> list[tuple[str, int]]:
    """(name, index from 0) of ED, systole, ES and diastole, each only once; evenly spread if ED or ES is unknown.

    Args:
        frames: T; the cine is a loop.
        ed, es: counted from 1.
    """
    if ed is None or es is None or ed == es:
        return [("cine", t) for t in sorted({i * frames // 4 for i in range(4)})]
    begin, end = ed - 1, es - 1
    systole = (begin + (end - begin) % frames // 2) % frames
    diastole = (end + (begin - end) % frames // 2) % frames
    phases = {begin: "ED", end: "ES"}
    order = [(phases.get(begin, ""), begin), ("systole", systole), (phases.get(end, ""), end), ("diastole", diastole)]
    return [(name, t) for name, t in order if name in ("ED", "ES") or t not in phases]


def heart_window(labels_THWD: np.ndarray, spacing_mm: Sequence[float]) -> tuple[slice, slice]:
    """Rows and columns around all labels with a margin; the whole image if there are no labels."""
    window = []
    for axis in (1, 2):
        size, mm = labels_THWD.shape[axis], spacing_mm[axis - 1]
        filled = np.flatnonzero(labels_THWD.any(axis=tuple({0, 1, 2, 3} - {axis})))
        if not len(filled):
            return slice(0, labels_THWD.shape[1]), slice(0, labels_THWD.shape[2])
        centre = (filled[0] + filled[-1] + 1) / 2
        half = max((filled[-1] + 1 - filled[0]) / 2 + MARGIN_MM / mm, MIN_EXTENT_MM / 2 / mm)
        window.append(slice(max(0, int(centre - half)), min(size, int(centre + half) + 1)))
    return window[0], window[1]


def draw_slice(
    axes: Axes, image_HW: np.ndarray, labels_HW: np.ndarray, spacing_mm: Sequence[float], grey: Mapping[str, Any]
) -> None:
    """One slice as radiologists see it: the patient's left on the right, the back at the bottom."""
    aspect = spacing_mm[1] / spacing_mm[0]
    axes.imshow(image_HW.T, aspect=aspect, **grey)
    fill_WHC = np.zeros((*labels_HW.T.shape, 4))
    for name, label in STRUCTURES.items():
        fill_WHC[(labels_HW == label).T] = to_rgba(STRUCTURE_COLOURS[name], FILL)
    axes.imshow(fill_WHC, aspect=aspect, interpolation="nearest")
    draw_contours(axes, labels_HW, STRUCTURE_COLOURS)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_contours(axes: Axes, labels_HW: np.ndarray, colours: Mapping[str, str], **style: Any) -> None:
    """The outline of each structure, over a slice that was already drawn; ``style`` is passed to ``Axes.contour``."""
    for name, label in STRUCTURES.items():
        mask_WH = (labels_HW == label).T
        if min(mask_WH.shape) > 1 and mask_WH.any() and not mask_WH.all():
            axes.contour(mask_WH.astype(float), levels=[0.5], colors=colours[name], **{"linewidths": 1.3, **style})


def _draw_volumes(axes: Axes, function: Mapping[str, Any]) -> None:
    numbers = range(1, function["frames"] + 1)
    # plain yellow would hardly be visible on white
    edge = [Stroke(linewidth=3.4, foreground="0.25"), Normal()]
    for name in ("LV", "RV"):
        volumes = function["volumes_ml"][name]
        axes.plot(
            numbers,
            np.array(volumes, dtype=float),
            color=STRUCTURE_COLOURS[name],
            linewidth=2.2,
            gid=name,
            path_effects=edge,
        )
    for name, key in (("ED", "ed_frame"), ("ES", "es_frame")):
        if function[key] is not None:
            axes.axvline(function[key], color="0.4", linestyle="--", linewidth=1.0, zorder=1, gid=name)
            axes.text(function[key], 1.02, name, transform=axes.get_xaxis_transform(), ha="center", fontsize=9)
    tidy(axes, "frame", "volume (ml)", whole_x=True)
    axes.set_ylim(0, 1.1 * max(1.0, *(v or 0.0 for name in ("LV", "RV") for v in function["volumes_ml"][name])))


def _summary(function: Mapping[str, Any]) -> str:
    """The exam's figures in a line; a dash if one is undefined."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.0f}"  # noqa: RUF001

    if function["frames"] == 1:
        return ", ".join(f"{name} {number(function['volumes_ml'][name][0])} ml" for name in STRUCTURES)

    ventricles = [
        f"{name}: EDV {number(v['edv_ml'])} ml, ESV {number(v['esv_ml'])} ml, EF {number(v['ef_percent'])} %"
        for name, v in ((name, function[name]) for name in ("LV", "RV"))
    ]
    return "     ".join([*ventricles, f"mass {number(function['myocardial_mass_g'])} g"])
