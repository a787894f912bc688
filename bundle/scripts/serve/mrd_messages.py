"""MRD (ISMRMRD) messages as bytes: images and the header of a measurement in, masks and text out.

Protocol: https://ismrmrd.readthedocs.io/en/latest/mrd_messages.html. The package ismrmrd has the structures, reads
attributes and packs images.
"""

from __future__ import annotations

import ctypes
import io
import struct
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scripts.serve.protocol import BrokenError, MalformedError

with warnings.catch_warnings():  # the import would show every warning of the process
    import ismrmrd

CONFIG_FILE, CONFIG_TEXT, HEADER, CLOSE, TEXT, ACQUISITION, IMAGE, WAVEFORM = 1, 2, 3, 4, 5, 1008, 1022, 1026
MAX_TEXT = 2**20
"""Bytes of a text or of the attributes of an image."""
SERIES_OFFSET = 100
"""Masks are a series of their own, next to that of their images."""
_CONFIG_FILE_BYTES = 1024
# the package takes type 4 for 64 bits (1.15); the standard says 32
_TYPES = {1: "<u2", 2: "<i2", 3: "<u4", 4: "<i4", 5: "<f4", 6: "<f8", 7: "<c8", 8: "<c16"}
_IMAGE_TYPES = (0, ismrmrd.IMTYPE_MAGNITUDE, ismrmrd.IMTYPE_COMPLEX)
Read = Callable[[int], bytearray]


@dataclass(frozen=True, eq=False)
class Image:
    """An image message.

    Attributes:
        head: its header.
        meta: its attributes.
        voxels_IJK: its voxels; magnitudes of complex numbers.
        affine: 4x4, voxel indices to RAS (mm).
    """

    head: ismrmrd.ImageHeader
    meta: ismrmrd.Meta
    voxels_IJK: np.ndarray
    affine: np.ndarray

    @property
    def group(self) -> tuple[int, ...]:
        """Equal for slices of one volume: series, average, contrast, phase, repetition and set."""
        head = self.head
        return (head.image_series_index, head.average, head.contrast, head.phase, head.repetition, head.set)


def read_text(read: Read) -> bytes:
    """A text after its length; BrokenError if it is too long."""
    (size,) = struct.unpack("<I", read(4))
    return bytes(read(_bounded(size)))


def skip(kind: int, read: Read) -> None:
    """Read the rest of a message that is not used; BrokenError for an unknown one, whose length is unknown too."""
    if kind == CONFIG_FILE:
        read(_CONFIG_FILE_BYTES)
    elif kind in (CONFIG_TEXT, TEXT):
        read_text(read)
    elif kind == ACQUISITION:
        head = ismrmrd.AcquisitionHeader.from_buffer_copy(read(ctypes.sizeof(ismrmrd.AcquisitionHeader)))
        read(head.number_of_samples * (4 * head.trajectory_dimensions + 8 * head.active_channels))
    elif kind == WAVEFORM:
        head = ismrmrd.WaveformHeader.from_buffer_copy(read(ctypes.sizeof(ismrmrd.WaveformHeader)))
        read(4 * head.channels * head.number_of_samples)
    else:
        raise BrokenError(f"a message of type {kind}: this is not MRD")


def slices_of(xml: bytes) -> tuple[int, int]:
    """The first slice and the number of slices of a measurement; MalformedError if this is no MRD header."""
    _refuse_entities(xml)
    try:  # not by the package, which refuses a header with one element that it does not know
        root = ElementTree.fromstring(xml.rstrip(b"\0"))
        limits = root.find("{*}encoding/{*}encodingLimits/{*}slice")
        found = ["0", "0"] if limits is None else [limits.findtext(f"{{*}}{end}") for end in ("minimum", "maximum")]
        first, last = (int(value or "none") for value in found)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise MalformedError(f"a header that is no MRD header ({type(error).__name__})") from None
    if not 0 <= first <= last < 2**16:
        raise MalformedError(f"a header with slices from {first} to {last}")
    return first, last - first + 1


def read_image(read: Read) -> Callable[[], Image]:
    """Read an image message as a whole; what is returned then interprets it.

    So its arrival can be noted in between, and the next message can be read even if this one is malformed.

    Raises:
        BrokenError: its length is unknown or too large.
    """
    raw = read(ctypes.sizeof(ismrmrd.ImageHeader))
    head = ismrmrd.ImageHeader.from_buffer_copy(raw)
    (size,) = struct.unpack("<Q", read(8))
    attributes = bytes(read(_bounded(size)))
    if head.data_type not in _TYPES:
        raise BrokenError(f"an image of data type {head.data_type}, whose length is unknown")
    kind, (width, height, depth) = np.dtype(_TYPES[head.data_type]), head.matrix_size
    data = read(kind.itemsize * width * height * depth * head.channels)
    return lambda: _parse(head, attributes, data, kind)


