"""Read one DICOM object: what its header says about each of its images, and their voxels.

Source: DICOM PS3.3, C.7.6.2.1.1 (the image plane module) and C.7.6.16 (multi-frame objects). The optional package
pydicom reads the files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from scripts.core.errors import CineError
from scripts.dicom.files import EXPORT, open_dicom
from scripts.dicom.frames import is_phase, macro, time_index

ONLY = "Leave only the short-axis cine in the folder."

MAX_FRAMES = 10_000
"""The maximum of frames in one object: more are not an exam, and their list would fill the memory."""


@dataclass(frozen=True)
class Plane:
    """The header data of one image, which is one slice at one time.

    Attributes:
        path: its file.
        frame: its index in the file.
        instance_uid, patient, study, series, frame_of_reference: identifiers for comparison, never to be shown.
        series_number: None if the file has none.
        phase: whether it shows phase or velocity rather than magnitude.
        size: columns, rows.
        spacing_mm: distance of its voxels along a row and down a column.
        orientation: 2x3 unit vectors of these two directions (LPS).
        position_mm: centre of its first voxel (LPS).
        trigger_ms: time after the R wave; None if the file has none.
        order: a number that grows with time, used without trigger times: instance number, then place in the file; or
            None.
        frames: the number of images per heart beat that the scanner made; None if the file does not give it.
        thickness_mm: the distance to the next slice, or the thickness; for an exam of one slice.
        placed: False for one of several frames if the file gives only one position.
    """

    path: Path = field(compare=False)
    frame: int
    instance_uid: str
    patient: str
    study: str
    series: str
    frame_of_reference: str
    series_number: float | None
    phase: bool
    size: tuple[int, int]
    spacing_mm: np.ndarray
    orientation: np.ndarray
    position_mm: np.ndarray
    trigger_ms: float | None
    order: float | None
    frames: float | None
    thickness_mm: float | None
    placed: bool

    def agrees(self, other: Plane) -> bool:
        """Whether the header data of two copies are the same."""
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.compare]
        return all(np.array_equal(mine, its) for mine, its in pairs)


@dataclass(frozen=True)
class Content:
    """The images of a file, or why it has none for a cine, and its series (an identifier)."""

    path: Path
    series: str
    planes: list[Plane]
    left_out: str = ""


_TEXTS = (
    *("SOPClassUID", "SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("SamplesPerPixel", "PhotometricInterpretation"),
)
_NEEDED = (
    *_TEXTS,
    *("SeriesNumber", "ImageType", "ComplexImageComponent", "Rows", "Columns", "BitsAllocated", "NumberOfFrames"),
    *("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "TriggerTime", "InstanceNumber"),
    *("NominalCardiacTriggerDelayTime", "CardiacNumberOfImages", "SpacingBetweenSlices", "SliceThickness"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence"),
)


def read_content(path: Path) -> Content:
    """The header data of the images of a file.

    Raises:
        CineError: the file is damaged or deflated, its grey values are inverted, or its geometry is missing or
            impossible.
    """
    from pydicom.uid import UID

    try:
        header = open_dicom(path, stop_before_pixels=True, specific_tags=list(_NEEDED))
        texts = {name: str(header.get(name, "")) for name in _TEXTS}
        kind = UID(texts["SOPClassUID"] or str(header.file_meta.get("MediaStorageSOPClassUID", ""))).name
        other_kind = "Image Storage" in kind and "MR" not in kind.split()
        if "Rows" not in header and kind and "Image Storage" not in kind:
            return Content(path, texts["SeriesInstanceUID"], [], "without an image")
        if texts["SamplesPerPixel"] == "3":
            return Content(path, texts["SeriesInstanceUID"], [], "in colour")
        if texts["PhotometricInterpretation"] == "MONOCHROME1":
            return Content(path, texts["SeriesInstanceUID"], [], "with inverted grey values")
        try:
            return Content(path, texts["SeriesInstanceUID"], _planes(path, header, texts))
        except CineError:
            if not other_kind:
                raise
            return Content(path, texts["SeriesInstanceUID"], [], "of another modality and without a usable geometry")
    except CineError:
        raise
    except Exception as error:  # of many types, since files are damaged in many ways
        raise CineError(path, f"a damaged DICOM file ({type(error).__name__})", "an intact one", EXPORT) from None


def _planes(path: Path, header: Any, texts: dict[str, str]) -> list[Plane]:
    columns, rows = (int(_numbers(path, header, name, 1)[0]) for name in ("Columns", "Rows"))
    if (texts["SamplesPerPixel"], texts["PhotometricInterpretation"]) != ("1", "MONOCHROME2"):
        raise CineError(path, "a picture without grey values", "grey values (MONOCHROME2)", ONLY)
    if min(columns, rows) < 1:
        raise CineError(path, f"{columns} x {rows} pixels", "positive numbers", EXPORT)
    count = _number(header, "NumberOfFrames") or 1
    described = len(header.get("PerFrameFunctionalGroupsSequence") or [])
    stored = columns * rows * (_number(header, "BitsAllocated") or 1) / 8 * count
    held = header.file_meta.TransferSyntaxUID.is_compressed or stored <= path.stat().st_size
    if count > 1 and not (count <= MAX_FRAMES and count == int(count) and held):
        expected = f"at most {MAX_FRAMES}, all in the file"
        raise CineError(path, f"a file that claims {count:g} frames", expected, EXPORT)
    if count > 1 and described not in (0, count):
        raise CineError(path, f"{described} descriptions of {count:g} frames", "one for each", EXPORT)
    return [_plane(path, header, texts, (columns, rows), frame, int(count)) for frame in range(int(count))]


def _plane(path: Path, header: Any, texts: dict[str, str], size: tuple[int, int], frame: int, count: int) -> Plane:
    measures = macro(header, frame, "PixelMeasuresSequence")
    down, along = _numbers(path, measures, "PixelSpacing", 2)  # in DICOM, the distance between rows comes first
    directions = macro(header, frame, "PlaneOrientationSequence")
    orientation = _numbers(path, directions, "ImageOrientationPatient", 6).reshape(2, 3)
    if not np.allclose(orientation @ orientation.T, np.eye(2), atol=0.01):
        found = f"an ImageOrientationPatient of {orientation.tolist()}"
        raise CineError(path, found, "two unit vectors at right angles", EXPORT)
    if min(along, down) <= 0:
        raise CineError(path, f"pixels of {along} x {down} mm", "positive numbers", EXPORT)
    place = macro(header, frame, "PlanePositionSequence")
    synchronised = macro(header, frame, "CardiacSynchronizationSequence")
    trigger = _number(header, "TriggerTime") if count == 1 else None  # at the root, it cannot apply to several frames
    if trigger is None and (count == 1 or synchronised is not header):
        trigger = _number(synchronised, "NominalCardiacTriggerDelayTime")
    order = _number(header, "InstanceNumber")
    if count > 1:
        index = time_index(header, frame)
        order = (order or 0) * (count + 1) + (frame + 1 if index is None else index)
    return Plane(
        path=path,
        frame=frame,
        instance_uid=texts["SOPInstanceUID"],
        patient=texts["PatientID"],
        study=texts["StudyInstanceUID"],
        series=texts["SeriesInstanceUID"],
        frame_of_reference=texts["FrameOfReferenceUID"],
        series_number=_number(header, "SeriesNumber"),
        phase=is_phase(header, frame),
        size=size,
        spacing_mm=np.array([along, down]),
        orientation=orientation / np.linalg.norm(orientation, axis=1, keepdims=True),
        position_mm=_numbers(path, place, "ImagePositionPatient", 3),
        trigger_ms=trigger,
        order=order,
        frames=_number(header, "CardiacNumberOfImages"),
        thickness_mm=_thickness(measures),
        placed=count == 1 or place is not header,
    )


def _thickness(measures: Any) -> float | None:
    """Distance of slices (mm), which some scanners write with a sign; or their thickness."""
    found = (abs(_number(measures, name) or 0.0) for name in ("SpacingBetweenSlices", "SliceThickness"))
    return next((mm for mm in found if mm > 0), None)


def _number(header: Any, name: str) -> float | None:
    try:
        value = float(header[name].value)
    except Exception:  # missing, empty, several values, or not a number
        return None
    return value if math.isfinite(value) else None


def _numbers(path: Path, header: Any, name: str, count: int) -> np.ndarray:
    try:
        values = np.array(header[name].value, dtype=np.float64).reshape(-1)
    except Exception:
        values = np.empty(0)
    if values.size != count or not np.isfinite(values).all():
        raise CineError(path, f"an invalid {name}", f"{count} finite numbers", EXPORT)
    return values


def read_pixels(images: Sequence[Plane]) -> Iterator[np.ndarray]:
    """The pixels, rows x columns, of some images of one file, rescaled by the modality's slope and intercept.

    The file is read once; one frame at a time is decoded.

    Raises:
        CineError: no decoder for the compression is installed, or voxels are damaged.
    """
    from pydicom.pixels import apply_modality_lut, iter_pixels

    path, size = images[0].path, images[0].size
    syntax = "an unknown transfer syntax"
    compressed = False
    try:
        content = open_dicom(path)
        syntax, compressed = content.file_meta.TransferSyntaxUID.name, content.file_meta.TransferSyntaxUID.is_compressed
        decoded = iter_pixels(content, indices=[image.frame for image in images])
        for image, stored in zip(images, decoded, strict=True):
            rescaling = macro(content, image.frame, "PixelValueTransformationSequence")
            pixels = np.asarray(apply_modality_lut(stored, rescaling))
            if pixels.shape != size[::-1]:
                raise CineError(path, f"{pixels.shape} pixels", f"{size[::-1]}, as its header says", EXPORT)
            yield pixels
    except CineError:
        raise
    except Exception as error:  # of many types, by decoder and damage
        if compressed:
            action = "Install a decoder (pip install pylibjpeg[all]), or export the exam uncompressed."
            raise CineError(
                path, f"pixels in {syntax}, for which no decoder is installed", "pixels that can be decoded", action
            ) from None
        found = f"pixels that cannot be read ({type(error).__name__}, {syntax})"
        raise CineError(path, found, "intact pixels", EXPORT) from None
