"""Slices and frames with small errors in archives: read with a warning, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_exam import SHAPE, exam, oblique, voxels, write
from scipy.spatial.transform import Rotation

from scripts.core.errors import CineError
from scripts.dicom.cine import read_cine

FRAMES = SHAPE[3]


def moved(mm, slices=(1,), along=2):
    """An exam with some shifted slices: along a row (0), a column (1) or the normal (2)."""
    datasets = exam(voxels(), oblique())
    for number in slices:
        for dataset in datasets[number * FRAMES : (number + 1) * FRAMES]:
            plane = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
            step = [*plane, np.cross(*plane)][along] * mm
            dataset.ImagePositionPatient = (np.array(dataset.ImagePositionPatient, float) + step).round(8).tolist()
    return datasets


@pytest.mark.parametrize("slices", [(0,), (1,), (3,)])
def test_a_slice_that_moved_in_plane_by_less_than_a_pixel_is_read_with_a_warning(tmp_path, caplog, slices):
    cine_HWDT, affine, _ = read_cine(write(moved(0.5, slices, along=0), tmp_path))
    assert np.array_equal(cine_HWDT, voxels())
    assert np.allclose(affine, oblique(), atol=1e-4)  # the position of most slices
    assert f"slice {slices[0] + 1} of 4 (counted along the normal) is shifted in plane by 0.5 mm" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("mm", "along"), [(1.3, 0), (1.6, 1)])  # pixels of 1.25 x 1.5 mm
def test_a_slice_that_moved_by_a_pixel_is_refused(tmp_path, mm, along):
    with pytest.raises(CineError, match=r"shifted relative to each other by up to .* expected shifts below 1 pixel"):
        read_cine(write(moved(mm, along=along), tmp_path))


def test_manually_placed_slices_get_the_mean_distance_with_a_warning(tmp_path, caplog):
    _, affine, _ = read_cine(write(moved(0.7), tmp_path))  # gaps of 8.7, 7.3 and 8 mm
    assert np.linalg.norm(affine[:3, 2]) == pytest.approx(8, abs=1e-5)
    assert "4 slices that lie 7.3 to 8.7 mm apart: the mean, 8 mm, is used for all; this shifts" in caplog.text
    with pytest.raises(CineError, match=r"4 slices that lie 7.1 to 8.9 mm apart; expected distances within 10%"):
        read_cine(write(moved(0.9), tmp_path / "b"))


@pytest.mark.parametrize("decimals", [3, 2, 1])
@pytest.mark.parametrize("seed", range(3))
def test_rounded_positions_are_accepted_but_not_a_missing_slice(tmp_path, caplog, decimals, seed):
    affine = oblique()
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() @ np.diag([1.25, 1.5, 8.0])
    datasets = exam(voxels((2, 2, 10, 1)), affine)
    for dataset in datasets:
        dataset.ImagePositionPatient = [round(float(value), decimals) for value in dataset.ImagePositionPatient]
    found = read_cine(write(datasets, tmp_path / "whole"))[1]
    assert np.allclose(found, affine, atol=0.1 if decimals == 1 else 0.01) and not caplog.records
    with pytest.raises(CineError, match=r"9 slices that lie .*Add the missing slice"):
        read_cine(write(datasets[:4] + datasets[5:], tmp_path / "gap"))


@pytest.mark.parametrize("value", [0.0, 30.0])
def test_instance_numbers_replace_dummy_trigger_times(tmp_path, caplog, value):
    datasets = exam(voxels(), oblique())
    for dataset in datasets:
        dataset.TriggerTime = value
    cine_HWDT, _, frame_ms = read_cine(write(datasets, tmp_path))
    assert np.array_equal(cine_HWDT, voxels()) and frame_ms == 0
    assert "the trigger times of all frames are equal" in caplog.text


def counted(count, timed=True):
    datasets = exam(voxels(), oblique())
    for dataset in datasets:
        dataset.CardiacNumberOfImages = count
        if not timed:
            del dataset.TriggerTime
    return datasets


@pytest.mark.parametrize(("count", "lost"), [(7, True), (30, True), (1, False)])
def test_a_wrong_count_of_images_is_a_warning_if_trigger_times_are_even(tmp_path, caplog, count, lost):
    assert np.array_equal(read_cine(write(counted(count), tmp_path))[0], voxels())
    assert f"6 frames in each slice, but CardiacNumberOfImages is {count}" in caplog.text
    assert ("the end of the beat, were lost" in caplog.text) == lost


@pytest.mark.parametrize("count", [7, 3])
def test_a_wrong_count_of_images_without_trigger_times_is_refused(tmp_path, count):
    with pytest.raises(CineError, match=f"CardiacNumberOfImages is {count}, and no trigger times"):
        read_cine(write(counted(count, timed=False), tmp_path))


def test_a_gap_in_instance_numbers_is_a_warning(tmp_path, caplog):
    datasets = counted(1, timed=False)
    for dataset in datasets:
        dataset.InstanceNumber += 5 * (dataset.InstanceNumber > 3)
    assert np.array_equal(read_cine(write(datasets, tmp_path))[0], voxels())
    assert "the instance numbers of slice 1 of 4 have gaps" in caplog.text
