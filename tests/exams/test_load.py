"""Exams: all listed files exist and are valid."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import nibabel as nib
import numpy as np
import pytest

from scripts.core.errors import CineError
from scripts.exams.folds import split_exams
from scripts.exams.load import LAYOUTS, complete, load_exams, sample_cine


@pytest.fixture
def dataset(phantom_dir, tmp_path):
    """A copy of two patients, which tests damage."""
    for name in ("patient001", "patient002"):
        shutil.copytree(phantom_dir / name, tmp_path / "data" / name)
    (tmp_path / "data" / "README.md").write_text("not a patient")
    return tmp_path / "data"


def test_an_acdc_folder_is_listed_in_order(dataset):
    exams = load_exams(dataset)
    assert [(exam["patient"], exam["phase"]) for exam in exams] == [
        (f"patient00{number}", phase) for number in (1, 2) for phase in ("ED", "ES")
    ]
    assert exams[0] == {
        "image": str(dataset / "patient001" / "patient001_frame01.nii.gz"),
        "label": str(dataset / "patient001" / "patient001_frame01_gt.nii.gz"),
        "patient": "patient001",
        "group": "NOR",
        "phase": "ED",
        "structures": "RV MYO LV",
        "lv_voxels": np.count_nonzero(np.asarray(nib.load(exams[0]["label"]).dataobj) == 3),
    }
    assert {exam["phase"] for exam in load_exams(dataset, phases=["ES"])} == {"ES"}


def test_a_folder_is_read_by_the_layout_that_fits(dataset, tmp_path, monkeypatch):
    exams = load_exams(dataset)
    monkeypatch.setitem(LAYOUTS, "*/mine.txt", lambda folder, phases: exams[:1])
    assert load_exams(dataset) == exams
    (tmp_path / "other" / "a").mkdir(parents=True)
    (tmp_path / "other" / "a" / "mine.txt").touch()
    assert load_exams(tmp_path / "other") == exams[:1]


def test_real_exams_are_listed_with_frames_counted_from_one(acdc_dir):
    exams = load_exams(acdc_dir)
    assert len(exams) == 200
    assert Counter(exam["group"] for exam in exams) == dict.fromkeys(["NOR", "DCM", "HCM", "MINF", "RV"], 40)
    late = {exam["phase"]: exam["image"] for exam in exams if exam["patient"] == "patient090"}
    assert late["ED"].endswith("patient090_frame04.nii.gz") and late["ES"].endswith("patient090_frame11.nii.gz")
    for fold in range(5):
        test = split_exams(exams, fold)[1]
        assert Counter(exam["group"] for exam in test) == dict.fromkeys(["NOR", "DCM", "HCM", "MINF", "RV"], 8)


def test_without_a_data_set_the_phantom_is_listed(phantom_dir, monkeypatch):
    monkeypatch.setattr("scripts.exams.load.cached_phantom", lambda: phantom_dir)
    exams = load_exams()
    assert len(exams) == 10
    patient = split_exams(exams)[1][0]["patient"]
    assert sample_cine() == str(phantom_dir / patient / f"{patient}_4d.nii.gz")


def test_a_datalist_with_another_order_of_labels(dataset):
    patient = dataset / "patient001"
    label = patient / "patient001_frame01_gt.nii.gz"
    image = nib.load(label)
    other = np.array([0, 600, 200, 500], np.int16)[np.asarray(image.dataobj)]
    header = image.header.copy()
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(other, None, header), label)
    item = {"image": "patient001_frame01.nii.gz", "label": label.name, "patient": 17}
    datalist = patient / "datalist.json"
    datalist.write_text(json.dumps({"name": "mine", "training": [item, {**item, "group": "NOR", "phase": "ES"}]}))
    exams = load_exams(datalist=datalist, label_map={"600": 1, "200": 2, "500": 3}, phases=["ED"])
    assert exams == [
        {
            "image": str(patient / item["image"]),
            "label": str(label),
            "patient": "17",
            "group": "unknown",
            "phase": "unknown",
            "structures": "RV MYO LV",
            "lv_voxels": np.count_nonzero(other == 500),
        }
    ]
    with pytest.raises(
        CineError, match=r"the label values 200, 500, 600; expected 0, 1, 2, 3. Name them in label_map."
    ):
        load_exams(datalist=datalist)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ED: one", "field ED: found 'one'; expected a frame from 1 to "),
        ("ED: 0", "field ED: found '0'"),
        ("ED: 99", "field ED: found '99'"),
        ("ED 1", "field ED: found nothing; expected a line 'ED: value'"),
        ("Group:", "field Group: found nothing"),
        ("NbFrame: 0", "field NbFrame: found 0; expected at least 2 frames, ED and ES"),
    ],
)
def test_a_malformed_info_error_names_the_field(dataset, line, words):
    path = dataset / "patient002" / "Info.cfg"
    key = line.split(":")[0].split()[0]
    lines = [line if entry.startswith(key) else entry for entry in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    with pytest.raises(CineError, match=words) as caught:
        load_exams(dataset)
    assert str(path) in str(caught.value) and "Restore Info.cfg" in str(caught.value)


def test_missing_parts_are_named(dataset):
    frame = dataset / "patient002" / "patient002_frame01_gt.nii.gz"
    frame.rename(frame.with_name("gone"))
    with pytest.raises(CineError, match=r"frame01_gt.nii.gz: found no such file; expected the ED frame that Info.cfg"):
        load_exams(dataset)
    (dataset / "patient001" / "Info.cfg").unlink()
    with pytest.raises(CineError, match=r"Info.cfg: found no such file"):
        load_exams(dataset)
    with pytest.raises(CineError, match="found no patients; expected folders patientNNN"):
        load_exams(dataset / "nowhere")


def test_contradictory_arguments_are_refused(dataset):
    for arguments in (
        {"dataset_dir": dataset, "datalist": "list.json"},
        {"dataset_dir": dataset, "phases": ["ED", "MID"]},
        {"dataset_dir": dataset, "phases": []},
    ):
        with pytest.raises(CineError):
            load_exams(**arguments)


def test_one_frame_cannot_be_both_ed_and_es(dataset):
    path = dataset / "patient002" / "Info.cfg"
    lines = path.read_text().splitlines()
    ed = next(line for line in lines if line.startswith("ED")).split(":")[1]
    path.write_text("\n".join(f"ES:{ed}" if line.startswith("ES") else line for line in lines))
    with pytest.raises(CineError, match="field ES: found frame"):
        load_exams(dataset)


def test_items_of_an_image_and_a_label_become_exams(dataset):
    exams = load_exams(dataset)
    assert complete(exams) == exams
    items = [{key: exam[key] for key in ("image", "label")} for exam in exams[:2]]
    completed = complete(items, minimum=2)
    names = [exam["image"].rsplit("/", 1)[1].removesuffix(".nii.gz") for exam in exams[:2]]
    assert [exam["patient"] for exam in completed] == names
    assert [exam["label"] for exam in completed] == [exam["label"] for exam in exams[:2]]
    assert {exam["phase"] for exam in completed} == {"unknown"}
    with pytest.raises(CineError, match="2 labelled; expected at least 3"):
        complete(items, minimum=3)
    cine = exams[0]["image"].replace(names[0], exams[0]["patient"] + "_4d")
    with pytest.raises(CineError, match="found the label of one frame"):
        complete([{"image": cine, "label": exams[0]["label"]}])
    with pytest.raises(CineError, match="the label values"):
        complete(items, {"5": 1})


def test_an_info_written_by_windows_is_read(dataset):
    path = dataset / "patient001" / "Info.cfg"
    path.write_text("\r\n".join(path.read_text().splitlines()), encoding="utf-8-sig")
    assert len(load_exams(dataset)) == 4
