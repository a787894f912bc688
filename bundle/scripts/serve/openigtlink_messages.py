"""OpenIGTLink messages as bytes: IMAGE in; IMAGE, STRING and STATUS out. Header versions 1 and 2.

Protocol: http://openigtlink.org/developers/spec.html. pyigtl's classes are not used: they compute the origin of an
image in float32 and the timestamp from seconds, so neither would come back to the bit. In the tests pyigtl is the peer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from scripts.serve.checksum import crc64
from scripts.serve.protocol import BrokenError, MalformedError

HEADER = struct.Struct(">H12s20s8sQQ")
"""Version, type, device, timestamp, size and checksum of the body."""
_EXTENDED = struct.Struct(">HHII")
_NO_METADATA = struct.Struct(">H")
_IMAGE = struct.Struct(">HBBBB3H12f3H3H")
_SCALARS = {2: "i1", 3: "u1", 4: "i2", 5: "u2", 6: "i4", 7: "u4", 10: "f4", 11: "f8"}
_ORDERS = {1: ">", 2: "<"}
_TO_RAS = {1: np.ones(3), 2: np.array([-1.0, -1.0, 1.0])}
_UTF8 = 106
OK, UNUSABLE = 1, 10
"""Codes of STATUS: success, and "configuration error" for a volume that gets no mask."""


@dataclass(frozen=True)
class Header:
    """The header of a message; the timestamp as it came, 8 bytes."""

    version: int
    kind: str
    device: str
    stamp: bytes
    size: int
    checksum: int


@dataclass(frozen=True, eq=False)
class Image:
    """An IMAGE message.

    Attributes:
        head: its header and image header, for the answer.
        raw: the 72 bytes of its image header.
        voxels_IJK: a view of the message's voxels.
        affine: 4x4, indices of these voxels to RAS (mm).
        first: number of its first slice in the image; above 0 for a part of an image.
        slices: of the whole image.
    """

    head: Header
    raw: bytes
    voxels_IJK: np.ndarray
    affine: np.ndarray
    first: int
    slices: int


def parse_header(raw: bytes | bytearray) -> Header:
    """The header of 58 bytes; BrokenError if it is none of version 1 or 2, since then its size has no meaning."""
    version, kind, device, stamp, size, checksum = HEADER.unpack(raw)
    if version not in (1, 2):
        raise BrokenError(f"a header of version {version}, not 1 or 2: this is not OpenIGTLink")
    return Header(version, _text(kind), _text(device), stamp, size, checksum)


def parse_image(head: Header, body: bytearray) -> Image:
    """The image of an IMAGE message.

    Raises:
        MalformedError: a wrong checksum, sizes that contradict each other, several components, unknown types, or a part
            of a slice.
    """
    if crc64(body) != head.checksum:
        raise MalformedError("an IMAGE with a wrong checksum")
    content = _content(head, body)
    if len(content) < _IMAGE.size:
        raise MalformedError(f"an IMAGE of {len(content)} bytes, less than its header")
    _, components, scalar, order, system, *numbers = _IMAGE.unpack_from(content)
    size, matrix, first, part = numbers[:3], numbers[3:15], numbers[15:18], numbers[18:]
    if components != 1 or scalar not in _SCALARS or order not in _ORDERS or system not in _TO_RAS:
        found = f"{components} components, scalar type {scalar}, byte order {order}, coordinate system {system}"
        raise MalformedError(f"an IMAGE with {found}: none of one real number a voxel, in RAS or LPS")
    if min(part) < 1 or part[:2] != size[:2] or first[:2] != [0, 0] or first[2] + part[2] > size[2]:
        raise MalformedError(f"an IMAGE of {size} voxels with the part {part} from {first}: whole slices are needed")
    kind = np.dtype(_ORDERS[order] + _SCALARS[scalar])
    expected = _IMAGE.size + int(np.prod(part)) * kind.itemsize
    if len(content) != expected:
        raise MalformedError(f"an IMAGE of {len(content)} bytes, but its header says {expected}")
    voxels_KJI = np.frombuffer(content, kind, offset=_IMAGE.size).reshape(part[::-1])
    affine = _affine(np.array(matrix, np.float64).reshape(4, 3).T, np.array(size), first[2], _TO_RAS[system])
    return Image(head, bytes(content[: _IMAGE.size]), voxels_KJI.transpose(2, 1, 0), affine, first[2], size[2])


@np.errstate(all="ignore")  # the geometry is checked later, where a matrix of infinite numbers is refused
def _affine(columns: np.ndarray, size: np.ndarray, first: int, to_ras: np.ndarray) -> np.ndarray:
    """From the three axes and the centre of the image, 3x4, to the affine of its slices from ``first``."""
    affine = np.eye(4)
    affine[:3, :3] = columns[:, :3]
    affine[:3, 3] = columns[:, 3] - columns[:, :3] @ ((size - 1) / 2) + first * columns[:, 2]
    affine[:3] *= to_ras[:, None]
    return affine


def _content(head: Header, body: bytearray) -> memoryview:
    """The body without the extended header and the metadata of version 2."""
    if head.version == 1:
        return memoryview(body)
    if len(body) < _EXTENDED.size:
        raise MalformedError(f"a message of version 2 with a body of {len(body)} bytes")
    size, index_size, metadata_size, _ = _EXTENDED.unpack_from(body)
    end = len(body) - index_size - metadata_size
    if not _EXTENDED.size <= size <= end:
        raise MalformedError(f"an extended header of {size} and metadata of {index_size + metadata_size} bytes")
    return memoryview(body)[size:end]


def pack_mask(image: Image, mask_IJK: np.ndarray, device: str) -> bytes:
    """An IMAGE of uint8 with the image's own geometry and timestamp, both to the bit."""
    raw = bytearray(image.raw)
    raw[2:5] = bytes((1, 3, 2))  # one component, uint8, little-endian
    content = bytes(raw) + np.ascontiguousarray(mask_IJK.transpose(2, 1, 0), np.uint8).tobytes()
    return _pack("IMAGE", content, device, image.head)


def pack_text(image: Image, text: str, device: str) -> bytes:
    """A STRING with the image's timestamp."""
    encoded = text.encode("utf-8")
    return _pack("STRING", struct.pack(">HH", _UTF8, len(encoded)) + encoded, device, image.head)


def pack_status(image: Image, code: int, name: str, text: str, device: str) -> bytes:
    """A STATUS with the image's timestamp: a code, a name of at most 20 letters, and a text."""
    content = struct.pack(">Hq20s", code, 0, name.encode("ascii", "replace")) + text.encode("ascii", "replace") + b"\0"
    return _pack("STATUS", content, device, image.head)


def _pack(kind: str, content: bytes, device: str, head: Header) -> bytes:
    """A message with the header version and the timestamp of another one, without metadata."""
    if head.version == 2:
        content = _EXTENDED.pack(_EXTENDED.size, _NO_METADATA.size, 0, 0) + content + _NO_METADATA.pack(0)
    fields = (head.version, kind.encode(), device.encode(), head.stamp, len(content), crc64(content))
    return HEADER.pack(*fields) + content


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "replace").strip()
