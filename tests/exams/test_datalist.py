"""Datalists in the formats of MONAI's tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.auto3dseg import datafold_read

from scripts.core.errors import CineError
from scripts.exams.datalist import read_datalist
from scripts.exams.folds import split_exams

DECATHLON = {"name": "heart", "numTraining": 6, "test": ["./imagesTs/7.nii.gz"]}


@pytest.fixture
def items(tmp_path) -> list[dict]:
    """Six items with existing but empty files, since a datalist's reader does not open them."""
    items = []
    for number in range(6):
        item = {"image": f"./imagesTr/{number}.nii.gz", "label": f"./labelsTr/{number}.nii.gz"}
        for name in item.values():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        items.append(item)
    return items


@pytest.fixture
def write(tmp_path):
    def write(**content) -> Path:
        (tmp_path / "list.json").write_text(json.dumps(content))
        return tmp_path / "list.json"

    return write


def patients(exams) -> list[str]:
    return [exam["patient"] for exam in exams]


def test_items_without_a_patient_are_named_by_their_files(items, write, caplog):
    exams = read_datalist(write(training=items, **DECATHLON))
    assert patients(exams) == list("012345")
    assert {(exam["group"], exam["phase"]) for exam in exams} == {("unknown", "unknown")}
    assert "6 of 6 items name no patient: their file names give 6 patients" in caplog.text


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["p1_frame01", "p1_frame12", "p2_frame01"], ["p1", "p1", "p2"]),
        (["p1_ED", "p1_es", "p1-t03"], ["p1", "p1", "p1"]),
        (["p1_frame01_0000", "fred"], ["p1", "fred"]),
        (["p1/sa_ED", "p1/sa_ES", "p2/sa_ED", "p2/sa_ES"], ["p1", "p1", "p2", "p2"]),
    ],
)
def test_frames_of_one_patient_share_its_name(tmp_path, write, names, expected):
    for name in names:
        (tmp_path / f"{name}.nii.gz").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii.gz").touch()
    exams = read_datalist(write(training=[{"image": f"{n}.nii.gz", "label": f"{n}.nii.gz"} for n in names]))
    assert patients(exams) == expected


@pytest.mark.parametrize(("names", "count"), [([1, "01", "2"], 2), (["A 1", "a 1", 3], 2), ([1, 2, 10], 0)])
def test_names_that_differ_only_in_spelling_are_counted(items, write, caplog, names, count):
    exams = read_datalist(
        write(training=[{**item, "patient": name} for item, name in zip(items[:3], names, strict=True)])
    )
    assert patients(exams) == [str(name) for name in names]
    assert (f"{count} patients have names that differ only in zeros" in caplog.text) == (count > 0)


def test_a_bare_list_is_answered_with_the_form_of_a_datalist(items, tmp_path):
    (tmp_path / "list.json").write_text(json.dumps(items))
    with pytest.raises(CineError, match=r'Write it as MONAI\'s datalists: \{"training"'):
        read_datalist(tmp_path / "list.json")


def test_fold_numbers_are_read_as_auto3dseg_reads_them(items, write, tmp_path, caplog):
    caplog.set_level("INFO")
    path = write(training=[{**item, "fold": number % 3} for number, item in enumerate(items)])
    parts = split_exams(read_datalist(path), fold=2)
    theirs = datafold_read(str(path), str(tmp_path), fold=2)
    for ours, other in zip(parts, theirs, strict=True):
        assert [Path(exam["image"]) for exam in ours] == [Path(item["image"]) for item in other]
    assert patients(parts[1]) == ["2", "5"]
    assert "4 exams to train on and 2 to test: fold 2 of the datalist's own fold numbers 0, 1, 2" in caplog.text
    with pytest.raises(CineError, match=r"fold: found fold 3, which is not in the datalist; expected one of 0, 1, 2"):
        split_exams(read_datalist(path), fold=3)


