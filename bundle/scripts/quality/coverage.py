"""Check that a stack contains the whole heart: masks cut off at its ends, hearts too short, slices far apart.

Complete stacks of real exams also end within the heart: the LV reaches the basal end at ED in 95 of 100 exams of ACDC.
So each rule requires more than contact. docs/decisions.md gives how often each rule fires on whole and on cut stacks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scripts.cine import STRUCTURES
from scripts.cine.levels import labelled_slices
from scripts.cine.transforms import slice_axis

APEX_CUT, BASE_CUT, SIDE_CUT = "apex cut off", "base cut off", "side cut off"
SHORT_HEART, LONG_HEART, FAR_APART = "heart too short", "heart too long", "slices far apart"
COVERAGE = {
    APEX_CUT: "the LV is still large in the last slice: volumes and mass may be too small",
    BASE_CUT: "the ventricles fill the first slice at ED and at ES: volumes and mass may be too small",
    SIDE_CUT: "the heart lies at the image's edge in plane: volumes and mass may be too small",
    SHORT_HEART: "the LV is too short for its width: slices are missing, or the distance of slices is wrong",
    LONG_HEART: "the LV is too long for its width: the spacing is wrong, as after resizing an image",
    FAR_APART: "the heart between the slices is not visible: volumes and mass are coarse",
}
"""Flag -> its meaning."""
APEX_SHARE = 0.4
"""Area of the LV's cavity at ED in the slice at the apical end, divided by the largest area."""
BASE_SHARE = 0.6
"""Area of the RV at ES in the basal end slice, divided by the largest; in whole hearts the base has moved out there."""
BASE_LENGTH, MIN_LENGTH = 0.9, 0.8
"""Length of the LV with its wall divided by its width: for a heart that reaches the basal end, and for any heart."""
MAX_LENGTH = 1.8
"""The same ratio: 0.72 to 1.5 in ACDC's 100 exams."""
SIDE_SHARE = 0.02
"""Voxels of the heart at the image's in-plane edge, divided by all its voxels: none in ACDC's 100 exams."""
MAX_DISTANCE_MM = 12.0
"""Distance of slices: protocols have 6 to 10 mm, including gaps."""


def coverage_flags(ed_HWD: np.ndarray, es_HWD: np.ndarray | None, spacing_mm: Sequence[float]) -> list[str]:
    """The flags of COVERAGE for an exam.

    Args:
        ed_HWD: labels at ED, or of the only frame.
        es_HWD: labels at ES; None if there are none: then it is unknown whether the base is cut off.
        spacing_mm: voxel size along H, W and D (mm).
    """
    axis = slice_axis(np.asarray(spacing_mm, dtype=float), ed_HWD.shape)
    if ed_HWD.shape[axis] == 1:
        return []
    distance_mm = spacing_mm[axis]
    pixel_mm2 = float(np.prod(spacing_mm)) / distance_mm
    flags = [FAR_APART] if distance_mm > MAX_DISTANCE_MM else []
    ed_HWD = np.moveaxis(ed_HWD, axis, -1)
    heart = np.count_nonzero(ed_HWD)
    if heart and 1 - np.count_nonzero(ed_HWD[1:-1, 1:-1]) / heart > SIDE_SHARE:
        flags.append(SIDE_CUT)
    wall = np.isin(ed_HWD, (STRUCTURES["MYO"], STRUCTURES["LV"]))
    lv, outer = (np.count_nonzero(mask, axis=(0, 1)) for mask in (ed_HWD == STRUCTURES["LV"], wall))
    if not lv.any():
        return flags
    stack = labelled_slices(ed_HWD)
    base, apex, ends = stack[0], stack[-1], (0, len(lv) - 1)
    if apex in ends and lv[apex] > APEX_SHARE * lv.max():
        flags.append(APEX_CUT)
    length = np.count_nonzero(outer) * distance_mm / (2 * np.sqrt(outer.max() * pixel_mm2 / np.pi))
    rv_at_es = _areas(es_HWD, axis, STRUCTURES["RV"]) if es_HWD is not None else np.zeros(1)
    if base in ends and rv_at_es.any() and rv_at_es[base] > BASE_SHARE * rv_at_es.max() and length < BASE_LENGTH:
        flags.append(BASE_CUT)
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        flags.append(SHORT_HEART if length < MIN_LENGTH else LONG_HEART)
    return flags


def _areas(labels_HWD: np.ndarray, axis: int, label: int) -> np.ndarray:
    """Voxels of a label in each slice."""
    return np.count_nonzero(np.moveaxis(labels_HWD, axis, -1) == label, axis=(0, 1))
