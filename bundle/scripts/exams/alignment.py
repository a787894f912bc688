"""Whether labels lie where their images show a heart: blood is bright in cine MRI, and myocardium is dark."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from scripts.cine import STRUCTURES
from scripts.cine.reader import read_volume
from scripts.exams.reference import Exam, Mapped, read_structures

logger = logging.getLogger(__name__)
MIN_BRIGHTER = 0.85
"""Mean share of LV voxels that are brighter than the median of MYO.

In draws of 12 of ACDC's 200 exams it is at least 0.90. Where labels are flipped along an axis in plane, 999 of 1,000
draws are below 0.83."""
SAMPLE = 12


def warn_of_alignment(exams: Sequence[Exam], mapped: Mapped) -> None:
    """Log it if labels do not lie on the hearts of their images, for example because one of the two was flipped.

    Args:
        exams: of one data set; it looks at SAMPLE of them.
        mapped: value in the label files -> structure.
    """
    shares = [_brighter(exam, mapped) for exam in exams[:: -(-len(exams) // SAMPLE)]]
    known = [share for share in shares if share is not None]
    if known and np.mean(known) < MIN_BRIGHTER:
        logger.warning(
            "The labels may not lie on the hearts of their images: only %.0f %% of the LV is brighter than the "
            "myocardium, but 90 %% or more is usual. Check that images and labels are not flipped, turned or mixed up",
            100 * np.mean(known),
        )


def _brighter(exam: Exam, mapped: Mapped) -> float | None:
    """The share of an exam; None where its label lacks LV or MYO."""
    label_HWD = read_structures(exam, mapped)
    image_HWD = read_volume(exam["image"], exam.get("frame"))[0][0]
    lv, myo = (image_HWD[label_HWD == STRUCTURES[name]] for name in ("LV", "MYO"))
    return float(np.mean(lv > np.median(myo))) if lv.size and myo.size else None
