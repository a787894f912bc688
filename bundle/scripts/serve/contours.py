"""Outlines of a mask as MRD attributes, which scanners draw over the image.

Format: https://ismrmrd.readthedocs.io/en/latest/mrd_image_data.html, ROI.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from skimage.measure import find_contours

from scripts.cine import STRUCTURES

_WITHIN = {"RV": ("RV",), "MYO": ("MYO", "LV"), "LV": ("LV",)}
"""What an outline surrounds: that of MYO is the epicardium, that of LV the endocardium."""
_COLOURS = {"RV": (0.0, 0.45, 0.7), "MYO": (0.0, 0.62, 0.45), "LV": (0.84, 0.37, 0.0)}
_THICKNESS, _SOLID, _VISIBLE = 1.0, 0.0, 1.0


def contours(mask_JI: np.ndarray) -> Mapping[str, list[str]]:
    """The outlines in one slice.

    Args:
        mask_JI: labels as in STRUCTURES; I runs along the rows of the image.

    Returns:
        "ROI_RV", "ROI_MYO", "ROI_LV", and "ROI_RV_2" for a second part -> six numbers of style, then x and y of each
        point (voxels; 0, 0 is the centre of the first one), the first point again at the end.
    """
    found: dict[str, list[str]] = {}
    rows, columns = (np.flatnonzero(mask_JI.any(axis)) for axis in (1, 0))
    if not len(rows):
        return found
    top, left = rows[0], columns[0]
    cut = np.pad(mask_JI[top : rows[-1] + 1, left : columns[-1] + 1], 1)  # a closed line also at the border
    for name, inner in _WITHIN.items():
        region = np.isin(cut, [STRUCTURES[structure] for structure in inner])
        lines = sorted(find_contours(region, 0.5), key=len, reverse=True) if region.any() else []
        for number, points in enumerate(lines, start=1):
            style = (*_COLOURS[name], _THICKNESS, _SOLID, _VISIBLE)
            xy = (points[:, ::-1] + (left - 1, top - 1)).ravel()
            key = f"ROI_{name}" if number == 1 else f"ROI_{name}_{number}"
            found[key] = [f"{value:g}" for value in (*style, *xy)]
    return found
