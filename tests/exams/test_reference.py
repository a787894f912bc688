"""Reference labels: on their image's grid, whole numbers, one exam per labelled frame."""

from __future__ import annotations

import json
import logging

import nibabel as nib
import numpy as np
import pytest

from scripts.cine.reader import LoadExamd
from scripts.core.errors import CineError
from scripts.exams.folds import split_exams
from scripts.exams.load import complete, load_exams
from scripts.exams.reference import exam_names

AFFINE = np.array([[-1.5, 0, 0, 90.0123], [0, -1.5, 0, 120.4567], [0, 0, 8, -40.789], [0, 0, 0, 1]])


def volume(lv: int) -> np.ndarray:
    """A label of 8 x 8 x 3 with ``lv`` voxels of LV in each slice, and some of RV and MYO; 0: an empty one."""
    label = np.zeros((8, 8, 3), np.float32)
    if lv:
        label[0], label[1] = 1, 2
        label[2:].reshape(-1, 3)[:lv] = 3
    return label


def cine(*lv: int) -> np.ndarray:
    return np.stack([volume(n) for n in lv], axis=-1)


@pytest.fixture
def listed(tmp_path):
    """Writes a datalist of one item, whose image counts its voxels; returns its path."""

    def write(label, shape=None, affine=AFFINE, **item):
        shape = label.shape if shape is None else shape
        image = np.arange(np.prod(shape), dtype=np.int16).reshape(shape, order="F")
        nib.save(nib.Nifti1Image(image, AFFINE), tmp_path / "a.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), tmp_path / "a_gt.nii.gz")
        item = {"image": "a.nii.gz", "label": "a_gt.nii.gz", "patient": "a", **item}
        (tmp_path / "list.json").write_text(json.dumps({"training": [item]}))
        return tmp_path / "list.json"

    return write


def test_every_labelled_frame_of_a_cine_is_an_exam(listed):
    """Of five frames, three are labelled; the largest LV is in the fifth, the smallest in the second."""
    exams = load_exams(datalist=listed(cine(0, 4, 0, 20, 30)))
    found = [(exam["frame"], exam["phase"]) for exam in exams]
    assert found == [(4, "ED"), (1, "ES"), (3, "unknown")]
    assert exam_names(exams)[0] == "a ED a.nii.gz frame 5" and len(set(exam_names(exams))) == 3
    assert [exam["frame"] for exam in load_exams(datalist=listed(cine(9, 0, 3)), phases=["ES"])] == [2]


def test_only_the_frame_of_the_exam_is_loaded(listed):
    exams = load_exams(datalist=listed(cine(0, 4, 0, 30)))
    loaded = LoadExamd(keys=["image", "label"])(exams[1])  # ES, the second frame
    assert loaded["image"].shape == loaded["label"].shape == (1, 8, 8, 3)
    assert float(loaded["image"].min()) == 192 and float(loaded["image"].max()) == 383
    np.testing.assert_array_equal(loaded["label"][0], volume(4))
    np.testing.assert_allclose(loaded["image"].affine, AFFINE, atol=1e-4)
    with pytest.raises(CineError, match="found 4 frames; expected a frame 5"):
        LoadExamd(keys="image")({**exams[0], "frame": 4})


@pytest.mark.parametrize("lv", [(0, 7, 0), (7, 0, 7)], ids=["one frame", "no difference"])
def test_undetermined_phases_are_unknown(listed, lv):
    assert {exam["phase"] for exam in load_exams(datalist=listed(cine(*lv)))} == {"unknown"}


def test_an_item_s_phase_applies_to_its_only_labelled_frame(listed):
    assert [exam["phase"] for exam in load_exams(datalist=listed(cine(0, 7, 0), phase="ES"))] == ["ES"]
    with pytest.raises(CineError, match=r"found 2 labelled frames in an item with the phase ES; expected one\. Leave"):
        load_exams(datalist=listed(cine(0, 7, 8), phase="ES"))


@pytest.mark.parametrize(
    ("label", "shape", "words"),
    [
        (cine(1, 2), (8, 8, 3, 3), "a_gt.nii.gz: found 2 frames; expected 3 frames, like a.nii.gz"),
        (cine(1, 2), (8, 8, 3), "found 2 frames; expected one, like a.nii.gz. Save one label map. If .* one-hot"),
        (
            volume(1),
            (8, 8, 3, 3),
            r"found the label of one frame; expected 3 frames, .* Save that frame as a separate image",
        ),
        (cine(0, 0), None, "found no exam; expected labelled items"),
    ],
)
def test_labels_of_other_frames_than_the_image_s_are_refused(listed, label, shape, words):
    path = listed(label, shape)
    with pytest.raises(CineError, match=words):
        load_exams(datalist=path)


def test_frames_of_one_patient_stay_in_one_fold(listed, tmp_path):
    path = listed(cine(9, 0, 4))
    item = json.loads(path.read_text())["training"][0]
    path.write_text(json.dumps({"training": [{**item, "patient": name} for name in "abcd"]}))
    training, test = split_exams(load_exams(datalist=path), folds=2)
    patients = [{exam["patient"] for exam in part} for part in (training, test)]
    assert len(training) == len(test) == 4 and not patients[0] & patients[1]


def test_a_time_axis_of_length_one_does_not_count(listed):
    (exam,) = load_exams(datalist=listed(volume(5)[..., None], (8, 8, 3)))
    assert "frame" not in exam
    assert LoadExamd(keys=["image", "label"])(exam)["label"].shape == (1, 8, 8, 3)


@pytest.mark.parametrize("off", [9e-4, -9e-4])
def test_values_are_rounded_within_a_thousandth(listed, off):
    path = listed(np.where(volume(5) > 0, volume(5) + np.float32(off), 0))
    assert load_exams(datalist=path)[0]["structures"] == "RV MYO LV"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.002, r"1\.002; expected whole numbers. Resample"),
        (1.5, r"1\.5; expected whole numbers"),
        (7, r"7; expected 0, 1, 2, 3\. Name them in label_map\."),
        (1000001, r"1000001; expected 0, 1, 2, 3"),  # six digits would show 1e+06
    ],
)
def test_other_values_are_refused_and_shown(listed, value, words):
    path = listed(np.where(volume(5) == 1, np.float32(value), volume(5)))
    with pytest.raises(CineError, match=f"found the label values {words}"):
        load_exams(datalist=path)


