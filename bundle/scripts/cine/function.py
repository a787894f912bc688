"""What the heart does: volumes (ml) of every frame, ejection fraction (%), myocardial mass (g), and doubts."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.cine import STRUCTURES
from scripts.cine.direction import DOUBT, DOUBTFUL, is_doubtful
from scripts.cine.header import read_header
from scripts.cine.phantom import PHANTOM, is_phantom
from scripts.cine.quality import find_parts
from scripts.cine.reader import CONSTANT
from scripts.cine.transforms import slice_axis
from scripts.files import CineError, write_json

logger = logging.getLogger(__name__)

MYOCARDIAL_DENSITY = 1.05
"""g/ml"""
SUDDEN_SHARE = 0.4
"""A change between neighbouring frames beyond this share of the structure's largest volume is flagged."""
CINE_FRAMES = 5
"""Fewer frames are no time series whose changes could be judged."""

FEW_SLICES = "few slices"
MIN_EXTENT_MM = 40.0
"""A shorter stack holds no whole ventricle: the hearts of ACDC are 50 to 110 mm long."""

UNITS = {"volume": "ml", "mass": "g", "ef": "%", "frames": "counted from 1"}


def volume_ml(labels: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """Volume of each structure (ml) in labels H W D whose voxels measure ``spacing_mm``."""
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
) -> dict[str, Any]:
    """Volumes of every frame and what follows from them; what cannot be told is None, and ``reasons`` says why.

    Args:
        labels_THWD: integer labels as in STRUCTURES.
        spacing_mm: voxel size along H, W and D (mm).
        ed: the end-diastolic frame, counted from 1; None finds it: the largest LV.
        es: the end-systolic frame, counted from 1; None finds it: the smallest LV that is there.
        all_parts_THWD: the labels before all but the largest part of each structure were cleared: there fragments show.
        blank: frames, counted from 1, whose image shows nothing: neither ED nor ES is looked for in them.
        affine: 4x4, voxel indices of the labels to RAS (mm); where the labels contradict it, a flag says so.

    Returns:
        frames, ed_frame, es_frame, volumes_ml (structure -> one value a frame), LV and RV (edv_ml, esv_ml, sv_ml,
        ef_percent), myocardial_mass_g (at ED), reasons (key -> why it is None), flags ("orientation doubtful" and "few
        slices" of the exam; the others with frame and, but for "no contrast", structure).

    Raises:
        CineError: ``ed`` or ``es`` is no frame of the cine.
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
    doubtful = affine is not None and is_doubtful(labels_THWD, affine)
    flags: list[dict[str, Any]] = [{"flag": DOUBTFUL}] if doubtful else []
    flags += [{"flag": "no contrast", "frame": frame} for frame in sorted(blank)]
    flags += _spatial_flags(labels_THWD if all_parts_THWD is None else np.asarray(all_parts_THWD), volumes)
    flags += _temporal_flags(volumes)
    flags += [{"flag": FEW_SLICES}] if (extent_mm := _extent_mm(labels_THWD, spacing_mm)) < MIN_EXTENT_MM else []
    sudden = {(flag["structure"], flag["frame"]) for flag in flags if flag["flag"] == "sudden change"}
    function = function_of_volumes(volumes, ed, es, reasons, sudden)
    if extent_mm < MIN_EXTENT_MM:
        function, short = _without_function(function, f"a stack of {extent_mm:.3g} mm holds no whole ventricle")
        reasons = {**short, **reasons}
    return {
        "frames": frames,
        "ed_frame": ed,
        "es_frame": es,
        "volumes_ml": volumes,
        **function,
        "reasons": reasons,
        "flags": flags,
    }


def function_of_volumes(
    volumes_ml: Mapping[str, Sequence[float]],
    ed: int | None,
    es: int | None,
    reasons: dict[str, str],
    sudden: Collection[tuple[str, int]] = (),
) -> dict[str, Any]:
    """What follows from the volumes at ED and ES: LV and RV (edv_ml, esv_ml, sv_ml, ef_percent), myocardial_mass_g.

    Args:
        volumes_ml: structure -> one value a frame.
        ed, es: frames, counted from 1; where one is None, ``reasons`` holds why, under "ed_frame" and "es_frame".
        reasons: takes up why a value is None.
        sudden: structures and frames in which the volume jumps.
    """
    ventricles = {name: _ventricle(name, volumes_ml[name], ed, es, sudden, reasons) for name in ("LV", "RV")}
    mass = None
    if ed is None:
        reasons["myocardial_mass_g"] = reasons["ed_frame"]
    elif not volumes_ml["MYO"][ed - 1]:
        reasons["myocardial_mass_g"] = "no MYO at ED"
    else:
        mass = volumes_ml["MYO"][ed - 1] * MYOCARDIAL_DENSITY
    return {**ventricles, "myocardial_mass_g": mass}


def _extent_mm(labels_THWD: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Length of the stack through its slices."""
    axis = slice_axis(np.asarray(spacing_mm, dtype=float), labels_THWD.shape[1:])
    return float(labels_THWD.shape[1 + axis] * spacing_mm[axis])


