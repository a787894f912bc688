"""The level of a slice in the heart: base, middle or apex."""

from __future__ import annotations

import numpy as np

LEVELS = ("base", "middle", "apex")


def labelled_slices(labels: np.ndarray) -> np.ndarray:
    """Indices of the slices (last axis) with a label, base first.

    Headers do not say which end is the base. The heart is wide there, so the half of the stack with more labelled
    voxels is the basal one. In ACDC that is the first half of every labelled volume.
    """
    areas = np.count_nonzero(labels, axis=tuple(range(labels.ndim - 1)))
    filled = np.flatnonzero(areas)
    half = len(filled) // 2
    basal, apical = areas[filled[:half]].sum(), areas[filled[len(filled) - half :]].sum()
    return filled[::-1] if basal < apical else filled


def slices_by_level(labels_HWD: np.ndarray) -> dict[str, list[int]]:
    """Level -> indices of its slices: thirds of the labelled slices, along the heart's long axis.

    The n labelled slices are counted k = 0..n-1 from the base. Each belongs to the third that contains its centre, at
    (k + 1/2) / n of the way. So a single slice is middle, and of two slices one is base and one apex. Slices without a
    label, also between labelled ones, have no level. Equal thirds: Cerqueira et al., Circulation 2002;105:539-542.
    """
    levels: dict[str, list[int]] = {level: [] for level in LEVELS}
    stack = labelled_slices(labels_HWD).tolist()
    for k, index in enumerate(stack):
        levels[LEVELS[3 * (2 * k + 1) // (2 * len(stack))]].append(index)
    return levels
