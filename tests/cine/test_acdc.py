"""Exams: what is listed is there and fits; parts never share a patient."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import nibabel as nib
import numpy as np
import pytest

from scripts.cine.acdc import complete, exam_names, exams_to_search, halve, load_exams, patients_apart, split_exams
from scripts.files import CineError


@pytest.fixture
def dataset(phantom_dir, tmp_path):
    """A copy of two patients, to be damaged."""
    for name in ("patient001", "patient002"):
        shutil.copytree(phantom_dir / name, tmp_path / "data" / name)
    (tmp_path / "data" / "README.md").write_text("not a patient")
    return tmp_path / "data"


def exams_of(groups: dict[str, int]) -> list[dict[str, str]]:
    names = [(f"{group}{index}", group) for group, count in groups.items() for index in range(count)]
    return [
        {"image": f"{name}_{phase}", "label": "", "patient": name, "group": group, "phase": phase}
        for name, group in names
        for phase in ("ED", "ES")
    ]


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
    }
    assert {exam["phase"] for exam in load_exams(dataset, phases=["ES"])} == {"ES"}


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
    monkeypatch.setattr("scripts.cine.acdc.cached_phantom", lambda: phantom_dir)
    assert len(load_exams()) == 10


def test_a_datalist_with_labels_numbered_otherwise(dataset):
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
        }
    ]
    with pytest.raises(
        CineError, match=r"the label values 200, 500, 600; expected 0, 1, 2, 3. Name them in label_map."
    ):
        load_exams(datalist=datalist)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"training": []}, "field training"),
        ({"validation": []}, "the whole file"),
        ({"training": [{"image": "a.nii", "patient": "1"}]}, "field training#0"),
        ({"training": [{"image": "a.nii", "label": "b.nii", "patient": "1", "phase": "EDV"}]}, "training#0#phase"),
        ({"training": [{"image": "a.nii", "label": "b.nii", "patient": "1"}]}, "training#0#image: found .*a.nii"),
    ],
)
def test_a_datalist_that_does_not_fit_names_the_field(tmp_path, content, words):
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps(content))
    with pytest.raises(CineError, match=words):
        load_exams(datalist=path)


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
def test_a_malformed_info_names_the_field(dataset, line, words):
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


def test_image_and_label_must_share_a_grid(dataset):
    path = dataset / "patient001" / "patient001_frame01_gt.nii.gz"
    image = nib.load(path)
    labels = np.asarray(image.dataobj)
    for change, words in (
        ({"voxels": labels[1:]}, "shape"),
        ({"zooms": (1, 1, 8)}, "spacing"),
        ({"sform": np.diag([1.0, -1, 1, 1])}, "affine"),
    ):
        header = image.header.copy()
        header.set_zooms(change.get("zooms", header.get_zooms()))
        header.set_sform(change.get("sform", header.get_sform()), code=2)
        nib.save(nib.Nifti1Image(change.get("voxels", labels), None, header), path)
        with pytest.raises(CineError, match=f"_gt.nii.gz: found {words} .*, as patient001_frame01.nii.gz. Label the"):
            load_exams(dataset)


def test_contradictory_arguments_are_refused(dataset):
    for arguments in (
        {"dataset_dir": dataset, "datalist": "list.json"},
        {"dataset_dir": dataset, "phases": ["ED", "MID"]},
        {"dataset_dir": dataset, "phases": []},
        {"dataset_dir": dataset, "label_map": {"LV": 3}},
        {"dataset_dir": dataset, "label_map": {1: 4}},
    ):
        with pytest.raises(CineError):
            load_exams(**arguments)


@pytest.mark.parametrize(
    "groups", [{"NOR": 6, "DCM": 6}, {"NOR": 1, "DCM": 1, "HCM": 1, "MINF": 1, "RV": 1}, {"A": 13}]
)
def test_folds_are_disjoint_cover_all_and_follow_the_groups(groups):
    exams = exams_of(groups)
    seen: Counter[str] = Counter()
    for fold in range(5):
        train, test = split_exams(exams, fold)
        patients = {exam["patient"] for exam in test}
        assert train and test and not patients & {exam["patient"] for exam in train}
        assert len(train) + len(test) == len(exams)
        seen.update(patients)
        for group, count in groups.items():
            here = {exam["patient"] for exam in test if exam["group"] == group}
            assert count // 5 <= len(here) <= -(-count // 5)
    assert set(seen.values()) == {1} and len(seen) == sum(groups.values())


def test_folds_depend_on_the_seed_and_not_on_the_order():
    exams = exams_of({"NOR": 10, "DCM": 10})
    names = [{exam["patient"] for exam in split_exams(part, 2, seed=1)[1]} for part in (exams, exams[::-1])]
    assert names[0] == names[1]
    assert names[0] != {exam["patient"] for exam in split_exams(exams, 2, seed=2)[1]}


def test_halves_are_disjoint_and_follow_the_groups():
    exams = exams_of({"NOR": 8, "DCM": 5, "RV": 1})
    first, second = halve(exams)
    one, two = ({exam["patient"] for exam in part} for part in (first, second))
    assert not one & two and len(one) == len(two) == 7
    assert Counter(exam["group"] for exam in first)["NOR"] == 8


def test_a_search_reads_the_test_exams_where_it_is_told_to_and_says_so(caplog):
    training, test = [{"patient": "a"}, {"patient": "b"}], [{"patient": "c"}]
    assert exams_to_search((training, test)) == (training, test)
    assert not caplog.text
    assert exams_to_search((training, test), all_exams=True) == (training + test, [])
    assert "reads the 1 test exams too" in caplog.text


def test_impossible_folds_are_refused():
    exams = exams_of({"NOR": 3})
    with pytest.raises(CineError, match="3 patients; expected at least 5"):
        split_exams(exams)
    with pytest.raises(CineError, match="fold 5 of 5"):
        split_exams(exams_of({"NOR": 9}), fold=5)
    with pytest.raises(CineError, match="1 patients; expected at least 2"):
        halve(exams_of({"NOR": 1}))


@pytest.mark.parametrize("wrong", [{"fold": 0.5}, {"fold": "1"}, {"fold": True}, {"folds": 2.5}])
def test_folds_are_whole_numbers(wrong):
    exams = [{"patient": f"p{i}", "group": "NOR", "phase": "ED", "image": "", "label": ""} for i in range(6)]
    with pytest.raises(CineError, match="fold"):
        split_exams(exams, **wrong)


def test_exams_have_the_same_names_wherever_they_lie():
    first, second = ({"patient": "p1", "phase": "ED", "image": f"{folder}/p1_frame01.nii.gz"} for folder in ("a", "b"))
    assert exam_names([first]) == exam_names([second]) == ["p1 ED p1_frame01.nii.gz"]


def test_a_label_map_that_is_a_list_is_refused():
    with pytest.raises(CineError, match="label_map"):
        load_exams(label_map=[1, 2])


def test_one_frame_cannot_be_both_ed_and_es(dataset):
    path = dataset / "patient002" / "Info.cfg"
    lines = path.read_text().splitlines()
    ed = next(line for line in lines if line.startswith("ED")).split(":")[1]
    path.write_text("\n".join(f"ES:{ed}" if line.startswith("ES") else line for line in lines))
    with pytest.raises(CineError, match="field ES: found frame"):
        load_exams(dataset)


def test_a_patient_or_a_file_in_two_parts_is_refused():
    def exam(patient, image):
        return {"image": image, "label": f"{image} label", "patient": patient, "group": "NOR", "phase": "ED"}

    train, test = [exam("b", "1"), exam("a", "2"), exam("a", "3")], [exam("c", "4")]
    assert patients_apart({"train": train, "test": test}) == {"train": ["a", "b"], "test": ["c"]}
    for leak, found in ((exam("a", "5"), "a in the parts train and test"), (exam("d", "2"), "2 in the parts")):
        with pytest.raises(CineError, match=found):
            patients_apart({"train": train, "test": [*test, leak]})


def test_items_of_an_image_and_a_label_become_exams(dataset):
    exams = load_exams(dataset)
    assert complete(exams) == exams
    items = [{key: exam[key] for key in ("image", "label")} for exam in exams[:2]]
    completed = complete(items, least=2)
    names = [exam["image"].rsplit("/", 1)[1].removesuffix(".nii.gz") for exam in exams[:2]]
    assert [exam["patient"] for exam in completed] == names
    assert [exam["label"] for exam in completed] == [exam["label"] for exam in exams[:2]]
    assert {exam["phase"] for exam in completed} == {"unknown"}
    with pytest.raises(CineError, match="2 labelled; expected at least 3"):
        complete(items, least=3)
    cine = exams[0]["image"].replace(names[0], exams[0]["patient"] + "_4d")
    with pytest.raises(CineError, match="found shape"):
        complete([{"image": cine, "label": exams[0]["label"]}])
    with pytest.raises(CineError, match="the label values"):
        complete(items, {"5": 1})
