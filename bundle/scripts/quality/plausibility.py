"""Plausible values for a heart and for an image of one. Other values are withheld, with a reason.

The ranges are wide: they include the 100 training exams of ACDC with a margin, small children and the largest hearts.
docs/decisions.md gives the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scripts.cine.transforms import slice_axis

FIELD_MM = (64.0, 600.0)
"""In-plane length of the image: from the smallest heart to the bore of a scanner."""
MAX_STACK_MM = 300.0
"""Length of a stack across its slices: more is longer than a chest."""
EDV_ML = (20.0, 700.0)
EF_PERCENT: Mapping[str, tuple[float, float]] = {"LV": (5.0, 90.0), "RV": (0.0, 90.0)}
"""One of ACDC's failing right ventricles has an ejection fraction of 2 % by its labels."""
MASS_G = (15.0, 600.0)
MYO_SHARE = (0.65, 1.8)
"""Volume of the myocardium at ES divided by that at ED: muscle keeps it, apart from errors of slices and masks."""


def field_doubt(shape: Sequence[int], spacing_mm: Sequence[float]) -> str:
    """Why an image of ``shape`` (H W D) and spacing (mm) cannot show a heart; empty if it can."""
    extent_mm = np.multiply(shape, spacing_mm)
    through = slice_axis(np.asarray(spacing_mm, dtype=float), tuple(shape))
    low, high = FIELD_MM
    found = " x ".join(f"{mm:.3g}" for mm in extent_mm)
    in_plane = np.delete(extent_mm, through)
    if in_plane.min() < low or in_plane.max() > high:
        return f"a field of view of {found} mm, but a heart needs {low:g} to {high:g} mm in plane"
    if extent_mm[through] > MAX_STACK_MM:
        return f"a field of view of {found} mm, but a stack has at most {MAX_STACK_MM:g} mm"
    return ""


def edv_doubt(name: str, edv_ml: float) -> str:
    """Why a ventricle cannot have this end-diastolic volume; empty if it can."""
    low, high = EDV_ML
    return "" if low <= edv_ml <= high else f"{name} of {edv_ml:.3g} ml at ED, but a heart has {low:g} to {high:g} ml"


def ef_doubt(name: str, ef_percent: float) -> str:
    """Why a ventricle cannot have this ejection fraction; empty if it can."""
    low, high = EF_PERCENT[name]
    if low <= ef_percent <= high:
        return ""
    return f"an ejection fraction of {ef_percent:.3g} %, but a living heart has {low:g} to {high:g} %"


def mass_doubt(mass_g: float) -> str:
    """Why a heart cannot have this myocardial mass; empty if it can."""
    low, high = MASS_G
    return "" if low <= mass_g <= high else f"a myocardium of {mass_g:.3g} g, but a heart has {low:g} to {high:g} g"


def myo_doubt(ed_ml: float, es_ml: float) -> str:
    """Why a myocardium cannot have these volumes at ED and ES; empty if it can, or if one is unknown (0)."""
    low, high = MYO_SHARE
    if not ed_ml or low <= es_ml / ed_ml <= high:
        return ""
    return f"a myocardium of {ed_ml:.3g} ml at ED and {es_ml:.3g} ml at ES, but muscle keeps its volume"
