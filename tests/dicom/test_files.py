"""Which files of a folder count as DICOM: without the preamble, behind links, and next to other files."""

from __future__ import annotations

import logging
import os

import nibabel as nib
import numpy as np
import pytest
from dicom_exam import NAME, bare, exam, oblique, voxels, write

from scripts.core.errors import CineError
from scripts.dicom.cine import read_cine
from scripts.dicom.files import dicom_files, holds_dicom


@pytest.mark.parametrize("implicit", [True, False])
def test_all_data_sets_without_preamble_are_read(tmp_path, caplog, implicit):
    datasets = exam(voxels(), oblique())
    folder = write(datasets[:18], tmp_path)
    for number, dataset in enumerate(datasets[18:]):  # the last slice
        bare(dataset, folder / f"old{number}", implicit)
    assert holds_dicom(folder)
    assert np.array_equal(read_cine(folder)[0], voxels())
    assert not caplog.records


def test_file_meta_information_without_preamble_is_read(tmp_path):
    folder = write(exam(voxels(), oblique()), tmp_path)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    assert np.array_equal(read_cine(folder)[0], voxels())


def test_a_missing_transfer_syntax_is_guessed(tmp_path):
    folder = write(exam(voxels(), oblique()), tmp_path)
    for path in folder.iterdir():
        whole = path.read_bytes()
        length = int.from_bytes(whole[140:144], "little")
        path.write_bytes(whole[:132] + whole[144 + length :])
    assert np.array_equal(read_cine(folder)[0], voxels())


def test_other_files_are_counted_as_not_dicom(tmp_path, caplog):
    folder = write(exam(voxels(), oblique()), tmp_path)
    (folder / NAME).write_text("no image")
    (folder / "table.json").write_text("{}")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(300))
    (folder / "random.bin").write_bytes(b"\x08\x00" + np.random.default_rng(0).bytes(3000))
    (folder / "lost").write_bytes(b"")
    (folder / ".DS_Store").write_bytes(bytes(20))
    nib.save(nib.Nifti1Image(voxels(), np.eye(4)), folder / "image.nii")
    nib.save(nib.Nifti2Image(voxels(), np.eye(4)), folder / "image2.nii")
    assert len(dicom_files(folder)[1]) == 7
    with caplog.at_level(logging.INFO):
        read_cine(folder)
    assert "7 files of the folder are not DICOM" in caplog.text
    assert NAME not in caplog.text


def test_links_to_folders_are_followed_once(tmp_path, caplog):
    write(exam(voxels(), oblique()), tmp_path / "store" / "series")
    folder = tmp_path / "exam"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "store" / "up").symlink_to(folder, target_is_directory=True)  # a cycle
    with caplog.at_level(logging.INFO):
        assert np.array_equal(read_cine(folder)[0], voxels())
    assert "copies" not in caplog.text


def test_a_link_that_leads_nowhere_is_refused_by_the_reader(tmp_path):
    folder = write(exam(voxels(), oblique()), tmp_path)
    (folder / "IM0000").unlink()
    (folder / "IM0000").symlink_to(tmp_path / "annexed")
    assert holds_dicom(folder)  # so that the other exams of a list are processed
    with pytest.raises(CineError, match="IM0000: found a link that leads nowhere"):
        read_cine(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    folder = write(exam(voxels(), oblique()), tmp_path)
    (folder / "IM0003").chmod(0)
    with pytest.raises(CineError, match="IM0003: found a file that cannot be read"):
        read_cine(folder)


def test_a_truncated_data_set_without_preamble_is_refused(tmp_path):
    datasets = exam(voxels(), oblique())
    folder = write(datasets[1:], tmp_path)
    bare(datasets[0], folder / "old")
    (folder / "old").write_bytes((folder / "old").read_bytes()[:200])
    with pytest.raises(CineError, match="old: found"):
        read_cine(folder)
