"""Hostile MRD messages: named cases, and seeded mutations of good ones."""

from __future__ import annotations

import ctypes
import io
import struct
from collections.abc import Iterator

import ismrmrd
import numpy as np

_FLOATS = (0.0, -1.0, 1e-30, 1e30, np.nan, np.inf, -np.inf, 3.4e38, 0.5, 1000.0)
_HEAD = ctypes.sizeof(ismrmrd.ImageHeader)
_SETTING = {"version", "data_type", "matrix_size", "channels"}
"""Fields on which the length of the message depends, and one that nothing depends on."""


def image(stamp: int = 0, attributes: bytes = b"", data: bytes | None = None, **fields: object) -> bytes:
    """An image of 3 slices; fields of its header are set unchecked."""
    made = ismrmrd.Image.from_array(np.ones((3, 10, 8), np.int16))
    head = made.getHead()
    head.field_of_view, head.acquisition_time_stamp, head.image_type = (11.2, 14.0, 27.0), stamp, 1
    head.read_dir, head.phase_dir, head.slice_dir = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    for name, value in fields.items():
        setattr(head, name, value)
    content = io.BytesIO()
    content.write(struct.pack("<H", 1022))
    content.write(bytes(head))
    content.write(struct.pack("<Q", len(attributes)) + attributes)
    content.write(made.data.tobytes() if data is None else data)
    return content.getvalue()


def text(kind: int, content: bytes, size: int | None = None) -> bytes:
    return struct.pack("<HI", kind, len(content) if size is None else size) + content


def named_cases() -> Iterator[tuple[str, bytes, str, bool]]:
    """(name, message, part of the log line, whether the next message can be read)."""
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><ismrmrdMeta>&b;</ismrmrdMeta>'
    many = b"<ismrmrdHeader><encoding><encodingLimits><slice><minimum>%d</minimum><maximum>%d</maximum></slice>"
    end = b"</encodingLimits></encoding></ismrmrdHeader>"
    yield "a header that is no XML", text(3, b"\xff<hello"), "no MRD header (ParseError)", True
    yield "a header of entities", text(3, bomb), "definitions of its own", True
    yield "a header in UTF-16", text(3, bomb.decode().encode("utf-16")), "definitions of its own", True
    yield "a nested header", text(3, b"<a>" * 100_000), "no MRD header", True
    yield "slices backwards", text(3, many % (5, 4) + end), "slices from 5 to 4", True
    yield "slices without an end", text(3, many % (0, 10**30) + end), "slices from 0 to 1000", True
    yield "a header of terabytes", text(3, b"", 2**32 - 1), "a text of 4294967295 bytes", False
    yield "attributes of terabytes", image()[: 2 + _HEAD] + struct.pack("<Q", 2**60), "a text of", False
    yield "attributes of entities", image(attributes=bomb), "definitions of its own", True
    yield "attributes that are no XML", image(attributes=b"\xff\xfe"), "no MRD attributes", True
    yield "attributes of another kind", image(attributes=b"<html></html>"), "no MRD attributes", True
    row = b"<ismrmrdMeta><meta><name>ImageRowDir</name><value>%s</value></meta></ismrmrdMeta>"
    yield "a direction of one number", image(attributes=row % b"1"), "a direction that is none", True
    yield "no voxels", image(matrix_size=(0, 10, 3), data=b""), "none of magnitudes", True
    yield "several channels", image(channels=2, data=bytes(960)), "2 channels", True
    yield "too many voxels", image(matrix_size=(65535, 65535, 65535)), "over the limit", False
    yield "unknown data type", image(data_type=9), "data type 9", False
    for name, value in (("NaN", np.nan), ("infinite", np.inf), ("no", 0.0), ("huge", 3e38), ("long", 5e4)):
        yield f"{name} field of view", image(field_of_view=(value, 14.0, 27.0)), "matrix", True
    yield "NaN direction", image(read_dir=(np.nan, 0, 0)), "matrix", True
    yield "directions that are equal", image(phase_dir=(1, 0, 0)), "sheared", True
    yield "NaN position", image(position=(np.nan, 0, 0)), "the position", True
    flat = {"matrix_size": (8, 10, 1), "data": bytes(160)}
    three = text(3, many % (0, 2) + end)
    yield "a slice that is none", three + image(slice=9, **flat), "slices 9 to 9 of a stack of 3", True
    raw = ismrmrd.AcquisitionHeader(number_of_samples=65535, active_channels=65535)
    yield "raw data of gigabytes", struct.pack("<H", 1008) + bytes(raw), "over the limit", False
    wave = ismrmrd.WaveformHeader(number_of_samples=65535, channels=65535)
    yield "a waveform of gigabytes", struct.pack("<H", 1026) + bytes(wave), "over the limit", False
    yield "unknown message", struct.pack("<H", 4711), "a message of type 4711", False
    yield "a web browser", b"GET / HTTP/1.1\r\n\r\n", "this is not MRD", False


def mutation(seed: int) -> tuple[str, bytes, bool]:
    """(description, message, whether the next message can be read) of one mutation."""
    rng = np.random.default_rng(seed)
    attributes = ismrmrd.Meta({"ImageRowDir": [1, 0, 0], "name": "value"}).serialize().encode()
    message = bytearray(image(attributes=attributes))
    kind = ("fields", "floats", "attributes", "voxels", "anywhere", "cut")[seed % 6]
    names = [name for name, _ in ismrmrd.ImageHeader._fields_ if name not in _SETTING]
    if kind == "fields":
        name = str(rng.choice(names))
        field = getattr(ismrmrd.ImageHeader, name)
        place = 2 + field.offset + int(rng.integers(field.size))
        message[place] = rng.integers(256)
        return f"{kind} {name}", bytes(message), True
    if kind == "floats":
        name = str(rng.choice(["field_of_view", "position", "read_dir", "phase_dir", "slice_dir"]))
        with np.errstate(over="ignore"):
            value = np.float32(rng.choice(_FLOATS))
        struct.pack_into("<f", message, 2 + getattr(ismrmrd.ImageHeader, name).offset + 4 * int(rng.integers(3)), value)
        return f"{kind} {name}", bytes(message), True
    if kind == "attributes":
        for place in rng.integers(2 + _HEAD + 8, 2 + _HEAD + 8 + len(attributes), size=rng.integers(1, 10)):
            message[place] = rng.integers(256)
        return kind, bytes(message), True
    if kind == "voxels":
        message[-20:] = rng.bytes(20)
        return kind, bytes(message), True
    if kind == "anywhere":
        message[int(rng.integers(len(message)))] = rng.integers(256)
        return kind, bytes(message), False
    length = int(rng.integers(1, len(message)))
    return f"{kind} to {length}", bytes(message[:length]), False
