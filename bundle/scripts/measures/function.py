"""Heart function: volumes (ml) of every frame, ejection fraction (%), myocardial mass (g), and doubts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.cine import STRUCTURES
from scripts.cine.header import read_header
from scripts.cine.reader import CONSTANT
from scripts.cine.transforms import slice_axis
from scripts.core.errors import CineError
from scripts.core.json_files import write_json
from scripts.exams.phantom import PHANTOM, is_phantom
from scripts.measures.temporal import sudden_frames
from scripts.measures.ventricles import function_of_volumes, without_function
from scripts.quality.coverage import coverage_flags
from scripts.quality.direction import DOUBTFUL, is_doubtful
from scripts.quality.flags import FEW_SLICES, FIELD, IMPLAUSIBLE, SPACING, SUDDEN, Flag, log_flags, spatial_flags
from scripts.quality.image_check import AXES, DOUBTS, GAPS, IMAGE_DOUBTS, INVERTED, STILL
from scripts.quality.plausibility import edv_doubt, field_doubt

MIN_EXTENT_MM = 40.0
"""A shorter stack cannot contain a whole ventricle: the hearts of ACDC are 50 to 110 mm long."""

UNITS = {"volume": "ml", "mass": "g", "ef": "%", "frames": "counted from 1"}


def volume_ml(labels: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """Volume of each structure (ml) in labels H W D with voxels of ``spacing_mm``."""
    voxel_ml = float(np.prod(np.asarray(spacing_mm, dtype=np.float64))) / 1000.0
    return {name: int(np.count_nonzero(labels == label)) * voxel_ml for name, label in STRUCTURES.items()}


def cardiac_function(
    labels_THWD: np.ndarray,
    spacing_mm: Sequence[float],
    ed: int | None = None,
    es: int | None = None,
    all_parts_THWD: np.ndarray | None = None,
    blank: Collection[int] = (),
    affine: np.ndarray | None = None,
    doubts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The volumes of every frame and the values derived from them; unknown values are None, with ``reasons``.

    Args:
        labels_THWD: integer labels as in STRUCTURES.
        spacing_mm: voxel size along H, W and D (mm).
        ed: the end-diastolic frame, counted from 1; None finds it: the largest LV.
        es: the end-systolic frame, counted from 1; None finds it: the smallest LV that is not empty.
        all_parts_THWD: the labels before only the largest part of each structure was kept; they show fragments.
        blank: frames, counted from 1, without contrast: neither ED nor ES is searched in them.
        affine: 4x4, voxel indices of the labels to RAS (mm); if the labels contradict it, a flag is added.
        doubts: flags from header and image, each with its explanation.

    Returns:
        frames, ed_frame, es_frame, volumes_ml (structure -> one value per frame), LV and RV (edv_ml, esv_ml, sv_ml,
        ef_percent), myocardial_mass_g (at ED), reasons (key -> why it is None), flags. Flags are those of
        ``flags.EXPLAINED``, "no contrast", "missing" and "fragments", each with its frame and structure, if any.

    Raises:
        CineError: ``ed`` or ``es`` is not a frame of the cine.
    """
    labels_THWD = np.asarray(labels_THWD)
    frames = len(labels_THWD)
    for name, frame in (("ed", ed), ("es", es)):
        if frame is not None and not 1 <= frame <= frames:
            raise CineError(name, f"frame {frame}", f"a frame from 1 to {frames}", f"Correct {name}, or leave it out.")
    per_frame = [volume_ml(labels_HWD, spacing_mm) for labels_HWD in labels_THWD]
    volumes = {name: [frame[name] for frame in per_frame] for name in STRUCTURES}
    reasons: dict[str, str] = {}
    ed, es = _phases(volumes["LV"], ed, es, blank, reasons)
    sudden = sudden_frames(volumes)
    implausible: list[str] = []
    function = function_of_volumes(volumes, ed, es, reasons, sudden, implausible)
    doubts = dict(doubts or {})
    if wrong_field := field_doubt(labels_THWD.shape[1:], spacing_mm):
        doubts[FIELD] = wrong_field
    if (extent_mm := _extent_mm(labels_THWD, spacing_mm)) < MIN_EXTENT_MM:
        doubts[FEW_SLICES] = f"a stack of {extent_mm:.3g} mm cannot contain a whole ventricle"
    else:
        largest = (ed or 1 + int(np.argmax(volumes["LV"]))) - 1
        smallest_HWD = None if es is None or es - 1 == largest else labels_THWD[es - 1]
        doubts |= dict.fromkeys(coverage_flags(labels_THWD[largest], smallest_HWD, spacing_mm), "")
    if affine is not None and is_doubtful(labels_THWD, affine):
        doubts[DOUBTFUL] = ""
    flags: list[Flag] = [{"flag": flag} for flag in doubts]
    flags += [{"flag": "no contrast", "frame": frame} for frame in sorted(blank)]
    flags += spatial_flags(labels_THWD if all_parts_THWD is None else np.asarray(all_parts_THWD), volumes)
    flags += [{"flag": SUDDEN, "structure": name, "frame": frame} for name, found in sudden.items() for frame in found]
    no_scale = _no_scale(doubts, max(volumes["LV"]))
    if why := no_scale or next((doubts[flag] for flag in (FEW_SLICES, INVERTED, STILL, GAPS) if flag in doubts), ""):
        function, withheld = without_function(function, why)
        reasons |= withheld
    else:
        flags += [{"flag": IMPLAUSIBLE, "structure": name} for name in implausible]
    if no_scale:
        reasons["volumes_ml"] = no_scale
    return {
        "frames": frames,
        "ed_frame": ed,
        "es_frame": es,
        "volumes_ml": {name: [None] * frames for name in volumes} if no_scale else volumes,
        **function,
        "reasons": reasons,
        "flags": flags,
    }


