"""Which images a folder holds, and that no two of them write one result."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.cine.writer import find_inputs
from scripts.files import CineError


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


def test_results_within_the_input_are_no_images(cohort):
    out = cohort / "out"
    out.mkdir()
    (out / "exam_cine.nii.gz").write_text("")
    assert len(find_inputs(cohort, out)) == 3


def test_images_below_a_folder_of_images_are_left_out_aloud(cohort, tmp_path, caplog):
    assert outputs(find_inputs(cohort / "1", tmp_path / "out"), tmp_path / "out") == ["sa"]
    assert "1 images in folders below are left out" in caplog.text


def test_the_log_names_no_folder_of_the_input(cohort, tmp_path, caplog):
    caplog.set_level("INFO")
    find_inputs(cohort, tmp_path / "out")
    assert str(tmp_path / "out") in caplog.text and "cohort" not in caplog.text


def test_two_images_whose_results_have_one_name_are_refused(cohort, tmp_path):
    (cohort / "2" / "sa.nii").write_text("")
    with pytest.raises(CineError, match=r"sa\.nii and .*sa\.nii\.gz, whose results have one name"):
        find_inputs(cohort / "2", tmp_path / "out")
