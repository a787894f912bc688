from __future__ import annotations

import numpy as np
import pytest

from scripts.live.fitted_window import CALM, PATIENCE, FittedWindow, least_dice

FIELD = (200, 180)
SMALL_HEART = (slice(90, 150), slice(80, 140))
START = (72, 64)
MASK = np.ones((4, 4, 2), np.uint8)
MASK[2:], MASK[:, 2:] = 2, 3


def window(**options):
    return FittedWindow((128, 112), (1.5, 1.5), 8, **options)


def tried(fitted, heart=SMALL_HEART, volumes=CALM):
    """The numbers of the volumes that are tried."""
    return [volume for volume in range(1, volumes + 1) if fitted.try_now(heart)]


def in_use():
    fitted = window()
    fitted.decide(MASK, MASK)
    assert fitted.in_use
    return fitted


def test_the_smaller_window_has_156_by_144_mm():
    assert window().sizes == {(128, 112), (104, 96)}
    assert FittedWindow((128, 112), (2.0, 1.0), 8).small == (80, 112)  # 144 voxels of 1 mm are more than 112
    assert FittedWindow((64, 64), (1.5, 1.5), 8).sizes == {(64, 64)}


def test_it_is_tried_after_a_second():
    assert tried(window()) == [CALM]


def test_a_heart_with_6_voxels_on_each_side_fits():
    assert tried(window(), (slice(50, 142), slice(20, 104)), CALM) == [CALM]  # 92 x 84 in 104 x 96


@pytest.mark.parametrize("heart", [None, (slice(50, 143), slice(80, 140)), (slice(90, 150), slice(10, 95))])
def test_it_is_not_tried_without_a_heart_that_fits(heart):
    assert tried(window(), heart) == []


def test_it_is_not_tried_if_it_is_not_allowed_or_not_smaller():
    assert tried(window(allowed=False)) == []
    assert tried(FittedWindow((96, 96), (1.5, 1.5), 8)) == []


def test_equal_masks_bring_it_into_use():
    fitted = window()
    assert fitted.size == (128, 112)
    fitted.decide(MASK, MASK)
    assert fitted.size == (104, 96)
    assert tried(fitted) == []


def test_different_masks_keep_the_deployment_size_for_ten_seconds():
    fitted = window()
    other = MASK.copy()
    other[0, 0] = 0
    fitted.decide(MASK, other)
    assert fitted.size == (128, 112)
    assert tried(fitted, volumes=PATIENCE) == [PATIENCE]


@pytest.mark.parametrize(
    ("heart", "near"),
    [
        ((slice(74, 150), slice(80, 140)), False),  # 2 voxels from the first row of the window
        ((slice(73, 150), slice(80, 140)), True),
        ((slice(90, 174), slice(80, 140)), False),  # the window ends at row 176 and column 160
        ((slice(90, 175), slice(80, 140)), True),
        ((slice(90, 150), slice(65, 140)), True),
        ((slice(90, 150), slice(80, 159)), True),
    ],
)
def test_a_heart_near_the_edge_ends_it(heart, near):
    fitted = in_use()
    fitted.follow(heart, START, FIELD)
    assert fitted.in_use != near


def test_the_edge_of_the_field_does_not_end_it():
    fitted = in_use()
    fitted.follow((slice(0, 60), slice(120, 180)), (0, 88), FIELD)  # columns 88 to 184
    assert fitted.in_use


@pytest.mark.parametrize(("heart", "start"), [(None, START), (SMALL_HEART, None)])
def test_a_lost_heart_ends_it_and_it_is_tried_again_after_a_second(heart, start):
    fitted = in_use()
    fitted.follow(heart, start, FIELD)
    assert fitted.size == (128, 112)
    assert tried(fitted) == [CALM]


def test_the_least_dice_is_that_of_the_worst_structure():
    one = np.array([1, 1, 1, 2, 2, 3, 0])
    other = np.array([1, 1, 0, 2, 2, 3, 3])
    assert least_dice(one, other) == pytest.approx(2 * 1 / 3)  # LV: 1 and 2 voxels, 1 in common
    assert least_dice(np.zeros(3), np.zeros(3)) == 1
    assert least_dice(np.ones(3), np.zeros(3)) == 0