def pack_mask(image: Image, mask_IJK: np.ndarray, rois: dict[str, list[str]]) -> bytes:
    """An image of uint16 with the header of the image in every other bit, and its attributes."""
    head = ismrmrd.ImageHeader.from_buffer_copy(image.head)
    head.image_series_index = (head.image_series_index + SERIES_OFFSET) % 2**16
    head.image_type = ismrmrd.IMTYPE_MAGNITUDE
    meta = ismrmrd.Meta(image.meta)
    meta.update(  # quantitative: the scanner does not rescale the labels
        DataRole="Quantitative",
        ImageProcessingHistory="RTDNAS",
        SeriesDescriptionAdditional="RTDNAS",
        Keep_image_geometry="1",
        WindowCenter="2",
        WindowWidth="4",
        **rois,
    )
    data_1KJI = np.ascontiguousarray(mask_IJK.transpose(2, 1, 0)[None], np.dtype("uint16"))
    content = io.BytesIO()
    content.write(struct.pack("<H", IMAGE))
    ismrmrd.Image(head, meta=meta, data=data_1KJI).serialize_into(content.write)
    return content.getvalue()


def pack_text(text: str) -> bytes:
    """A text message."""
    encoded = text.encode("utf-8")
    return struct.pack("<HI", TEXT, len(encoded)) + encoded


def pack_close() -> bytes:
    """The message that no more come."""
    return struct.pack("<H", CLOSE)


def _parse(head: ismrmrd.ImageHeader, attributes: bytes, data: bytearray, kind: np.dtype) -> Image:
    if not data or head.channels != 1 or head.image_type not in _IMAGE_TYPES:
        found = f"{tuple(head.matrix_size)} voxels, {head.channels} channels, image type {head.image_type}"
        raise MalformedError(f"an image of {found}: none of magnitudes in one channel")
    meta = _meta(attributes)
    width, height, depth = head.matrix_size
    voxels_IJK = np.frombuffer(data, kind).reshape(depth, height, width).transpose(2, 1, 0)
    voxels_IJK = abs(voxels_IJK) if kind.kind == "c" else voxels_IJK
    return Image(head, meta, voxels_IJK, _affine(head, meta))


def _meta(attributes: bytes) -> ismrmrd.Meta:
    _refuse_entities(attributes)
    try:
        return ismrmrd.Meta.deserialize(attributes.rstrip(b"\0").decode("utf-8"))
    except Exception as error:
        raise MalformedError(f"attributes of an image that are no MRD attributes ({type(error).__name__})") from None


def _affine(head: ismrmrd.ImageHeader, meta: ismrmrd.Meta) -> np.ndarray:
    """From the centre and the directions, both in LPS. Attributes win: images may be turned after the readout."""
    with np.errstate(all="ignore"):  # a geometry that is not finite is refused later
        size = np.array(head.matrix_size, np.float64)
        spacing_mm = np.array(head.field_of_view, np.float64) / size
        names = ("ImageRowDir", "ImageColumnDir", "ImageSliceDir")
        headers = (head.read_dir, head.phase_dir, head.slice_dir)
        axes = [_direction(meta.get(name), header) for name, header in zip(names, headers, strict=True)]
        affine = np.eye(4)
        affine[:3, :3] = np.stack(axes, axis=1) * spacing_mm
        affine[:3, 3] = np.array(head.position, np.float64) - affine[:3, :3] @ ((size - 1) / 2)
        affine[:2] *= -1
    return affine


def _direction(attribute: object, header: ctypes.Array) -> np.ndarray:
    if attribute is None:
        return np.array(header, np.float64)
    try:
        values = [float(value) for value in attribute]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        values = []
    if len(values) != 3:
        raise MalformedError("attributes of an image with a direction that is none")
    return np.array(values)


def _bounded(size: int) -> int:
    if size > MAX_TEXT:
        raise BrokenError(f"a text of {size} bytes, over the limit of {MAX_TEXT}")
    return size


def _refuse_entities(xml: bytes) -> None:
    """XML that defines entities can grow without bounds when it is parsed; MRD needs none."""
    if b"<!DOCTYPE" in xml or b"\0" in xml.rstrip(b"\0"):  # a zero: UTF-16, in which it would not be seen
        raise MalformedError("XML with definitions of its own")
