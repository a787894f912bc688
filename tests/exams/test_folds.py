"""Parts of the exams never share a patient, and equal the datalist's parts if it gives some."""

from __future__ import annotations

from collections import Counter

import pytest

from scripts.core.errors import CineError
from scripts.exams.folds import exams_to_search, halve, patients_apart, split_exams


def exams_of(groups: dict[str, int]) -> list[dict[str, str]]:
    names = [(f"{group}{index}", group) for group, count in groups.items() for index in range(count)]
    return [
        {"image": f"{name}_{phase}", "label": "", "patient": name, "group": group, "phase": phase}
        for name, group in names
        for phase in ("ED", "ES")
    ]


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


def test_a_search_reads_the_test_exams_only_if_requested_and_logs_it(caplog):
    training, test = [{"patient": "a"}, {"patient": "b"}], [{"patient": "c"}]
    assert exams_to_search((training, test)) == (training, test)
    assert not caplog.text
    assert exams_to_search((training, test), all_exams=True) == (training + test, [])
    assert "also reads the 1 test exams" in caplog.text


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


def test_a_patient_or_a_file_in_two_parts_is_refused():
    def exam(patient, image):
        return {"image": image, "label": f"{image} label", "patient": patient, "group": "NOR", "phase": "ED"}

    train, test = [exam("b", "1"), exam("a", "2"), exam("a", "3")], [exam("c", "4")]
    assert patients_apart({"train": train, "test": test}) == {"train": ["a", "b"], "test": ["c"]}
    for leak, found in ((exam("a", "5"), "a in the parts train and test"), (exam("d", "2"), "2 in the parts")):
        with pytest.raises(CineError, match=found):
            patients_apart({"train": train, "test": [*test, leak]})