def _without_function(function: Mapping[str, Any], reason: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The same keys without values, and the reason of each."""
    empty = {name: dict.fromkeys(value) if isinstance(value, dict) else None for name, value in function.items()}
    keys = [f"{name}.{key}" for name, value in empty.items() if value for key in value]
    return empty, dict.fromkeys([*keys, "myocardial_mass_g"], reason)


def save_function(item: Mapping[str, Any], path: str | Path) -> None:
    """Write the function of ``item["pred"]`` (T H W D, in the order of the file ``item["source"]``) as JSON.

    Where there are ``item["all_parts"]`` and the metadata of ``item["image"]``, fragments and blank frames are flagged.
    """
    header = read_header(item["source"])
    labels_THWD = np.asarray(item["pred"])
    if labels_THWD.shape != (header.frames, *header.shape):
        raise CineError(
            header.path,
            f"labels of shape {labels_THWD.shape}",
            f"{(header.frames, *header.shape)} (T H W D), as the image",
            "Invert the spatial transforms before the results are written.",
        )
    constant = getattr(item.get("image"), "meta", {}).get(CONSTANT, ())
    blank = [frame for frame, is_constant in enumerate(constant, start=1) if is_constant]
    all_parts_THWD = item.get("all_parts")
    function = cardiac_function(
        labels_THWD, header.spacing_mm, all_parts_THWD=all_parts_THWD, blank=blank, affine=header.affine
    )
    if is_phantom(header.path):
        function["flags"].insert(0, {"flag": PHANTOM})
    if {"flag": DOUBTFUL} in function["flags"]:
        logger.warning("%s: %s", DOUBTFUL, DOUBT)
        logger.debug("%s is the file whose orientation is doubtful", header.path)
    if len(header.file_shape) == 2:
        function["volumes_ml"] = {name: [None] for name in STRUCTURES}
        function["reasons"]["volumes_ml"] = "a 2D image has no slice thickness"
    write_json(path, {"image": header.path.name, "units": UNITS, "spacing_mm": header.spacing_mm, **function})


def _phases(
    lv_ml: list[float], ed: int | None, es: int | None, blank: Collection[int], reasons: dict[str, str]
) -> tuple[int | None, int | None]:
    filled = [frame for frame, volume in enumerate(lv_ml, start=1) if volume and frame not in blank]
    nowhere = "no LV in any frame" + (" that shows something" if blank else "")
    unknown = "one frame only" if len(lv_ml) == 1 else nowhere if not filled else None
    if ed is None and unknown is None:
        ed = max(filled, key=lambda frame: lv_ml[frame - 1])
    if es is None and unknown is None:
        es = min(filled, key=lambda frame: lv_ml[frame - 1])
    for key, frame in (("ed_frame", ed), ("es_frame", es)):
        if frame is None and unknown is not None:
            reasons[key] = unknown
    return ed, es


def _ventricle(
    name: str,
    volumes: Sequence[float],
    ed: int | None,
    es: int | None,
    sudden: Collection[tuple[str, int]],
    reasons: dict[str, str],
) -> dict[str, float | None]:
    result: dict[str, float | None] = dict.fromkeys(("edv_ml", "esv_ml", "sv_ml", "ef_percent"))
    for key, phase, frame in (("edv_ml", "ed", ed), ("esv_ml", "es", es)):
        if frame is None:
            reasons[f"{name}.{key}"] = reasons[f"{phase}_frame"]
        elif not volumes[frame - 1]:
            reasons[f"{name}.{key}"] = f"no {name} at {phase.upper()}"
        else:
            result[key] = volumes[frame - 1]
    edv, esv = result["edv_ml"], result["esv_ml"]
    if edv is None or esv is None:
        doubt = reasons[f"{name}.edv_ml" if edv is None else f"{name}.esv_ml"]
    elif ed == es:
        doubt = "ED and ES are the same frame"
    elif jumped := [frame for frame in (ed, es) if (name, frame) in sudden]:
        doubt = f"the volume jumps at frame {jumped[0]}: a frame that was segmented badly is no ED or ES"
    elif esv > edv:
        doubt = "the volume at ES is above that at ED"
    else:
        return {**result, "sv_ml": edv - esv, "ef_percent": 100.0 * (edv - esv) / edv}
    reasons[f"{name}.sv_ml"] = reasons[f"{name}.ef_percent"] = doubt
    return result


def _spatial_flags(labels_THWD: np.ndarray, volumes: dict[str, list[float]]) -> list[dict[str, Any]]:
    flags = []
    for frame, labels_HWD in enumerate(labels_THWD, start=1):
        parts = find_parts(labels_HWD)
        for name in volumes:
            where = {"structure": name, "frame": frame}
            if not volumes[name][frame - 1]:
                flags.append({"flag": "missing", **where})
            elif parts.fragmented(name):
                flags.append({"flag": "fragments", **where})
    return flags


def _temporal_flags(volumes: dict[str, list[float]]) -> list[dict[str, Any]]:
    flags = []
    for name, curve in volumes.items():
        if len(curve) >= CINE_FRAMES:
            jumps = np.abs(np.diff(curve)) > SUDDEN_SHARE * max(curve)
            flags += [{"flag": "sudden change", "structure": name, "frame": int(i) + 2} for i in np.flatnonzero(jumps)]
    return flags
