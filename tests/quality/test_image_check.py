"""Files that are not images, and swapped axes, for a cine with known differences of frames and slices."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor

from scripts.core.errors import CineError
from scripts.quality.image_check import CheckedImaged, image_doubts

MM = np.array([1.5, 1.5, 8.0])


@pytest.fixture(scope="module")
def cine_THWD() -> np.ndarray:
    """Dark air around a chest that differs from slice to slice, with a beating quarter."""
    generator = np.random.default_rng(0)
    slices = np.zeros((32, 32, 8), np.float32)
    slices[8:24, 8:24] = generator.integers(100, 900, (16, 16, 8))
    beat = np.ones((6, 32, 32, 8), np.float32)
    beat[:, 12:20, 12:20] += 0.3 * np.sin(np.arange(6) * np.pi / 3)[:, None, None, None]
    return np.rint(slices * beat)


def test_a_cine_is_not_doubted(cine_THWD):
    assert image_doubts(cine_THWD, MM) == []
    assert image_doubts(cine_THWD[:1], MM) == [] and image_doubts(cine_THWD[:2], MM) == []
    assert image_doubts(cine_THWD[..., :1], MM) == []  # of one slice, as real-time MRI often is
    thin = np.repeat(cine_THWD, 8, axis=3)
    assert image_doubts(thin, np.array([1.5, 1.5, 1.0])) == []


def test_swapped_axes_of_time_and_slices_are_detected(cine_THWD):
    assert image_doubts(np.swapaxes(cine_THWD, 0, 3), MM) == ["axes doubtful"]
    assert image_doubts(np.moveaxis(cine_THWD, (0, 3), (1, 0)), MM[[2, 0, 1]]) == ["axes doubtful"]


def test_inverted_grey_values_and_colours_as_frames_are_seen(cine_THWD):
    assert image_doubts(cine_THWD.max() - cine_THWD, MM) == ["contrast inverted"]
    assert image_doubts(np.repeat(cine_THWD[:1], 3, axis=0), MM) == ["no motion"]
    assert image_doubts(np.repeat(cine_THWD[:1, ..., :1], 3, axis=0), MM) == ["no motion"]


def test_slices_that_are_empty_in_some_frames_and_frames_that_are_empty(cine_THWD):
    gaps = cine_THWD.copy()
    gaps[3, :, :, :2] = 0
    assert image_doubts(gaps, MM) == ["empty slices"]
    empty = cine_THWD.copy()
    empty[3] = 0
    assert image_doubts(empty, MM) == []  # function.json names the frame
    padded = cine_THWD.copy()
    padded[..., -1] = 0
    assert image_doubts(padded, MM) == []  # in all frames


def test_one_shifted_frame_does_not_look_like_swapped_axes(cine_THWD):
    shifted = cine_THWD.copy()
    shifted[2] = np.roll(shifted[2], 9, axis=0)
    assert image_doubts(shifted, MM) == []


def check(voxels_THWD: np.ndarray):
    image = MetaTensor(voxels_THWD.astype(np.float32), affine=np.diag([*MM, 1]))
    return CheckedImaged("image")({"image": image, "source": "folder/exam.nii.gz"})


def test_doubts_are_stored_in_the_item(cine_THWD):
    assert check(cine_THWD)["doubts"] == ""
    assert check(np.swapaxes(cine_THWD.max() - cine_THWD, 0, 3))["doubts"] == "contrast inverted, axes doubtful"


def test_doubts_of_single_frames_equal_those_of_the_whole_cine(cine_THWD):
    swapped = np.swapaxes(cine_THWD.max() - cine_THWD, 0, 3)
    check = CheckedImaged("image")
    for cine in (swapped, cine_THWD):  # no state of the earlier cine remains
        frames = [
            {"image": MetaTensor(frame[None], affine=np.diag([*MM, 1])), "frame": i, "frames": len(cine)}
            for i, frame in enumerate(cine.astype(np.float32))
        ]
        found = [check(frame)["doubts"] for frame in frames]
        assert found == [""] * (len(cine) - 1) + [", ".join(image_doubts(cine, MM))]


@pytest.mark.parametrize("values", [(0, 1, 2, 3), (0, 200, 500, 600), (0, 255), range(16)])
def test_a_label_map_is_refused(values):
    labels = np.random.default_rng(0).choice(list(values), (1, 40, 40, 40))
    with pytest.raises(CineError, match=rf"^folder/exam.nii.gz: found {len(values)} different values, all whole"):
        check(labels)


def test_images_that_are_not_label_maps_pass():
    generator = np.random.default_rng(0)
    check(generator.choice(17, (1, 20, 20, 5)))
    check(generator.choice([0, 0.25, 0.5], (1, 20, 20, 5)))
    check(np.zeros((1, 20, 20, 5)))  # constant: the reader warns about it
    mostly = np.zeros((1, 100, 100, 10))
    mostly[0, :5, :5, 0] = np.arange(25).reshape(5, 5)  # few of these are in a sample
    check(mostly)
