"""Enhanced MR: several frames in one object, each described in functional groups."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_exam import SHAPE, enhanced, exam, group, oblique, pydicom, voxels, write

from scripts.core.errors import CineError
from scripts.dicom import tags
from scripts.dicom.cine import read_cine

FRAMES = SHAPE[3]
ALL = SHAPE[2] * FRAMES


@pytest.mark.parametrize("frames", [1, FRAMES, ALL])
def test_enhanced_objects_are_read_like_single_frames(tmp_path, caplog, frames):
    expected = read_cine(write(exam(voxels(), oblique()), tmp_path / "single"))
    found = read_cine(write(enhanced(exam(voxels(), oblique()), frames), tmp_path / "enhanced"))
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)
    assert not caplog.records


def test_one_object_per_time_with_all_slices_is_read(tmp_path):
    datasets = exam(voxels(), oblique(), one_series=True)
    by_time = [datasets[depth * FRAMES + time] for time in range(FRAMES) for depth in range(SHAPE[2])]
    assert np.array_equal(read_cine(write(enhanced(by_time, SHAPE[2]), tmp_path))[0], voxels())


def test_each_frame_has_its_own_rescaling_and_the_file_is_read_once(tmp_path, monkeypatch):
    (whole,) = enhanced(exam(voxels(), oblique()), ALL)
    for number, item in enumerate(whole.PerFrameFunctionalGroupsSequence):
        rescaling = group(RescaleSlope=1 + number / 8, RescaleIntercept=-number, RescaleType="US")
        item.PixelValueTransformationSequence = [rescaling]
    opened = []
    read = tags.open_dicom
    monkeypatch.setattr(tags, "open_dicom", lambda path, **keys: opened.append(keys) or read(path, **keys))
    cine_HWDT, _, _ = read_cine(write([whole], tmp_path))
    numbers = np.arange(ALL).reshape(SHAPE[2:])
    assert np.allclose(cine_HWDT, voxels() * (1 + numbers / 8) - numbers, rtol=1e-6)
    assert len([keys for keys in opened if not keys]) == 1


@pytest.mark.parametrize("where", ["TemporalPositionIndex", "DimensionIndexValues", None])
def test_without_trigger_times_the_scanner_s_time_index_or_the_place_gives_the_order(tmp_path, caplog, where):
    objects = enhanced(exam(voxels(), oblique()), FRAMES)
    for whole in objects:
        pointers = [0x00209057, 0x00209128]  # InStackPositionNumber, TemporalPositionIndex
        whole.DimensionIndexSequence = [group(DimensionIndexPointer=pointer) for pointer in pointers]
        for number, item in enumerate(whole.PerFrameFunctionalGroupsSequence):
            del item.CardiacSynchronizationSequence
            index = FRAMES - number  # backwards
            if where:
                values = index if where == "TemporalPositionIndex" else [1, index]
                item.FrameContentSequence = [group(**{where: values})]
    cine_HWDT, _, frame_ms = read_cine(write(objects, tmp_path))
    assert np.array_equal(cine_HWDT, voxels()[..., ::-1] if where else voxels()) and frame_ms == 0
    assert "no image has a trigger time" in caplog.text


def test_frames_without_functional_groups_are_times_of_one_position_with_a_warning(tmp_path, caplog):
    classic = exam(voxels(), oblique())
    objects = enhanced(exam(voxels(), oblique()), FRAMES)
    for number, whole in enumerate(objects):
        del whole.SharedFunctionalGroupsSequence, whole.PerFrameFunctionalGroupsSequence
        for name in ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"):
            setattr(whole, name, classic[number * FRAMES][name].value)
        whole.TriggerTime = 0.0  # the time of the first frame cannot be that of all
    assert np.array_equal(read_cine(write(objects, tmp_path))[0], voxels())
    assert "4 files of several frames have one position" in caplog.text
    assert "no image has a trigger time" in caplog.text


def test_phase_frames_of_an_object_are_ignored(tmp_path):
    (whole,) = enhanced(exam(voxels(), oblique()), ALL)
    (phase,) = enhanced(exam(voxels() // 2, oblique()), ALL)
    for item in phase.PerFrameFunctionalGroupsSequence:
        kind = group(FrameType=["ORIGINAL", "PRIMARY", "FLOW_ENCODED", "NONE"], ComplexImageComponent="PHASE")
        item.MRImageFrameTypeSequence = [kind]
    whole.PerFrameFunctionalGroupsSequence.extend(phase.PerFrameFunctionalGroupsSequence)
    whole.NumberOfFrames, whole.PixelData = 2 * ALL, whole.PixelData + phase.PixelData
    assert np.array_equal(read_cine(write([whole], tmp_path))[0], voxels())


def test_a_wrong_number_of_frame_descriptions_is_refused(tmp_path):
    (whole,) = enhanced(exam(voxels(), oblique()), ALL)
    del whole.PerFrameFunctionalGroupsSequence[3]
    with pytest.raises(CineError, match="23 descriptions of 24 frames"):
        read_cine(write([whole], tmp_path))


def test_an_object_that_claims_countless_frames_is_refused(tmp_path):
    (whole,) = enhanced(exam(voxels(), oblique()), ALL)
    whole.compress(pydicom.uid.RLELossless)
    whole.NumberOfFrames = 10**9
    with pytest.raises(CineError, match="claims 1e\\+09 frames"):
        read_cine(write([whole], tmp_path))


def test_compressed_frames_are_decoded_one_by_one(tmp_path):
    (whole,) = enhanced(exam(voxels(), oblique()), ALL)
    whole.compress(pydicom.uid.RLELossless)
    assert np.array_equal(read_cine(write([whole], tmp_path))[0], voxels())