def _extent_mm(labels_THWD: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Length of the stack across its slices (mm)."""
    axis = slice_axis(np.asarray(spacing_mm, dtype=float), labels_THWD.shape[1:])
    return float(labels_THWD.shape[1 + axis] * spacing_mm[axis])


def _no_scale(doubts: Mapping[str, str], largest_lv_ml: float) -> str:
    """Why measurements cannot be given in ml; empty if they can."""
    if why := doubts.get(AXES) or doubts.get(FIELD):
        return why
    implausible = edv_doubt("LV", largest_lv_ml)
    return f"{doubts[SPACING]}; found {implausible}" if SPACING in doubts and implausible else ""


def function_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """``cardiac_function`` of ``item["pred"]`` (T H W D, in the order of the file ``item["source"]``).

    Fragments, blank frames and doubts about the image are flagged if the item has ``all_parts``, the metadata of
    ``image`` and ``doubts``.

    Raises:
        CineError: the labels and the file differ in shape.
    """
    header = read_header(item["source"])
    labels_THWD = np.asarray(item["pred"])
    if labels_THWD.shape != (header.frames, *header.shape):
        raise CineError(
            header.path,
            f"labels of shape {labels_THWD.shape}",
            f"{(header.frames, *header.shape)} (T H W D), like the image",
            "Invert the spatial transforms before the results are written.",
        )
    constant = getattr(item.get("image"), "meta", {}).get(CONSTANT, ())
    blank = [frame for frame, is_constant in enumerate(constant, start=1) if is_constant]
    doubts = {flag: text for flag, text in IMAGE_DOUBTS.items() if flag in item.get(DOUBTS, "").split(", ")}
    if header.spacing_doubt:
        doubts[SPACING] = header.spacing_doubt
    function = cardiac_function(
        labels_THWD,
        header.spacing_mm,
        all_parts_THWD=item.get("all_parts"),
        blank=blank,
        affine=header.affine,
        doubts=doubts,
    )
    if is_phantom(header.path):
        function["flags"].insert(0, {"flag": PHANTOM})
    if len(header.file_shape) == 2:
        function["volumes_ml"] = {name: [None] for name in STRUCTURES}
        function["reasons"]["volumes_ml"] = "a 2D image has no slice thickness"
    return function


def save_function(item: Mapping[str, Any], path: str | Path) -> None:
    """Write ``function_of`` the item as JSON, and log its flags."""
    header, function = read_header(item["source"]), function_of(item)
    log_flags(function["flags"], header.path)
    write_json(path, {"image": header.path.name, "units": UNITS, "spacing_mm": header.spacing_mm, **function})


def _phases(
    lv_ml: list[float], ed: int | None, es: int | None, blank: Collection[int], reasons: dict[str, str]
) -> tuple[int | None, int | None]:
    filled = [frame for frame, volume in enumerate(lv_ml, start=1) if volume and frame not in blank]
    nowhere = "no LV in any frame" + (" with contrast" if blank else "")
    unknown = "only one frame" if len(lv_ml) == 1 else nowhere if not filled else None
    if ed is None and unknown is None:
        ed = max(filled, key=lambda frame: lv_ml[frame - 1])
    if es is None and unknown is None:
        es = min(filled, key=lambda frame: lv_ml[frame - 1])
    for key, frame in (("ed_frame", ed), ("es_frame", es)):
        if frame is None and unknown is not None:
            reasons[key] = unknown
    return ed, es
