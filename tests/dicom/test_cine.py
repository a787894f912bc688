from __future__ import annotations

import logging
from copy import deepcopy

import nibabel as nib
import numpy as np
import pytest
from dicom_exam import NAME, SHAPE, exam, oblique, pydicom, series, voxels, write

from scripts.cine.reader import read_volume
from scripts.cine.writer import write_mask
from scripts.core.errors import CineError
from scripts.dicom import cine
from scripts.dicom.cine import DicomCined, read_cine, write_cine
from scripts.exams.inputs import find_inputs


@pytest.mark.parametrize("one_series", [True, False])
@pytest.mark.parametrize("by_series", [True, False])
def test_a_cine_is_the_nifti_that_was_cut_into_it(tmp_path, one_series, by_series):
    folder = write(exam(voxels(), oblique(), one_series), tmp_path / "exam", by_series=by_series)
    (folder / "notes.txt").write_text("no image")
    write_cine(folder, tmp_path / "cine.nii.gz")
    frames_THWD, header = read_volume(tmp_path / "cine.nii.gz")
    assert np.array_equal(np.moveaxis(frames_THWD, 0, -1), voxels())
    assert np.allclose(header.affine, oblique(), atol=1e-4)
    again = nib.load(tmp_path / "cine.nii.gz")
    assert np.allclose(again.header.get_zooms(), (1.25, 1.5, 8, 41.5), atol=1e-4)  # 40 to 43 ms per frame
    assert again.header.get_xyzt_units() == ("mm", "msec")


@pytest.mark.filterwarnings(
    "ignore:The DICOM readers are highly experimental"
)  # nibabel's own DICOM reader, which agrees
def test_each_voxel_has_the_position_of_another_reader(tmp_path):
    """nibabel's own DICOM reader: indices are row, column; coordinates LPS."""
    from nibabel.nicom.dicomwrappers import wrapper_from_data

    datasets = exam(voxels(), oblique())
    cine_HWDT, affine, _ = read_cine(write(datasets, tmp_path))
    for dataset in datasets:
        wrapper = wrapper_from_data(dataset)
        # the third column needs the slice's thickness; the slice has only one voxel along it
        place = wrapper.affine @ [3, 2, 0, 1] * [-1, -1, 1, 1]
        h, w, d = np.rint(np.linalg.solve(affine, place)[:3]).astype(int)
        assert (h, w) == (2, 3)
        assert np.allclose(affine @ [h, w, d, 1], place, atol=1e-6)
        frame = dataset.InstanceNumber - 1
        assert cine_HWDT[h, w, d, frame] == wrapper.get_data()[3, 2]


def test_slices_that_were_numbered_downwards_are_stacked_along_the_normal(tmp_path):
    """DICOM cannot store a left-handed stack: the result is right-handed, at the same position in space."""
    cine_HWDT, affine, _ = read_cine(write(exam(voxels(), oblique(handed=-1.0)), tmp_path))
    assert np.linalg.det(affine[:3, :3]) > 0
    assert np.array_equal(cine_HWDT[:, :, ::-1], voxels())
    assert np.allclose(affine @ [2, 3, SHAPE[2] - 1, 1], oblique(handed=-1.0) @ [2, 3, 0, 1], atol=1e-6)


def test_one_frame_and_one_slice(tmp_path):
    of_a_cine = exam(voxels(), oblique())[:: SHAPE[3]]
    write_cine(write(of_a_cine, tmp_path / "a"), tmp_path / "a.nii")
    assert nib.load(tmp_path / "a.nii").shape == SHAPE[:3]
    write_cine(write(exam(voxels()[:, :, :1], oblique()), tmp_path / "b"), tmp_path / "b.nii")
    image = nib.load(tmp_path / "b.nii")
    assert image.shape == (*SHAPE[:2], 1, SHAPE[3])
    assert image.header.get_zooms()[2] == pytest.approx(6.5)  # its thickness


def test_values_are_rescaled_image_by_image(tmp_path):
    datasets = exam(voxels(), oblique())
    for number, dataset in enumerate(datasets):
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + number / 8, -number
    cine_HWDT, _, _ = read_cine(write(datasets, tmp_path))
    numbers = np.arange(SHAPE[2] * SHAPE[3]).reshape(SHAPE[2:])
    assert np.allclose(cine_HWDT, voxels() * (1 + numbers / 8) - numbers, rtol=1e-6)


def test_without_trigger_times_instance_numbers_give_the_order(tmp_path, caplog):
    datasets = exam(voxels(), oblique(), one_series=True)
    for dataset in datasets:
        del dataset.TriggerTime
    cine_HWDT, _, frame_ms = read_cine(write(datasets, tmp_path))
    assert np.array_equal(cine_HWDT, voxels()) and frame_ms == 0
    assert "sorted by instance number" in caplog.text


