"""Names and formats of files: how names of NIfTI files end, and what to do with files in other formats."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from scripts.cine.dicom_signature import is_dicom

_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_HEAD = 400
_HEADERS = {bytes([92, 1, 0, 0]), bytes([0, 0, 1, 92]), bytes([28, 2, 0, 0]), bytes([0, 0, 2, 28])}
"""The first bytes of headers of Analyze and NIfTI-1 (348) and of NIfTI-2 (540), in both byte orders."""
_CONVERT = "Save it as .nii.gz, in 3D Slicer or with SimpleITK (ReadImage, WriteImage)."
_UNPACK = "Unpack it, and name the folder or the NIfTI file from it."
_EXPORT = "Export the exam as DICOM or NIfTI."
# (first bytes, endings of the name, what it is, what to do); the first bytes or the ending suffices
_FORMATS: tuple[tuple[tuple[bytes, ...], tuple[str, ...], str, str], ...] = (
    ((b"NRRD000",), (".nrrd", ".nhdr"), "an NRRD image", _CONVERT),
    ((b"ObjectType =", b"NDims ="), (".mha", ".mhd"), "a MetaImage", _CONVERT),
    ((b"CDF\x01", b"CDF\x02"), (".mnc",), "a MINC image", _CONVERT),
    (
        (b"PK\x03\x04", b"7z\xbc\xaf", b"Rar!\x1a"),
        (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz"),
        "an archive",
        _UNPACK,
    ),
    ((b"# === DATA DESCRIPTION",), (".par", ".rec"), "a PAR/REC export of Philips", "Convert it with dcm2niix."),
    ((b"version https://git-lfs",), (), "a Git LFS pointer instead of the file", "Fetch the file: git lfs pull."),
    ((b"<!DOCTYPE", b"<!doctype", b"<html"), (), "a web page", "Download the file itself."),
    ((b"\x93NUMPY", b"MATLAB 5.0", b"\x89HDF"), (".npy", ".npz", ".mat", ".h5"), "an array without geometry", _EXPORT),
    (
        (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF87a", b"GIF89a", b"%PDF-"),
        (),
        "a picture without geometry",
        _EXPORT,
    ),
)


def is_nifti(path: str | Path) -> bool:
    """Whether a name ends in .nii or .nii.gz, in upper or lower case."""
    return _NIFTI.search(str(path)) is not None


def stem(path: Path) -> str:
    """A file's name without .nii or .nii.gz, in upper or lower case."""
    return _NIFTI.sub("", path.name)


def other_format(path: Path) -> tuple[str, str] | None:
    """What a file is that is not the NIfTI of its name, and what to do; None if that is unknown."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
        dicom = is_dicom(path)
    except (OSError, ValueError):
        return None
    if dicom:
        return "one DICOM file of an exam", f"Name its folder, which is read as one exam: {path.parent}."
    content = _inflated(path) if head.startswith(b"\x1f\x8b") else head
    if content[:4] in _HEADERS and (known := _of_header(content)):
        return known
    name = path.name.lower()
    if name.endswith((".img", ".img.gz")) and any(path.parent.glob(f"{path.name.split('.')[0]}.[hH][dD][rR]*")):
        return _PAIR
    for begins, ends, what, action in _FORMATS:
        if content.startswith(begins) or name.endswith(ends):
            return what, action
    return None


_PAIR = (
    "one half of a header and image pair (.hdr, .img)",
    "Join them: in Python, nibabel.save(nibabel.load('NAME.hdr'), 'NAME.nii.gz').",
)


def _of_header(content: bytes) -> tuple[str, str] | None:
    """The same from the magic bytes; Analyze has none."""
    if content[344:348] == b"n+1\0" or content[4:8] == b"n+2\0":
        return "a NIfTI file with another ending", "Rename it to end in .nii.gz if it is compressed, else in .nii."
    if content[344:348] == b"ni1\0" or content[4:8] == b"ni2\0":
        return _PAIR
    if content[344:348] == bytes(4):
        return "an Analyze 7.5 header, which does not give the patient's orientation", _EXPORT
    return None


def _inflated(path: Path) -> bytes:
    try:
        with gzip.open(path) as stream:
            return stream.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return b""
