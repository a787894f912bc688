"""Whole studies: which stack is used, which images are ignored, and what is refused instead of guessed."""

from __future__ import annotations

import logging
from copy import deepcopy

import numpy as np
import pytest
from dicom_exam import NAME, SHAPE, exam, oblique, pydicom, series, voxels, write

from scripts.core.errors import CineError
from scripts.dicom.cine import read_cine

FRAMES = SHAPE[3]


def turned(datasets, number, axes=(1, 2, 0), slices=1):
    """A view across the short axis: slices of the stack with their coordinates in another order."""
    view = series(datasets[: slices * FRAMES], number)
    for dataset in view:
        position = np.array(dataset.ImagePositionPatient, float)
        dataset.ImagePositionPatient = position[list(axes)].tolist()
        dataset.ImageOrientationPatient = (
            np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)[:, list(axes)].ravel().tolist()
        )
    return view


def read(datasets, tmp_path, caplog):
    with caplog.at_level(logging.DEBUG):
        cine = read_cine(write(datasets, tmp_path))
    assert NAME not in caplog.text
    return cine


def warnings_of(caplog):
    """Log lines without those about the small size of these exams."""
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [message for message in found if "check that the chosen stack is the short-axis cine: it has" not in message]


@pytest.mark.parametrize("one_series", [True, False])
def test_the_short_axis_stack_of_a_study_is_used_and_others_are_listed(tmp_path, caplog, one_series):
    stack = exam(voxels(), oblique(), one_series)
    study = [*stack, *turned(stack, 21), *turned(stack, 22, (2, 0, 1))]
    study += turned(stack, 23, (1, 2, 0), slices=4)[::FRAMES]  # a localiser
    cine_HWDT, affine, _ = read(study, tmp_path, caplog)
    assert np.array_equal(cine_HWDT, voxels()) and np.allclose(affine, oblique(), atol=1e-4)
    used = "series 1 (" if one_series else "series 1, 2, 3, 4 ("
    assert f"the cine is {used}slices: 4, frames: 6, 7 x 5 pixels of 1.25 x 1.5 mm" in caplog.text
    assert all(f"series {number}" in caplog.text.split("ignored:", 1)[1] for number in (21, 22, 23))


def other_matrix(datasets):
    for dataset in datasets:
        dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows
    return datasets


def still(datasets, number, **fields):
    """A stack with one time, such as late enhancement."""
    return series(datasets[::FRAMES], number, **fields)


LEFT_OUT = {
    "late enhancement in the cine's geometry": lambda ds: still(ds, 31),
    "the same, one series per slice": lambda ds: [x for n in range(4) for x in still(ds, 31 + n)[n : n + 1]],
    "late enhancement of another matrix": lambda ds: other_matrix(still(ds, 31)),
    "phase images": lambda ds: series(ds, None, ImageType=["ORIGINAL", "PRIMARY", "P", "RETRO"]),
    "two slices of perfusion, of another matrix": lambda ds: other_matrix(series(ds[6:18], 31)),
    "a slice far from the stack": lambda ds: moved(other_matrix(series(ds[:6], 31)), -30.0),
    "a slice between two of the stack, of another matrix": lambda ds: moved(other_matrix(series(ds[6:12], 31)), 4.0),
}


def moved(datasets, mm):
    """Move the images along the normal."""
    for dataset in datasets:
        normal = np.cross(*np.array(dataset.ImageOrientationPatient, float).reshape(2, 3))
        dataset.ImagePositionPatient = (np.array(dataset.ImagePositionPatient, float) + mm * normal).tolist()
    return datasets


@pytest.mark.parametrize("one_series", [True, False])
@pytest.mark.parametrize("case", LEFT_OUT)
def test_series_that_are_not_a_second_cine_are_ignored_and_listed(tmp_path, caplog, case, one_series):
    stack = exam(voxels(), oblique(), one_series)
    cine_HWDT, _, _ = read([*stack, *LEFT_OUT[case](stack)], tmp_path, caplog)
    assert np.array_equal(cine_HWDT, voxels())
    assert "ignored: series" in caplog.text and not warnings_of(caplog)


REFUSED = {
    "the stack again": (lambda ds: series(ds, 31), "2 stacks that may each be .*: series 1[, (].*; series 31 "),
    "the stack again, in as many series": (
        lambda ds: series(ds, None),
        "slice 1 of 4 in series 1, 101|2 stacks .*: series 1 .*; series 101",
    ),
    "the stack again, of another matrix": (lambda ds: other_matrix(series(ds, 31)), "2 stacks that may .*series 31"),
    "a stack across": (lambda ds: turned(ds, 31, slices=4), "2 stacks that may each .*series 31 .*such as IM"),
    "a slice again": (
        lambda ds: series(ds[6:12], 31),
        "slice 2 of 4 in series 2, 31|series 31 .*at slices that series 1",
    ),
    "the stack again in another frame of reference": (
        lambda ds: series(ds, 31, FrameOfReferenceUID="1.2.3"),
        "2 stacks that may each be",
    ),
    "a slice in another frame of reference": (
        lambda ds: moved(series(ds[18:], 31, FrameOfReferenceUID="1.2.3"), 8.0),
        "in two frames of reference",
    ),
    "the next slice as phase images": (
        lambda ds: moved(series(ds[18:], 31, ImageType=["ORIGINAL", "PRIMARY", "P"]), 8.0),
        "series 31 .*phase.*next to its end",
    ),
    "the next slice in another matrix": (
        lambda ds: moved(other_matrix(series(ds[18:], 31)), 8.0),
        "series 31 .*next to its end",
    ),
}


