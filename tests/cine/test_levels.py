from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from scripts.cine.levels import labelled_slices, slices_by_level


def stack(*areas: int) -> np.ndarray:
    """H W D with the given number of labelled voxels in each slice."""
    labels = np.zeros((4, 5, len(areas)), np.uint8)
    for d, area in enumerate(areas):
        labels.reshape(20, -1)[:area, d] = 1 + d % 3
    return labels


@pytest.mark.parametrize(
    ("count", "base", "middle", "apex"),
    [
        (1, [], [0], []),
        (2, [0], [], [1]),
        (3, [0], [1], [2]),
        (4, [0], [1, 2], [3]),  # centres at 1/8, 3/8, 5/8 and 7/8 of the way
        (5, [0, 1], [2], [3, 4]),
        (6, [0, 1], [2, 3], [4, 5]),
        (7, [0, 1], [2, 3, 4], [5, 6]),
        (8, [0, 1, 2], [3, 4], [5, 6, 7]),
    ],
)
def test_thirds_by_hand(count, base, middle, apex):
    assert slices_by_level(stack(*range(20, 20 - count, -1))) == {"base": base, "middle": middle, "apex": apex}


def test_slices_without_a_label_belong_to_no_level():
    levels = slices_by_level(stack(0, 0, 9, 0, 8, 0, 0, 7, 0))
    assert levels == {"base": [2], "middle": [4], "apex": [7]}
    assert slices_by_level(stack(0, 0, 0)) == {"base": [], "middle": [], "apex": []}


def test_base_is_the_wide_end_also_for_reversed_slices():
    assert slices_by_level(stack(0, 2, 4, 6, 8)) == {"base": [4], "middle": [3, 2], "apex": [1]}
    assert labelled_slices(stack(3, 0, 3)).tolist() == [0, 2]  # equal ends: the stored order


def test_acdc_s_first_slice_is_the_base(acdc_dir):
    """In every labelled volume the wide end comes first, and no slice between labelled ones lacks a label."""
    files = sorted(acdc_dir.glob("patient*/*_frame*_gt.nii.gz"))
    assert files
    for path in files:
        slices = labelled_slices(np.asarray(nib.load(path).dataobj))
        assert slices.tolist() == list(range(slices[0], slices[0] + len(slices))), path
