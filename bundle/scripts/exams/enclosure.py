"""Check the order of label values: myocardium encloses the LV's cavity, and no other structure encloses another."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

import numpy as np

from scripts.cine import STRUCTURES
from scripts.cine.header import read_header
from scripts.cine.transforms import slice_axis
from scripts.exams.reference import Exam, Mapped, read_structures

logger = logging.getLogger(__name__)
ENCLOSED, NOT_ENCLOSED = 0.8, 0.6
"""The minimum share of its surroundings with which a structure encloses another; the maximum with which it does not.

In ACDC's 200 exams, MYO is at least 0.98 of the surroundings of the LV; for all other pairs, the maximum is 0.46."""
SAMPLE = 5
_CLASSES = 1 + len(STRUCTURES)


def warn_of_order(exams: Sequence[Exam], mapped: Mapped) -> bool:
    """Log a label_map that would fit, if in some exams a pair other than MYO and LV is enclosing and enclosed.

    Args:
        exams: exams of one data set; SAMPLE of them are checked.
        mapped: value in the label files -> structure.

    Returns:
        Whether there is such a label_map.
    """
    counts = np.zeros((_CLASSES, _CLASSES), int)
    for exam in exams[:: -(-len(exams) // SAMPLE)]:
        label_HWD, spacing_mm = read_structures(exam, mapped), read_header(exam["label"]).spacing_mm
        counts += count_contacts(label_HWD, slice_axis(np.asarray(spacing_mm), label_HWD.shape))
    order = enclosing_order(counts)
    if order is not None:
        mended = {str(value): order.get(target, target) for value, target in mapped.items() if value or target}
        text = "The label values seem to have another order, since MYO does not enclose LV in these labels: %s"
        logger.warning(text, f'try --label_map "{mended}"')
    return order is not None


def count_contacts(label_HWD: np.ndarray, through: int) -> np.ndarray:
    """Counts of neighbouring voxels of two values, 4 x 4, in the planes perpendicular to the axis ``through``."""
    counts = np.zeros((_CLASSES, _CLASSES), int)
    for axis in {0, 1, 2} - {through}:
        moved = np.moveaxis(label_HWD, axis, 0)
        pairs = _CLASSES * moved[:-1] + moved[1:]
        counts += np.bincount(pairs.ravel(), minlength=_CLASSES**2).reshape(_CLASSES, _CLASSES)
    counts += counts.T
    np.fill_diagonal(counts, 0)
    return counts


def enclosing_order(counts: np.ndarray) -> dict[int, int] | None:
    """Structure as read -> the correct structure, if a pair other than MYO and LV is ring and cavity; else None."""
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    lv, myo = STRUCTURES["LV"], STRUCTURES["MYO"]
    cavity, ring = max(itertools.permutations(STRUCTURES.values(), 2), key=lambda pair: shares[pair])
    if shares[cavity, ring] < ENCLOSED or shares[lv, myo] > NOT_ENCLOSED:
        return None
    (third,) = set(STRUCTURES.values()) - {cavity, ring}
    return {cavity: lv, ring: myo, third: STRUCTURES["RV"]}