def test_a_validation_list_is_the_test_part(items, write, caplog):
    caplog.set_level("INFO")
    exams = read_datalist(write(training=items[:4], validation=items[4:]))
    training, test = split_exams(exams, folds=2)
    assert (patients(training), patients(test)) == (list("0123"), list("45"))
    assert "4 exams to train on and 2 to test: the datalist's own validation list" in caplog.text
    with pytest.raises(CineError, match=r"found fold 1 with a datalist that has a validation list; expected fold 0"):
        split_exams(exams, fold=1)
    assert not any("part" in exam for exam in read_datalist(write(training=items, validation=[])))


@pytest.mark.parametrize("key", ["patient", "image", "label"])
def test_exams_in_training_and_validation_are_refused(items, write, tmp_path, key):
    items = [{**item, "patient": f"p{number}"} for number, item in enumerate(items)]
    if key == "patient":
        items[5]["patient"] = "p0"
    else:  # one file under another name
        (tmp_path / "linked.nii.gz").symlink_to(tmp_path / items[0][key])
        items[5][key] = "linked.nii.gz"
    for content in ({"training": items[:4], "validation": items[4:]}, {"training": items}):
        if "validation" not in content:
            content["training"] = [{**item, "fold": int(number < 4)} for number, item in enumerate(items)]
        with pytest.raises(
            CineError, match=r"in the parts training and validation; expected every patient in one part"
        ):
            split_exams(read_datalist(write(**content)))


def test_rules_that_contradict_are_refused(items, write):
    numbered = [{**item, "fold": 0} for item in items]
    with pytest.raises(
        CineError, match=r"training#3: found no fold, which 3 of 6 items have; expected a fold in every"
    ):
        read_datalist(write(training=numbered[:3] + items[3:]))
    with pytest.raises(CineError, match="found a validation list and 5 items with a fold; expected only one of them"):
        read_datalist(write(training=numbered[:5], validation=items[5:]))
    with pytest.raises(CineError, match="found 0 exams to train on and 6 to test; expected at least one of each"):
        split_exams(read_datalist(write(training=numbered)))


def test_a_list_of_one_file_is_that_file_and_of_several_is_refused(items, write, tmp_path):
    (first,) = read_datalist(write(training=[{**items[0], "image": [items[0]["image"]]}]))
    assert Path(first["image"]) == tmp_path / "imagesTr" / "0.nii.gz"
    with pytest.raises(
        CineError, match=r"field training#0#image: found 2 files; expected one file, since a cine has one ch"
    ):
        read_datalist(write(training=[{**items[0], "image": [items[0]["image"]] * 2}]))


def test_paths_of_windows_are_understood(items, write, tmp_path):
    (exam,) = read_datalist(write(training=[{key: text.replace("/", "\\") for key, text in items[0].items()}]))
    assert Path(exam["label"]) == tmp_path / "labelsTr" / "0.nii.gz"
    with pytest.raises(CineError, match=r"training#0#image: found D:\\a.nii.gz, which does not exist.*relative to"):
        read_datalist(write(training=[{**items[0], "image": r"D:\a.nii.gz"}]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"training": []}, "field training"),
        ({"validation": []}, "the whole file"),
        ({"training": [{"image": "a.nii", "patient": "1"}]}, "field training#0: found no 'label'"),
        ({"training": [{"image": "a.nii", "label": "b.nii", "patient": "1", "phase": "EDV"}]}, "training#0#phase"),
        ({"training": [{"image": "a.nii", "label": "b.nii", "fold": -1}]}, "training#0#fold"),
        ({"training": [{"image": "a.nii", "label": "b.nii", "patient": "1"}]}, "training#0#image: found .*a.nii"),
        ({"training": [{"image": "a" * 300, "label": "b.nii"}]}, "training#0#image: found .*, which does not exist"),
    ],
)
def test_an_invalid_datalist_error_names_the_field(write, content, words):
    with pytest.raises(CineError, match=words):
        read_datalist(write(**content))
