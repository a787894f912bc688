"""Check a header's directions against the segmented heart: the RV lies to the right and front of the LV."""

from __future__ import annotations

import math

import numpy as np

from scripts.cine import STRUCTURES
from scripts.cine.transforms import slice_axis

DOUBTFUL = "orientation doubtful"
DOUBT = "by the header's directions, the RV lies on an impossible side of the LV. Masks and volumes stay valid"
TOWARDS_RV = np.array([math.cos(math.radians(20)), math.sin(math.radians(20)), 0.0])
"""The direction from LV to RV in RAS: right, and slightly to the front. docs/decisions.md has the measured values."""
MIN_SHARE = 0.3
"""Slices count if the RV's area is at least this share of the LV cavity's: near the apex, thin parts lie anywhere."""
MIN_DISTANCE_MM = 10.0
"""The centres of RV and LV are at least 28 mm apart (ACDC); much nearer centres give no direction."""


def rv_direction(labels_THWD: np.ndarray, affine: np.ndarray) -> np.ndarray | None:
    """The vector from the LV's centre to the RV's, RAS in mm: the mean over all slices, weighted by the RV's area.

    It is computed slice by slice, so that a tilt of the long axis does not matter; slices with little RV do not count.

    Args:
        labels_THWD: labels as in STRUCTURES, in the order of the file, on any axes.
        affine: 4x4, voxel indices to RAS (mm).

    Returns:
        The vector, or None if no slice has both ventricles: then the directions cannot be checked.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    through = slice_axis(spacing, labels_THWD.shape[1:])
    first, second = (axis for axis in range(3) if axis != through)
    stack = np.moveaxis(labels_THWD, 1 + through, -1)
    rv_area, rv_centres = _centres(stack == STRUCTURES["RV"])
    lv_area, lv_centres = _centres(stack == STRUCTURES["LV"])
    weights = np.where((lv_area > 0) & (rv_area >= MIN_SHARE * lv_area), rv_area, 0)
    if not weights.any():
        return None
    steps = [np.average(rv - lv, weights=weights) for rv, lv in zip(rv_centres, lv_centres, strict=True)]
    return affine[:3, first] * steps[0] + affine[:3, second] * steps[1]


def is_doubtful(labels_THWD: np.ndarray, affine: np.ndarray) -> bool:
    """Whether the RV lies where it cannot be by these directions; see ``rv_direction``.

    It detects wrong signs of both x and y, and of only x. It does not detect a wrong sign of only y, which moves the RV
    too little.
    """
    towards = rv_direction(labels_THWD, affine)
    if towards is None or np.linalg.norm(towards) < MIN_DISTANCE_MM:
        return False
    return bool(towards @ TOWARDS_RV < 0)


def _centres(mask_THWD: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Voxels of each slice, T D, and their mean row and column (0 if there are none)."""
    area_TD = np.count_nonzero(mask_THWD, axis=(1, 2))
    rows = np.einsum("thd,h->td", np.count_nonzero(mask_THWD, axis=2), np.arange(mask_THWD.shape[1]))
    columns = np.einsum("twd,w->td", np.count_nonzero(mask_THWD, axis=1), np.arange(mask_THWD.shape[2]))
    voxels_TD = np.maximum(area_TD, 1)
    return area_TD, (rows / voxels_TD, columns / voxels_TD)