def test_objects_without_images_are_ignored_and_lossless_compression_is_read(tmp_path, caplog):
    datasets = exam(voxels(), oblique())
    for dataset in datasets:
        dataset.compress(pydicom.uid.RLELossless)
    report = deepcopy(datasets[0])
    for name in ("Rows", "Columns", "PixelData"):
        del report[name]
    report.SOPClassUID = pydicom.uid.BasicTextSRStorage
    report.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    with caplog.at_level(logging.INFO):
        assert np.array_equal(read_cine(write([*datasets, report], tmp_path))[0], voxels())
    assert "ignored 1 DICOM files without an image" in caplog.text


def change(number: int | slice, **fields):
    """Set fields of some images; a value of None deletes the field."""

    def spoil(datasets):
        chosen = datasets[number] if isinstance(number, slice) else [datasets[number]]
        for dataset in chosen:
            for name, value in fields.items():
                if value is None:
                    delattr(dataset, name)
                else:
                    setattr(dataset, name, value)

    return spoil


def encapsulate(datasets):
    datasets[3].PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51junk"])
    datasets[3]["PixelData"].VR = "OB"
    datasets[3].file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless


def deflate(datasets):
    datasets[3].file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian


def move(millimetres):
    def spoil(datasets):
        for dataset in datasets[SHAPE[3] : 2 * SHAPE[3]]:
            position = np.array(dataset.ImagePositionPatient, float) + millimetres
            dataset.ImagePositionPatient = position.tolist()

    return spoil


def remove(*numbers):
    def spoil(datasets):
        for number in sorted(numbers, reverse=True):
            del datasets[number]

    return spoil


def forget_the_count(then):
    def spoil(datasets):
        change(slice(None), CardiacNumberOfImages=None)(datasets)
        then(datasets)

    return spoil


def remove_all_but_a_slice_without_thickness(datasets):
    del datasets[SHAPE[3] :]
    change(slice(None), SliceThickness=None)(datasets)


