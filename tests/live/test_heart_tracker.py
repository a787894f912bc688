from __future__ import annotations

import numpy as np
import pytest

from scripts.live.heart_tracker import HeartTracker, bounding_box


def test_the_first_volume_needs_the_whole_field():
    assert HeartTracker().start((30, 30), (8, 6)) is None


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((slice(10, 14), slice(11, 13)), (8, 9)),
        ((slice(0, 3), slice(27, 30)), (0, 24)),
        ((slice(26, 30), slice(0, 2)), (22, 0)),
    ],
)
def test_the_window_is_centred_on_the_heart_and_stays_in_the_field(box, expected):
    window = HeartTracker()
    window.follow(box, 100.0)
    assert window.start((30, 30), (8, 6)) == expected


@pytest.mark.parametrize(("centre", "start"), [(3, 0), (9, 4), (10, 8), (25, 20), (27, 24), (29, 24)])
def test_the_window_starts_at_multiples_of_its_step(centre, start):
    """A field of 30, a window of 8: the last start is 24, where the window extends 2 voxels beyond the field."""
    window = HeartTracker(step=4)
    window.follow((slice(centre, centre), slice(centre, centre)), 100.0)
    assert window.start((30, 30), (8, 8)) == (start, start)
    assert all(s % 4 == 0 for s in window.start((30, 30), (8, 8)))


def test_a_field_smaller_than_the_window_is_taken_from_its_start():
    window = HeartTracker()
    window.follow((slice(1, 4), slice(2, 3)), 100.0)
    assert window.start((5, 4), (8, 6)) == (0, 0)


def test_a_contracting_heart_is_kept_and_a_vanishing_one_is_lost():
    window = HeartTracker()
    for ml in (300.0, 280.0, 200.0, 180.0, 220.0):  # a beat, including the muscle
        assert not window.lost(ml)
        window.follow((slice(1, 4), slice(2, 3)), ml)
    assert window.lost(40.0)
    assert window.lost(0.0)


def test_without_a_heart_the_whole_field_is_next():
    window = HeartTracker()
    window.follow((slice(1, 4), slice(2, 3)), 100.0)
    window.follow(None, 0.0)
    assert window.start((30, 30), (8, 6)) is None


def test_bounding_box():
    mask = np.zeros((6, 7, 3), np.uint8)
    assert bounding_box(mask) is None
    mask[2, 5, 0] = mask[4, 1, 2] = 3
    assert bounding_box(mask) == (slice(2, 5), slice(1, 6))
