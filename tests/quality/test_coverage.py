"""Cut stacks of a heart with known areas."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.quality.coverage import coverage_flags

SPACING = (2.0, 2.0, 8.0)
ED_RADII = [20.0, 24, 24, 24, 22, 20, 18, 15, 11, 6]  # radius of the LV in mm from base to apex, in 10 slices
WALL, RV_SLICES_AT_ES = 8.0, slice(2, 7)  # at ES the base has moved out of two slices


def heart(scale: float, rv: slice) -> np.ndarray:
    """Labels H W D: an LV of ED_RADII x scale in its wall, and an RV of one size in some slices."""
    x, y = np.meshgrid(np.arange(-30, 30), np.arange(-30, 30), indexing="ij")
    mm = 2 * np.hypot(x, y)
    labels = np.zeros((60, 60, len(ED_RADII)), np.uint8)
    labels[:8, :, rv] = 1
    for depth, radius in enumerate(ED_RADII):
        labels[mm < scale * radius + WALL, depth] = 2
        labels[mm < scale * radius, depth] = 3
    return np.pad(labels, ((1, 1), (1, 1), (0, 0)))


ED, ES = heart(1.0, slice(0, 7)), heart(0.6, RV_SLICES_AT_ES)
# length of the LV with its wall: 10 slices of 8 mm; width 2 x (24 + 8) mm


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (slice(0, 10), set()),
        (slice(0, 9), set()),  # .21 of the largest area
        (slice(0, 7), {"apex cut off"}),  # .56, and 56 mm, .875 of the width
        (slice(0, 6), {"apex cut off", "heart too short"}),  # .69; .75 of the width
        (slice(3, 10), {"base cut off"}),  # .875
        (slice(2, 10), set()),  # as long as it is wide
        ([0, 1, 2, 7, 8, 9], {"heart too short"}),  # middle slices are missing
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_an_incomplete_heart_is_flagged(kept, expected, backwards):
    ed, es = (labels[..., kept][..., :: -1 if backwards else 1] for labels in (ED, ES))
    assert set(coverage_flags(ed, es, SPACING)) == expected
    turned = [np.moveaxis(labels, -1, 0) for labels in (ed, es)]
    assert set(coverage_flags(*turned, (8.0, 2.0, 2.0))) == expected


def test_a_heart_within_its_stack_is_never_cut_off():
    padded = [np.pad(labels[..., :7], ((0, 0), (0, 0), (1, 1))) for labels in (ED, ES)]
    assert coverage_flags(*padded, SPACING) == []


def test_the_base_is_not_checked_without_es():
    assert coverage_flags(ED[..., 3:], None, SPACING) == []


def test_a_heart_at_the_image_s_side_and_a_too_long_heart_are_flagged():
    assert coverage_flags(ED[31:], ES[31:], SPACING) == ["side cut off"]  # through the middle of the LV
    assert coverage_flags(ED, ES, (1.0, 1.0, 8.0)) == ["heart too long"]  # 80 mm for a width of 32 mm


def test_slices_that_are_far_apart_are_flagged():
    assert coverage_flags(ED[..., ::2], ES[..., ::2], (2.0, 2.0, 16.0)) == ["slices far apart"]
    assert coverage_flags(ED, ES, (2.5, 2.5, 12.0)) == []


def test_no_labels_give_no_hint():
    assert coverage_flags(np.zeros_like(ED), np.zeros_like(ES), SPACING) == []
    assert coverage_flags(ED[..., :1], ES[..., :1], SPACING) == []  # one slice has its own flag, "few slices"
