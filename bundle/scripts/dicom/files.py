"""The DICOM files of a folder, and how pydicom opens one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.cine.dicom_signature import is_dicom
from scripts.core.errors import CineError
from scripts.core.files import missing

EXPORT = "Export the exam again, as MR images."
_DEFLATED = "1.2.840.10008.1.2.1.99"


def holds_dicom(folder: Path) -> bool:
    """Whether a folder or its subfolders contain DICOM files, or files that cannot be read."""
    try:
        return any(is_dicom(path) for path in _walk(folder))
    except CineError:  # the reader will report it, so that the other exams are finished
        return True


def dicom_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The DICOM files in and below a folder, and the other files, both sorted by name; each link is followed once.

    Raises:
        CineError: a file or folder cannot be read, or a link leads nowhere.
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in _walk(folder):
        if is_dicom(path):
            found.append(path)
        elif not path.name.startswith("."):  # files of operating systems, such as .DS_Store
            others.append(path)
    return found, others


def _walk(folder: Path) -> Iterator[Path]:
    """Each file once, even if several links lead to it; a link to a folder above is not followed."""
    seen = set()

    def refuse(error: OSError) -> None:
        path = error.filename or folder
        found = f"a folder that cannot be listed ({error.strerror})"
        raise CineError(path, found, "a folder that can be read", "Check its permissions.")

    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            real = os.path.realpath(path)
            if real in seen:
                continue
            seen.add(real)
            if path.is_symlink() and not path.exists() and not name.startswith("."):
                found, action = missing(path, "")
                raise CineError(path, found, "a file", action)
            if path.is_file():
                yield path


def open_dicom(path: Path, **keys: Any) -> Any:
    """A data set as ``pydicom.dcmread`` reads it; its transfer syntax is guessed if the file does not give it.

    Raises:
        CineError: the data set is deflated: pydicom would inflate all of it, of any size, before reading a word.
    """
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if _transfer_syntax(path) == _DEFLATED:
        raise CineError(path, "a deflated data set", "a data set that is not compressed as a whole", EXPORT)
    content = dcmread(path, force=True, **keys)
    if "TransferSyntaxUID" not in content.file_meta:
        implicit, little = content.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        content.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return content


def _transfer_syntax(path: Path) -> str:
    from pydicom.dataset import Dataset
    from pydicom.filereader import read_dataset, read_file_meta_info
    from pydicom.misc import is_dicom as has_preamble

    if has_preamble(path):
        meta: Dataset = read_file_meta_info(path)
    else:
        with path.open("rb") as stream:
            meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    return str(meta.get("TransferSyntaxUID", ""))
