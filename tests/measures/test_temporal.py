"""Badly segmented frames in the volumes of a cine, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.measures.temporal import sudden_frames

BEAT = [100.0, 97, 85, 65, 45, 40, 50, 70, 80, 85, 88, 95]  # ml in 12 frames, which may be off by 2.5/12 of the largest


def sudden(curve) -> list[int]:
    return sudden_frames({"LV": curve})["LV"]


@pytest.mark.parametrize("frame", range(1, 13))
def test_a_bad_frame_is_found_for_every_start_of_the_cine(frame):
    assert sudden(BEAT) == []
    rolled = np.roll(BEAT, frame - 1)
    assert sudden(rolled) == []
    rolled[frame - 1] = 60  # of what was 100: between 95 and 97
    assert sudden(rolled) == [frame]


def test_two_bad_frames_at_the_seam_are_found_in_a_long_cine():
    curve = np.interp(np.arange(20) / 20 * 12, np.arange(13), [*BEAT, BEAT[0]])
    assert sudden(curve) == []
    curve[[0, 19]] = 30
    assert sudden(curve) == [1, 20]


def test_after_a_lasting_jump_the_later_frame_is_reported():
    assert sudden([100, 90, 45, 50, 70]) == [3]


def test_a_fast_heart_in_few_frames_is_not_flagged():
    assert sudden([140, 122, 89, 59, 51, 58, 75, 107]) == []  # the phantom in 8 frames
    assert sudden([100, 3, 100, 100]) == []  # four frames are not a cine


def test_each_structure_has_its_own_scale():
    found = sudden_frames({"LV": [100.0] * 12, "MYO": [50.0] * 11 + [30], "RV": [100.0] * 11 + [80]})
    assert found == {"LV": [], "MYO": [12], "RV": []}
