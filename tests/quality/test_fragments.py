from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import KeepLargestConnectedComponent
from scipy import ndimage

from scripts.quality.fragments import find_parts, keep_heart


def part_sizes(mask):
    parts, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    return parts, np.bincount(parts.ravel())[1:]


def blocks(rng):
    """Labels of ragged blocks, some of which touch; the largest part of each structure is unique."""
    while True:
        drawn = rng.integers(1, 4, (10, 10, 3)) * (rng.random((10, 10, 3)) < 0.08)
        labels = np.kron(drawn, np.ones((4, 4, 2), int)).astype(np.uint8)
        labels[rng.random(labels.shape) < 0.1] = 0
        heart, sizes = part_sizes(labels > 0)
        within = [part_sizes((heart == 1 + sizes.argmax()) & (labels == label))[1] for label in (1, 2, 3)]
        if len(sizes) > 1 and all(np.count_nonzero(of == of.max(initial=0)) < 2 for of in (sizes, *within)):
            return labels


@pytest.mark.parametrize("seed", range(8))
def test_the_heart_and_the_largest_parts_equal_monai_s(seed):
    labels = blocks(np.random.default_rng(seed))
    expected = labels[None].copy()
    for independent in (False, True):
        expected = KeepLargestConnectedComponent([1, 2, 3], independent=independent)(expected)
    keep_heart(labels, find_parts(labels))
    np.testing.assert_array_equal(labels, np.asarray(expected)[0])


def test_a_liver_larger_than_the_myocardium_is_removed():
    heart = np.zeros((20, 20, 3), np.uint8)
    heart[2:10, 2:10] = 2
    heart[3:9, 3:9] = 3
    labels = heart.copy()
    labels[12:18, 12:19] = 2  # 126 voxels of myocardium; the heart has 84
    keep_heart(labels, find_parts(labels))
    np.testing.assert_array_equal(labels, heart)


def test_parts_that_touch_the_heart_at_a_corner_belong_to_it():
    labels = np.zeros((4, 4, 2), np.uint8)
    labels[0, 0, 0], labels[1, 1, 1] = 1, 3
    keep_heart(labels, find_parts(labels))
    assert np.count_nonzero(labels) == 2


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, ">i2"])
def test_a_line_in_a_larger_mask_is_labelled_correctly(axis, dtype):
    whole = np.zeros((9, 8, 7), dtype)
    line = np.moveaxis(whole, axis, 0)[1:7, 2:3, 3:4]
    line[:, 0, 0] = [3, 3, 3, 0, 1, 1]
    labels = np.moveaxis(line, 0, axis)
    parts = find_parts(labels)
    assert sorted(zip(parts.labels, parts.voxels, strict=True)) == [(0, 0), (1, 2), (3, 3)]
    keep_heart(labels, parts)
    assert np.count_nonzero(whole) == 3


def test_an_empty_mask_stays_empty():
    labels = np.zeros((3, 3, 2), np.uint8)
    keep_heart(labels, find_parts(labels))
    assert not labels.any()


def test_a_structure_outside_the_heart_is_removed():
    labels = np.zeros((9, 9, 2), np.uint8)
    labels[:4, :4], labels[7:, 7:] = 3, 1
    keep_heart(labels, find_parts(labels))
    assert set(np.unique(labels)) == {0, 3}
