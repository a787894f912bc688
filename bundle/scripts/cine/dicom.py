"""One DICOM file: which files there are, what the header of an image says, and its voxels.

Source: DICOM PS3.3, C.7.6.2.1.1 (the image plane module). pydicom reads it, an optional package.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.files import CineError

ALONE = "Leave the short-axis cine of one exam alone in the folder; name several exams one by one."
EXPORT = "Export the exam again, as MR images of one frame each."
_MAGIC_AT, _MAGIC = 128, b"DICM"
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class Plane:
    """What the header of one image, of a slice at a time, says.

    Attributes:
        path: its file.
        patient, study, frame_of_reference: identifiers, to compare and never to tell.
        size: columns, rows.
        spacing_mm: distance of its voxels along a row and down a column.
        orientation: 2x3 unit vectors of these two directions (LPS).
        position_mm: centre of its first voxel (LPS).
        trigger_ms: time after the R wave; None where the file has none.
        instance: its number; None where the file has none.
        frames: images a heart beat that the scanner made; None where the file does not say.
        thickness_mm: distance to the next slice or thickness, for an exam of one slice.
    """

    path: Path
    patient: str
    study: str
    frame_of_reference: str
    size: tuple[int, int]
    spacing_mm: np.ndarray
    orientation: np.ndarray
    position_mm: np.ndarray
    trigger_ms: float | None
    instance: float | None
    frames: float | None
    thickness_mm: float | None


def holds_dicom(folder: Path) -> bool:
    """Whether there are DICOM files in a folder or below it."""
    return next(dicom_files(folder), None) is not None


def dicom_files(folder: Path) -> Iterator[Path]:
    """The DICOM files (PS3.10, with their preamble) in a folder and below it, by name; others are passed over."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            with path.open("rb") as stream:
                stream.seek(_MAGIC_AT)
                if stream.read(len(_MAGIC)) == _MAGIC:
                    yield path
        except OSError as error:
            found = f"a file that cannot be read ({error.strerror})"
            raise CineError(path, found, "a file that can be read", "Check its rights.") from None


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


_NEEDED = (
    *(
        "SOPClassUID",
        "PatientID",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "Rows",
        "Columns",
        "NumberOfFrames",
        "SamplesPerPixel",
    ),
    *("PhotometricInterpretation", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "TriggerTime"),
    *("InstanceNumber", "CardiacNumberOfImages", "SpacingBetweenSlices", "SliceThickness"),
)


def read_plane(path: Path) -> Plane | None:
    """The header of an image; None for a file without one.

    Raises:
        CineError: a damaged or deflated file, several frames, colour, or a geometry that is missing or absurd.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import UID

    try:
        meta = read_file_meta_info(path)
        # it would be inflated whole, whatever its size, before a word of it is read
        deflated = str(meta.get("TransferSyntaxUID")) == _DEFLATED
        header = None if deflated else dcmread(path, stop_before_pixels=True, specific_tags=list(_NEEDED))
        texts = {} if header is None else {name: str(header.get(name, "")) for name in _NEEDED}
        kind = UID(texts.get("SOPClassUID") or str(meta.get("MediaStorageSOPClassUID", "")))
    except Exception as error:  # of many types, for files are damaged in many ways
        raise CineError(path, f"a damaged DICOM file ({type(error).__name__})", "a whole one", EXPORT) from None
    if header is None:
        raise CineError(path, "a deflated data set", "one that is not compressed as a whole", EXPORT)
    if "Rows" not in header and kind and "Image Storage" not in kind.name:
        return None
    columns, rows = (int(_numbers(path, header, name, 1)[0]) for name in ("Columns", "Rows"))
    frames = _number(header, "NumberOfFrames")
    if frames is not None and frames != 1:
        raise CineError(path, f"a file of {frames:g} frames", "one frame a file", EXPORT)
    if (texts["SamplesPerPixel"], texts["PhotometricInterpretation"]) != ("1", "MONOCHROME2"):
        raise CineError(path, "a picture in colour or inverted", "grey values (MONOCHROME2)", ALONE)
    down, along = _numbers(path, header, "PixelSpacing", 2)  # DICOM: between rows first
    orientation = _numbers(path, header, "ImageOrientationPatient", 6).reshape(2, 3)
    if not np.allclose(orientation @ orientation.T, np.eye(2), atol=0.01):
        found = f"an ImageOrientationPatient of {orientation.tolist()}"
        raise CineError(path, found, "two unit vectors at right angles", EXPORT)
    if min(columns, rows) < 1 or min(along, down) <= 0:
        raise CineError(path, f"{columns} x {rows} pixels of {along} x {down} mm", "positive numbers", EXPORT)
    return Plane(
        path=path,
        patient=texts["PatientID"],
        study=texts["StudyInstanceUID"],
        frame_of_reference=texts["FrameOfReferenceUID"],
        size=(columns, rows),
        spacing_mm=np.array([along, down]),
        orientation=orientation / np.linalg.norm(orientation, axis=1, keepdims=True),
        position_mm=_numbers(path, header, "ImagePositionPatient", 3),
        trigger_ms=_number(header, "TriggerTime"),
        instance=_number(header, "InstanceNumber"),
        frames=_number(header, "CardiacNumberOfImages"),
        thickness_mm=_number(header, "SpacingBetweenSlices") or _number(header, "SliceThickness"),
    )


def _number(header: Any, name: str) -> float | None:
    try:
        value = float(header[name].value)
    except Exception:  # missing, empty, several or no number
        return None
    return value if math.isfinite(value) else None


def _numbers(path: Path, header: Any, name: str, count: int) -> np.ndarray:
    try:
        values = np.array(header[name].value, dtype=np.float64).reshape(-1)
    except Exception:
        values = np.empty(0)
    if values.size != count or not np.isfinite(values).all():
        raise CineError(path, f"no valid {name}", f"{count} finite numbers", EXPORT)
    return values


def read_pixels(image: Plane) -> np.ndarray:
    """Rows x columns, as the modality means them (rescaled).

    Raises:
        CineError: a compression without a decoder, or damaged voxels.
    """
    from pydicom import dcmread
    from pydicom.pixels import apply_modality_lut

    syntax = "an unknown transfer syntax"
    compressed = False
    try:
        content = dcmread(image.path)
        syntax, compressed = content.file_meta.TransferSyntaxUID.name, content.file_meta.TransferSyntaxUID.is_compressed
        pixels = np.asarray(apply_modality_lut(content.pixel_array, content))
    except Exception as error:  # of many types, by decoder and damage
        if compressed:
            action = "Install a decoder (pip install pylibjpeg[all]), or export the exam uncompressed."
            raise CineError(
                image.path, f"pixels in {syntax}, which nothing here decodes", "ones that can be", action
            ) from None
        found = f"pixels that cannot be read ({type(error).__name__}, {syntax})"
        raise CineError(image.path, found, "whole ones", EXPORT) from None
    if pixels.shape != image.size[::-1]:
        raise CineError(image.path, f"{pixels.shape} pixels", f"{image.size[::-1]}, as its header says", EXPORT)
    return pixels
