"""Decide whether a file is DICOM from its first bytes: with a preamble (PS3.10, 7.1) or without one.

Old archives and some exports write only the data set, without the 128 bytes and "DICM" that PS3.10 requires.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.core.errors import CineError

_PREAMBLE, _MAGIC = 128, b"DICM"
# the file meta information begins with its length (UL, 4 bytes)
_META = b"\x02\x00\x00\x00UL\x04\x00"
_IDENTIFYING = b"\x08\x00"
_HEAD = 4096


def is_dicom(path: Path) -> bool:
    """Whether the first bytes of a file are DICOM; CineError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror})"
        raise CineError(path, found, "a file that can be read", "Check its permissions.") from None
    if head[_PREAMBLE:].startswith(_MAGIC) or head.startswith(_META):
        return True
    return head.startswith(_IDENTIFYING) and _identifies_an_object(head)


def _identifies_an_object(head: bytes) -> bool:
    """Whether bytes without a preamble are the first elements of a data set with a DICOM class or a modality."""
    if importlib.util.find_spec("pydicom") is None:
        return True  # the reader will report what is missing
    from pydicom.filereader import read_partial

    try:
        with quiet():
            content = read_partial(io.BytesIO(head), stop_when=lambda tag, *_: tag > 0x00080060, force=True)
            kind, modality = str(content.get("SOPClassUID", "")), str(content.get("Modality", ""))
    except Exception:  # of many types, since these may be any bytes
        return False
    return kind.startswith("1.2.840.10008.") or (modality.isalpha() and modality.isupper() and len(modality) == 2)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom: it quotes odd values in its warnings, and these may be the patient's."""
    from pydicom.config import disable_value_validation

    pydicom_logger = logging.getLogger("pydicom")
    level = pydicom_logger.level
    pydicom_logger.setLevel(logging.CRITICAL + 1)  # also for its child loggers
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom_logger.setLevel(level)
