"""Files that people give instead of a NIfTI, and names in upper case."""

from __future__ import annotations

import gzip
import io
import zipfile

import nibabel as nib
import numpy as np
import pytest

from scripts.cine.formats import is_nifti, other_format, stem
from scripts.cine.header import read_header
from scripts.cine.reader import CineReader
from scripts.core.errors import CineError
from scripts.exams.inputs import find_inputs

NIFTI = nib.Nifti1Image(np.zeros((4, 4, 3), np.int16), np.diag([-1.5, -1.5, 8, 1])).to_bytes()


def archive() -> bytes:
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as content:
        content.writestr("IM1", "x")
    return stream.getvalue()


FILES = {
    "cine.nrrd": (b"NRRD0004\ntype: short\n", "an NRRD image", "Save it as .nii.gz"),
    "cine.mha": (b"ObjectType = Image\nNDims = 3\n" + bytes([200] * 9), "a MetaImage", "Save it as .nii.gz"),
    "cine.mhd": (b"ObjectType = Image\n", "a MetaImage", "Save it as .nii.gz"),
    "exam.zip": (archive(), "an archive", "Unpack it"),
    "exam.tar.gz": (gzip.compress(bytes(512)), "an archive", "Unpack it"),
    "exam": (archive(), "an archive", "Unpack it"),
    "cine.nii.gz.download": (gzip.compress(NIFTI), "a NIfTI file with another ending", "Rename it to end in .nii.gz"),
    "cine.img": (NIFTI, "a NIfTI file with another ending", "Rename it"),
    "old.hdr": (bytes([92, 1, 0, 0]) + bytes(344), "an Analyze 7.5 header", "Export the exam"),
    "exam.PAR": (b"# === DATA DESCRIPTION FILE ===\n", "a PAR/REC export", "dcm2niix"),
    "cine.npy": (b"\x93NUMPY\x01", "an array without geometry", "Export the exam"),
    "cine.jpg": (b"\xff\xd8\xff\xe0", "a picture without geometry", "Export the exam"),
    "pointer.img": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer", "git lfs pull"),
    "download.gz": (b"<!DOCTYPE html><html>", "a web page", "Download the file itself"),
    "IM0001": (bytes(128) + b"DICM" + bytes(8), "one DICOM file of an exam", "Name its folder"),
}


@pytest.mark.parametrize("name", FILES)
def test_another_format_is_reported_with_advice(name, tmp_path):
    content, what, action = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CineError) as caught:
        find_inputs(path, tmp_path / "out")
    assert caught.value.found.startswith(what) and action in caught.value.action
    (tmp_path / "list.txt").write_text(name)
    with pytest.raises(CineError, match=f"line 1: found .* which is {what}"):
        find_inputs(tmp_path / "list.txt", tmp_path / "out")


@pytest.mark.parametrize("name", ["exam.zip", "cine.mha"])
def test_an_error_names_the_other_format_in_a_folder(name, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(FILES[name][0])
    with pytest.raises(CineError, match=f"found no NIfTI image, but {FILES[name][1]}; .* {FILES[name][2]}"):
        find_inputs(tmp_path / "in", tmp_path / "out")


def test_a_header_and_image_pair_is_recognised_from_either_file(tmp_path):
    nib.save(nib.Nifti1Pair(np.ones((4, 4, 3), np.int16), np.eye(4)), tmp_path / "cine.img")
    for ending in ("hdr", "img"):
        with pytest.raises(
            CineError, match=r"found one half of a header and image pair .* Join them: in Python, nibabel.save"
        ):
            find_inputs(tmp_path / f"cine.{ending}", tmp_path / "out")
    with pytest.raises(CineError, match="found one half of a header and image pair"):
        read_header(tmp_path / "cine.hdr")  # in steps that do not check names, such as stream and datalists


def test_a_list_of_paths_is_never_mistaken_for_another_format(tmp_path):
    for text in ("CDF_1.nii", "NRRD/1.nii", "Rar/1.nii", "MATLAB/1.nii", "II/1.nii"):
        (tmp_path / "list").write_text(text)
        assert other_format(tmp_path / "list") is None


def test_upper_case_works_for_a_file_in_a_folder_and_in_a_list(tmp_path):
    path, folder = tmp_path / "Cine.NII.GZ", tmp_path / "exams"
    folder.mkdir()
    for file in (path, folder / "A.NII.GZ", folder / "A_GT.NII.GZ"):
        file.write_bytes(gzip.compress(NIFTI))
    (tmp_path / "list.txt").write_text("exams/A.NII.GZ")
    found = [find_inputs(given, tmp_path)[0]["output"] for given in (path, folder, tmp_path / "list.txt")]
    assert found == [str(tmp_path / name) for name in ("Cine", "A", "A")]
    assert len(find_inputs(folder, tmp_path)) == 1  # A_GT is a mask
    assert CineReader().verify_suffix(path)
    assert CineReader().get_data(CineReader().read(path))[0].shape == (4, 4, 3)


@pytest.mark.parametrize(("name", "expected"), [("a.nii", "a"), ("B.NII.GZ", "B"), ("c.Nii.gz", "c"), ("d.gz", "d.gz")])
def test_names(name, expected, tmp_path):
    assert stem(tmp_path / name) == expected
    assert is_nifti(name) == (expected != name)