FRAMES = SHAPE[3]
REFUSED = {
    "a frame is missing": (remove(8), "5 frames of slice 2 of 4"),
    "a frame of all is missing": (forget_the_count(remove(2, 8, 14, 20)), "80 ms between two frames of slice 1 of 4"),
    "frames missing crosswise": (forget_the_count(remove(2, 9, 15, 22)), "ms between two frames"),
    "a slice is missing": (remove(*range(6, 12)), "3 slices that lie 8 to 16 mm apart"),
    "one slice is shifted in plane": (move(3.0), "slices that lie|shifted relative to each other"),
    "an image twice": (
        lambda ds: ds.extend(series(ds[4:5], 1, SeriesInstanceUID=ds[4].SeriesInstanceUID)),
        "6 frames of slice 2 of 4.*expected 7",
    ),
    "two times in one": (change(4, TriggerTime=12.0), "two images of slice 1 of 4 .series 1. with the same time"),
    "two patients": (change(4, PatientID="Roe^Richard"), "2 patients in 24 images"),
    "two studies": (change(4, StudyInstanceUID="1.2.3"), "2 studies"),
    "two frames of reference": (change(4, FrameOfReferenceUID="1.2.3"), "5 frames of slice 1 of 4"),
    "two pixel spacings": (change(slice(0, 6), PixelSpacing=[1.5, 1.3]), "series 1 .*1.3 x 1.5 mm.*next to its end"),
    "two matrices": (change(4, Rows=7, Columns=5), "5 frames of slice 1 of 4"),
    "a trigger time is missing": (change(4, TriggerTime=None), "1 of 24 images without a TriggerTime"),
    "neither time nor number": (
        change(slice(None), TriggerTime=None, InstanceNumber=None),
        "or without an instance number",
    ),
    "no position": (change(4, ImagePositionPatient=None), "IM.*: found an invalid ImagePositionPatient"),
    "no spacing": (change(4, PixelSpacing=None), "an invalid PixelSpacing"),
    "zero spacing": (change(slice(None), PixelSpacing=[0, 1]), "expected positive numbers"),
    "no direction": (change(slice(None), ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "two unit vectors"),
    "one slice without thickness": (remove_all_but_a_slice_without_thickness, "without a SliceThickness"),
    "several frames": (change(4, NumberOfFrames=30), "claims 30 frames; expected at most 10000, all in the file"),
    "colour": (change(4, SamplesPerPixel=3, PhotometricInterpretation="RGB"), "a picture in colour"),
    "inverted": (change(4, PhotometricInterpretation="MONOCHROME1"), "inverted grey values, in a series of the cine"),
    "truncated": (change(4, PixelData=b"12"), "pixels that cannot be read .ValueError, Explicit VR"),
    "a compression without a decoder": (encapsulate, "JPEG 2000 .*, for which no decoder is installed.*pylibjpeg"),
    "deflated": (deflate, "a deflated data set"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_an_incomplete_cine_is_refused_without_patient_data_in_the_message(tmp_path, case, caplog):
    spoil, words = REFUSED[case]
    datasets = exam(voxels(), oblique())
    spoil(datasets)
    with caplog.at_level(logging.DEBUG), pytest.raises(CineError, match=words) as caught:
        read_cine(write(datasets, tmp_path))
    logged = str(caught.value) + caplog.text
    assert "; expected " in str(caught.value) and not [r for r in caplog.records if r.name.startswith("pydicom")]
    assert NAME not in logged and str(datasets[0].StudyInstanceUID) not in logged


def test_a_truncated_header_and_a_folder_without_images(tmp_path):
    folder = write(exam(voxels(), oblique()), tmp_path)
    whole = (folder / "IM0003").read_bytes()
    (folder / "IM0003").write_bytes(whole[:200])
    with pytest.raises(CineError, match="IM0003: found an invalid Columns"):
        read_cine(folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(CineError, match="0 DICOM files and no image in them"):
        read_cine(folder)


def test_seeded_mutations_end_in_a_cine_or_a_refusal(tmp_path):
    rng = np.random.default_rng(1)
    folder = write(exam(voxels()[:, :, :1, :2], oblique()), tmp_path)
    path = folder / "IM0000"
    whole = path.read_bytes()
    for _ in range(60):
        mutated = bytearray(whole)
        for place in rng.integers(132, len(whole), size=rng.integers(1, 4)):
            mutated[place] = rng.integers(0, 256)
        path.write_bytes(mutated)
        try:
            cine_HWDT, affine, _ = read_cine(folder)
        except CineError:
            continue
        assert cine_HWDT.ndim == 4 and np.isfinite(affine).all()


def test_too_large_exams_and_a_missing_reader(tmp_path, monkeypatch):
    folder = write(exam(voxels(), oblique()), tmp_path)
    monkeypatch.setattr(cine, "MEMORY_SHARE", 1e-12)
    with pytest.raises(CineError, match=r"images of 7 x 5 per frame, which take 0 MiB; expected at most 0 MiB"):
        read_cine(folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CineError, match=r"expected the package pydicom to read them. pip install pydicom"):
        read_cine(folder)


def test_a_folder_of_dicom_is_one_input_and_its_mask_has_the_cine_s_geometry(tmp_path):
    folder = write(exam(voxels(), oblique()), tmp_path / "exams" / "a.nii", by_series=True)
    (tmp_path / "list.txt").write_text("exams/a.nii\n")
    for given in (folder, tmp_path / "list.txt"):
        (item,) = find_inputs(given, tmp_path / "out")
        assert item == {"image": str(folder), "source": str(folder), "output": str(tmp_path / "out" / "a.nii")}
    item = DicomCined()(item)
    cine = tmp_path / "out" / "a.nii_cine.nii.gz"
    assert item["image"] == item["source"] == str(cine)
    assert DicomCined()(item) == item  # a file is not changed
    write_mask(tmp_path / "mask.nii", np.zeros((FRAMES, *SHAPE[:3]), np.uint8), item["source"])
    assert np.array_equal(nib.load(tmp_path / "mask.nii").affine, nib.load(cine).affine)
    with pytest.raises(CineError, match=r"_cine.nii.gz: found an existing result"):
        find_inputs(folder, tmp_path / "out")
    assert len(find_inputs(folder, tmp_path / "out", existing="skip")) == 1  # the cine by itself is not a result
    with pytest.raises(CineError, match=r"no NIfTI image; expected .* or DICOM images"):
        (tmp_path / "empty").mkdir()
        find_inputs(tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize(("between", "expected"), [(-8.0, 8.0), (7.0, 7.0), (0.0, 6.5)])
def test_the_thickness_of_one_slice_is_its_distance_without_sign(tmp_path, between, expected):
    datasets = exam(voxels((7, 5, 1, 6)), oblique())
    for dataset in datasets:
        dataset.SpacingBetweenSlices = between
    _, affine, _ = read_cine(write(datasets, tmp_path))
    assert np.linalg.norm(affine[:3, 2]) == pytest.approx(expected)
