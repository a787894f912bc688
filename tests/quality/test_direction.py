"""Whether a header's directions fit the segmented heart."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from scripts.cine.reader import read_volume
from scripts.exams.load import load_exams
from scripts.measures.function import cardiac_function
from scripts.quality.direction import DOUBTFUL, is_doubtful, rv_direction

ACDC = np.diag([-1.5, -1.5, 10.0, 1.0])
LPS_AS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def heart_THWD():
    """Two frames of ACDC's order: the RV 20 voxels to the patient's right of the LV, 6 voxels to the front."""
    labels = np.zeros((2, 64, 64, 5), np.uint8)
    labels[:, 40:46, 30:36] = 3
    labels[:, 20:26, 24:30] = 1
    return labels


def test_the_direction_of_the_rv_computed_by_hand(heart_THWD):
    heart_THWD[..., 0][heart_THWD[..., 0] == 1] = 0  # a slice without RV does not count
    np.testing.assert_allclose(rv_direction(heart_THWD, ACDC), [30.0, 9.0, 0.0])


def test_a_tilt_of_the_long_axis_does_not_count(heart_THWD):
    tilted = np.stack([np.roll(heart_THWD[..., d], 3 * d, axis=1) for d in range(5)], axis=-1)
    np.testing.assert_allclose(rv_direction(tilted, ACDC), [30.0, 9.0, 0.0])


def test_x_and_y_of_the_wrong_sign_are_doubtful_in_every_storage_order(heart_THWD):
    for order, flips in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        affine = ACDC.copy()
        affine[:3, :3] = ACDC[:3, :3][:, order] * flips
        stored = heart_THWD.transpose(0, *(1 + axis for axis in order))
        stored = np.flip(stored, [1 + axis for axis in range(3) if flips[axis] < 0])
        assert not is_doubtful(stored, affine)
        assert is_doubtful(stored, LPS_AS_RAS @ affine)


@pytest.mark.parametrize("missing", [1, 3])
def test_without_both_ventricles_directions_are_not_doubted(heart_THWD, missing):
    heart_THWD[heart_THWD == missing] = 0
    assert rv_direction(heart_THWD, ACDC) is None
    assert not is_doubtful(heart_THWD, LPS_AS_RAS @ ACDC)


def test_centres_that_nearly_coincide_show_no_direction():
    labels = np.zeros((1, 64, 64, 5), np.uint8)
    labels[:, 40:44, 30:34] = 3
    labels[:, 36:40, 30:34] = 1  # 6 mm apart
    assert not is_doubtful(labels, LPS_AS_RAS @ ACDC)


def test_the_flag_is_in_the_function_s_flags(heart_THWD):
    assert {"flag": DOUBTFUL} not in cardiac_function(heart_THWD, (1.5, 1.5, 10.0), affine=ACDC)["flags"]
    assert {"flag": DOUBTFUL} in cardiac_function(heart_THWD, (1.5, 1.5, 10.0), affine=LPS_AS_RAS @ ACDC)["flags"]


@pytest.mark.skipif("ACDC_DIR" not in os.environ, reason="ACDC_DIR names no folder of real ACDC exams")
def test_no_real_exam_is_doubtful_and_all_are_with_the_wrong_sign():
    exams = load_exams(Path(os.environ["ACDC_DIR"]))
    assert len(exams) >= 40
    for exam in exams:
        labels, header = read_volume(exam["label"])
        assert not is_doubtful(labels, header.affine), exam["label"]
        assert is_doubtful(labels, LPS_AS_RAS @ header.affine), exam["label"]
