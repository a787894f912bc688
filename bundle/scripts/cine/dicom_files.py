"""Which files of a folder are DICOM, with their preamble (PS3.10, 7.1) or without it, and how pydicom opens one.

Old archives and some exports write the data set only, without the 128 bytes and "DICM" that PS3.10 asks for.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.files import CineError, missing

EXPORT = "Export the exam again, as MR images."
_PREAMBLE, _MAGIC = 128, b"DICM"
# file meta information begins with its length (UL, 4 bytes)
_META = b"\x02\x00\x00\x00UL\x04\x00"
_IDENTIFYING = b"\x08\x00"
_HEAD = 4096
_DEFLATED = "1.2.840.10008.1.2.1.99"


def holds_dicom(folder: Path) -> bool:
    """Whether there are DICOM files, or files that cannot be read, in a folder or below it."""
    try:
        return any(is_dicom(path) for path in _walk(folder))
    except CineError:  # for the reader to report, so that the other exams are finished
        return True


def dicom_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The DICOM files in a folder and below it, and the other files, both by name; links are followed, once each.

    Raises:
        CineError: a file or folder that cannot be read, or a link that leads nowhere.
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in _walk(folder):
        if is_dicom(path):
            found.append(path)
        elif not path.name.startswith("."):  # what systems leave, such as .DS_Store
            others.append(path)
    return found, others


def _walk(folder: Path) -> Iterator[Path]:
    """Each file once, whatever links lead to it; a link to a folder above ends there."""
    seen = set()

    def refuse(error: OSError) -> None:
        path = error.filename or folder
        found = f"a folder that cannot be listed ({error.strerror})"
        raise CineError(path, found, "a folder that can be read", "Check its rights.")

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


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by how it begins; CineError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror})"
        raise CineError(path, found, "a file that can be read", "Check its rights.") from None
    if head[_PREAMBLE:].startswith(_MAGIC) or head.startswith(_META):
        return True
    return head.startswith(_IDENTIFYING) and _identifies_an_object(head)


def _identifies_an_object(head: bytes) -> bool:
    """Whether bytes without a preamble are the first elements of a data set, and name a DICOM class or a modality."""
    if importlib.util.find_spec("pydicom") is None:
        return True  # for the reader to say what is missing
    from pydicom.filereader import read_partial

    try:
        with quiet():
            content = read_partial(io.BytesIO(head), stop_when=lambda tag, *_: tag > 0x00080060, force=True)
            kind, modality = str(content.get("SOPClassUID", "")), str(content.get("Modality", ""))
    except Exception:  # of many types, for these may be any bytes
        return False
    return kind.startswith("1.2.840.10008.") or (modality.isalpha() and modality.isupper() and len(modality) == 2)


def open_dicom(path: Path, **keys: Any) -> Any:
    """A data set as ``pydicom.dcmread`` reads it; its transfer syntax is deduced where the file does not say it.

    Raises:
        CineError: a deflated data set: it would be inflated whole, whatever its size, before a word of it is read.
    """
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if _transfer_syntax(path) == _DEFLATED:
        raise CineError(path, "a deflated data set", "one that is not compressed as a whole", EXPORT)
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


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom warns of odd values by quoting them, and they may be the patient's."""
    from pydicom.config import disable_value_validation

    pydicom_logger = logging.getLogger("pydicom")
    level = pydicom_logger.level
    pydicom_logger.setLevel(logging.CRITICAL + 1)  # its children's too
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom_logger.setLevel(level)
