"""What a heart and an image of one can measure. What lies outside is no measurement, and is withheld with a reason.

The ranges are wide: they hold the 100 training exams of ACDC with room to spare, small children and the largest hearts.
docs/decisions.md says what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scripts.cine.transforms import slice_axis

FIELD_MM = (64.0, 600.0)
"""Length of a side of the image in plane: from the smallest heart to the bore of a scanner."""
MAX_STACK_MM = 300.0
"""Length of a stack through its slices: more is longer than a chest."""
EDV_ML = (20.0, 700.0)
EF_PERCENT: Mapping[str, tuple[float, float]] = {"LV": (5.0, 90.0), "RV": (0.0, 90.0)}
"""Of ACDC's right ventricles that fail, one ejects 2 % by its labels."""
MASS_G = (15.0, 600.0)
MYO_SHARE = (0.65, 1.8)
"""Volume of the myocardium at ES over that at ED: muscle keeps its volume, but for what slices and masks lose of it."""


def field_doubt(shape: Sequence[int], spacing_mm: Sequence[float]) -> str:
    """Why an image of ``shape`` (H W D) and spacing (mm) cannot show a heart; empty where it can."""
    extent_mm = np.multiply(shape, spacing_mm)
    through = slice_axis(np.asarray(spacing_mm, dtype=float), tuple(shape))
    low, high = FIELD_MM
    found = " x ".join(f"{mm:.3g}" for mm in extent_mm)
    in_plane = np.delete(extent_mm, through)
    if in_plane.min() < low or in_plane.max() > high:
        return f"a field of view of {found} mm, where {low:g} to {high:g} mm in plane can show a heart"
    if extent_mm[through] > MAX_STACK_MM:
        return f"a field of view of {found} mm, where a stack has at most {MAX_STACK_MM:g} mm"
    return ""


def edv_doubt(name: str, edv_ml: float) -> str:
    """Why a ventricle cannot have this end-diastolic volume; empty where it can."""
    low, high = EDV_ML
    return "" if low <= edv_ml <= high else f"{name} of {edv_ml:.3g} ml at ED, where a heart has {low:g} to {high:g} ml"


def ef_doubt(name: str, ef_percent: float) -> str:
    """Why a ventricle cannot have this ejection fraction; empty where it can."""
    low, high = EF_PERCENT[name]
    if low <= ef_percent <= high:
        return ""
    return f"an ejection fraction of {ef_percent:.3g} %, where a living heart has {low:g} to {high:g} %"


def mass_doubt(mass_g: float) -> str:
    """Why a heart cannot have this myocardial mass; empty where it can."""
    low, high = MASS_G
    return "" if low <= mass_g <= high else f"a myocardium of {mass_g:.3g} g, where a heart has {low:g} to {high:g} g"


def myo_doubt(ed_ml: float, es_ml: float) -> str:
    """Why a myocardium cannot have these volumes at ED and ES; empty where it can, or where one is not known (0)."""
    low, high = MYO_SHARE
    if not ed_ml or low <= es_ml / ed_ml <= high:
        return ""
    return f"a myocardium of {ed_ml:.3g} ml at ED and {es_ml:.3g} ml at ES, where muscle keeps its volume"
