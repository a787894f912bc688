"""Which images a folder contains, and that no two of them have the same result."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.core.errors import CineError
from scripts.exams.inputs import find_inputs


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Two patients with files of the same names."""
    for name in ("1/sa.nii.gz", "1/seg/sa.nii.gz", "2/sa.nii.gz", "2/sa_gt.nii.gz"):
        path = tmp_path / "cohort" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path / "cohort"


def outputs(found, folder) -> list[str]:
    return [str(Path(item["output"]).relative_to(folder)) for item in found]


def test_results_mirror_the_folders_of_a_cohort(cohort, tmp_path):
    out = tmp_path / "out"
    assert outputs(find_inputs(cohort, out), out) == ["1/sa", "1/seg/sa", "2/sa"]
    (cohort / "list.txt").write_text("1/sa.nii.gz\n2/../2/sa.nii.gz\n2/sa.nii.gz\n")
    assert outputs(find_inputs(cohort / "list.txt", out), out) == ["1/sa", "2/sa"]
    both = [cohort / "1" / "sa.nii.gz", cohort / "2"]
    assert outputs(find_inputs(both, out), out) == ["1/sa", "2/sa"]
    assert outputs(find_inputs(cohort / "2" / "sa.nii.gz", out), out) == ["sa"]


def test_results_within_the_input_are_not_images(cohort):
    out = cohort / "out"
    out.mkdir()
    (out / "exam_cine.nii.gz").write_text("")
    assert len(find_inputs(cohort, out)) == 3


def test_a_folder_with_its_own_results_still_lists_its_subfolders(cohort, caplog):
    find_inputs(cohort / "1", cohort / "1")
    assert "1 images in subfolders are ignored" in caplog.text


def test_links_to_patients_are_followed_and_circles_end(cohort, tmp_path):
    linked = tmp_path / "linked" / "site"
    linked.mkdir(parents=True)
    for name in ("1", "2"):
        (linked / name).symlink_to(cohort / name)
    (linked / "circle").symlink_to(linked)
    out = tmp_path / "out"
    assert outputs(find_inputs(linked.parent, out), out) == ["1/sa", "1/seg/sa", "2/sa"]


def test_a_folder_of_only_label_maps_and_a_datalist_are_reported(cohort, tmp_path):
    (cohort / "2" / "sa.nii.gz").unlink()
    with pytest.raises(CineError, match="only label maps"):
        find_inputs(cohort / "2", tmp_path / "out")
    (tmp_path / "exams.json").write_text("{}")
    with pytest.raises(CineError, match="a JSON file, such as a datalist"):
        find_inputs(tmp_path / "exams.json", tmp_path / "out")
    with pytest.raises(CineError, match="found a file; expected a folder"):
        find_inputs(cohort, tmp_path / "exams.json")


def test_an_input_that_changed_after_its_results_is_processed_again(cohort, tmp_path, caplog):
    out, suffixes = tmp_path / "out", ("_seg.nii.gz",)
    image = cohort / "1" / "sa.nii.gz"
    out.mkdir()
    (out / "sa_seg.nii.gz").write_text("")
    os.utime(image, (0, 0))
    assert find_inputs(image, out, "skip", suffixes) == []
    os.utime(out / "sa_seg.nii.gz", (1, 1))
    os.utime(image, (2, 2))
    assert len(find_inputs(image, out, "skip", suffixes)) == 1
    assert "1 inputs are newer than their results" in caplog.text


def test_images_in_subfolders_are_ignored_with_a_warning(cohort, tmp_path, caplog):
    assert outputs(find_inputs(cohort / "1", tmp_path / "out"), tmp_path / "out") == ["sa"]
    assert "1 images in subfolders are ignored" in caplog.text


def test_the_log_names_no_folder_of_the_input(cohort, tmp_path, caplog):
    caplog.set_level("INFO")
    find_inputs(cohort, tmp_path / "out")
    assert str(tmp_path / "out") in caplog.text and "cohort" not in caplog.text


def test_two_images_with_the_same_result_name_are_refused(cohort, tmp_path):
    (cohort / "2" / "sa.nii").write_text("")
    with pytest.raises(CineError, match=r"sa\.nii and .*sa\.nii\.gz, whose results have the same name"):
        find_inputs(cohort / "2", tmp_path / "out")