@pytest.mark.parametrize("one_series", [True, False])
@pytest.mark.parametrize("case", REFUSED)
def test_series_that_may_belong_to_the_stack_or_replace_it_are_refused(tmp_path, case, one_series):
    more, words = REFUSED[case]
    stack = exam(voxels(), oblique(), one_series)
    with pytest.raises(CineError, match=words) as caught:
        read_cine(write([*stack, *more(stack)], tmp_path))
    assert NAME not in str(caught.value)


def test_two_static_volumes_are_not_a_cine(tmp_path):
    volume = exam(voxels(), oblique(), one_series=True)[::FRAMES]
    with pytest.raises(CineError, match=r"no stack of several slices and times among series 1 .*; series 31 "):
        read_cine(write([*volume, *series(volume, 31)], tmp_path))


def test_two_views_without_a_short_axis_are_refused_and_one_is_read(tmp_path):
    stack = exam(voxels(), oblique())
    with pytest.raises(CineError, match="no stack of several slices and times"):
        read_cine(write([*turned(stack, 21), *turned(stack, 22, (2, 0, 1))], tmp_path / "two"))
    assert read_cine(write(turned(stack, 21), tmp_path / "one"))[0].shape == (*SHAPE[:2], 1, FRAMES)


def test_only_phase_images_are_refused(tmp_path):
    phase = series(exam(voxels(), oblique()), None, ImageType=["DERIVED", "PRIMARY", "VELOCITY MAP", "P", "PCA"])
    with pytest.raises(CineError, match="only phase or velocity images"):
        read_cine(write(phase, tmp_path))


def test_a_stack_with_ten_frames_is_preferred_to_one_with_few_frames(tmp_path, caplog):
    cine = np.random.default_rng(3).integers(0, 4000, (*SHAPE[:3], 10)).astype(np.uint16)
    stack = exam(cine, oblique(), one_series=True)
    pairs = [image for n in range(4) for image in other_matrix(series(stack[10 * n : 10 * n + 2], 31 + n))]
    assert np.array_equal(read([*stack, *pairs], tmp_path, caplog)[0], cine)
    assert "check that this is" not in caplog.text


def test_an_axial_stack_does_not_win_by_its_many_slices(tmp_path):
    stack = exam(voxels()[:, :, :2], oblique(), one_series=True)
    axial = exam(voxels(), np.diag([-1.25, -1.5, 8, 1]), one_series=True)
    for dataset in axial:
        dataset.StudyInstanceUID = stack[0].StudyInstanceUID
    with pytest.raises(CineError, match="2 stacks that may each be"):
        read_cine(write([*stack, *axial], tmp_path))


def test_frames_of_reference_that_differ_image_by_image_are_an_anonymiser_s(tmp_path, caplog):
    datasets = exam(voxels(), oblique(), one_series=True)
    for dataset in datasets:
        dataset.FrameOfReferenceUID = pydicom.uid.generate_uid()
    assert np.array_equal(read(datasets, tmp_path, caplog)[0], voxels())
    assert "has its own frame of reference" in caplog.text


def test_copies_of_instances_are_read_once(tmp_path, caplog):
    datasets = exam(voxels(), oblique())
    write(datasets, tmp_path / "a")
    edited = deepcopy(datasets)
    edited[3].PatientBirthDate = "19500101"
    assert np.array_equal(read([*edited], tmp_path / "b", caplog)[0], voxels())
    with caplog.at_level(logging.INFO):
        assert np.array_equal(read_cine(tmp_path)[0], voxels())
    assert "24 files are copies of others" in caplog.text and "1 of the copies differ" in caplog.text


def test_copies_that_differ_in_time_are_refused(tmp_path):
    datasets = exam(voxels(), oblique())
    other = deepcopy(datasets[3])
    other.TriggerTime = 500.0
    with pytest.raises(
        CineError, match=r"a position, time or series that differs from .*IM.*, with the same SOPInstanceUID"
    ):
        read_cine(write([*datasets, other], tmp_path))


def test_colour_and_screenshots_of_other_series_are_ignored_with_a_warning(tmp_path, caplog):
    datasets = exam(voxels(), oblique())
    colour = series(datasets[:1], 41, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    shot = series(datasets[:1], 42, SOPClassUID=pydicom.uid.SecondaryCaptureImageStorage)
    del shot[0].ImagePositionPatient
    assert np.array_equal(read([*datasets, *colour, *shot], tmp_path, caplog)[0], voxels())
    assert len(warnings_of(caplog)) == 2
    assert (
        "ignored 1 DICOM files in colour" in caplog.text and "ignored 1 DICOM files of another modality" in caplog.text
    )