def test_structures_missing_in_all_or_some_labels_are_logged(listed, tmp_path, caplog):
    without_rv = np.where(volume(5) == 1, 0, volume(5))
    path = listed(np.stack([without_rv, np.where(without_rv == 3, 0, without_rv)], axis=-1))
    exams = load_exams(datalist=path)
    assert [exam["structures"] for exam in exams] == ["MYO LV"] * 2
    assert "No label has RV: it is not in the results, and a training cannot learn it" in caplog.text
    assert "1 of 2 labels have no LV: it is not scored there, and training treats it as background" in caplog.text
    assert str(tmp_path) not in caplog.text
    caplog.clear()
    load_exams(datalist=listed(volume(5)))
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [record for record in said if "enclose" not in record.message]


def test_an_exam_listed_twice_counts_once(listed, caplog):
    path = listed(volume(5))
    items = json.loads(path.read_text())["training"]
    path.write_text(json.dumps({"training": items * 3}))
    assert len(load_exams(datalist=path)) == 1
    assert "2 of 3 exams are listed more than once" in caplog.text


def test_swapped_or_repeated_phases_are_logged(listed, tmp_path, caplog):
    items = []
    for name, lv in (("ED", 3), ("ES", 20)):
        nib.save(nib.Nifti1Image(np.arange(192, dtype=np.int16).reshape(8, 8, 3), AFFINE), tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(volume(lv), AFFINE), tmp_path / f"{name}_gt.nii.gz")
        items.append({"image": f"{name}.nii.gz", "label": f"{name}_gt.nii.gz", "patient": "a", "phase": name})
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"training": items}))
    load_exams(datalist=path)
    assert "the labelled LV is larger at ES than at ED" in caplog.text and "twice" not in caplog.text
    path.write_text(json.dumps({"training": [{**item, "phase": "ED"} for item in items]}))
    load_exams(datalist=path)
    assert "1 of 1 patients have a phase twice" in caplog.text


def test_a_label_that_is_not_finite_is_refused(listed):
    with pytest.raises(CineError, match="label values that are not finite"):
        load_exams(datalist=listed(np.where(volume(5) == 0, np.nan, volume(5)).astype(np.float32)))


def test_a_label_map_as_an_image_is_refused(listed, tmp_path):
    path = listed(volume(5))
    nib.save(nib.Nifti1Image(volume(5), AFFINE), tmp_path / "a.nii.gz")
    with pytest.raises(CineError, match="This seems to be a label map"):
        LoadExamd(["image", "label"])(load_exams(datalist=path)[0])


def test_images_of_a_doubtful_spacing_are_counted(listed, tmp_path, caplog):
    path = listed(volume(5), affine=np.eye(4))
    nib.save(nib.Nifti1Image(np.arange(192, dtype=np.int16).reshape(8, 8, 3), np.eye(4)), tmp_path / "a.nii.gz")
    load_exams(datalist=path)
    assert "The spacing of 1 of 1 images may be wrong" in caplog.text


def test_image_and_label_must_share_a_grid(listed):
    moved, zoomed = AFFINE.copy(), AFFINE @ np.diag([1.1, 1, 1, 1])
    moved[0, 3] += 0.08  # of 1.5 mm, more than a twentieth
    for label, affine, words in (
        (volume(5)[1:], AFFINE, r"shape \(7, 8, 3\)"),
        (volume(5), zoomed, "spacing"),
        (
            volume(5),
            moved,
            "an affine that shifts voxels by up to 0.08 mm; expected at most 0.075 mm from a.nii.gz",
        ),
        (volume(5), np.diag([1, -1, 1, 1]) @ AFFINE, "an affine"),
    ):
        path = listed(label, (8, 8, 3), affine)
        with pytest.raises(CineError, match=f"_gt.nii.gz: found {words}.*Label the image's own grid"):
            load_exams(datalist=path)


@pytest.mark.parametrize("decimals", [1, 2])
def test_a_rounded_grid_counts_as_equal(listed, decimals):
    assert len(load_exams(datalist=listed(volume(5), affine=np.round(AFFINE, decimals)))) == 1


def test_items_of_monai_label_have_one_frame(listed, tmp_path):
    items = [{"image": str(tmp_path / "a.nii.gz"), "label": str(tmp_path / "a_gt.nii.gz")}]
    listed(cine(5, 3))
    with pytest.raises(CineError, match="found a 4D label; expected the label of one volume"):
        complete(items)


def test_names_of_exams_do_not_depend_on_their_folder():
    first, second = ({"patient": "p1", "phase": "ED", "image": f"{folder}/p1_frame01.nii.gz"} for folder in ("a", "b"))
    assert exam_names([first]) == exam_names([second]) == ["p1 ED p1_frame01.nii.gz"]


@pytest.mark.parametrize("label_map", [[1, 2], {"LV": 3}, {1: 4}, {}])
def test_an_invalid_label_map_setting_is_refused(label_map):
    with pytest.raises(CineError, match="label_map: found"):
        load_exams(label_map=label_map)
