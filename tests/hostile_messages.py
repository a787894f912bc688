"""Hostile OpenIGTLink messages: named cases, and seeded mutations of good ones."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from serving import igtl_image, with_body

_NUMBERS = (0, 1, 2, 3, 7, 12, 255, 256, 32767, 65535)
_FLOATS = (0.0, -1.0, 1e-30, 1e30, np.nan, np.inf, -np.inf, 3.4e38, 0.5, 1000.0)
IMAGE = 72
"""Bytes of an image header."""


def good(version: int = 1) -> bytes:
    voxels = np.random.default_rng(0).normal(size=(3, 10, 8)).astype(np.float32)
    return igtl_image(voxels, np.diag([1.4, 1.4, 9.0, 1.0]), stamp=b"original", version=version)


def with_image(message: bytes, offset: int, form: str, *values: object) -> bytes:
    """The message of version 1 with other fields in its image header, and a right checksum."""
    body = bytearray(message[58:])
    struct.pack_into(form, body, offset, *values)
    return with_body(message, bytes(body))


def named_cases() -> Iterator[tuple[str, bytes, str, bool]]:
    """(name, message, part of the log line, whether the next message can be read)."""
    message, second = good(), good(2)
    body, body_2 = message[58:], second[58:]
    one = bytearray(message)
    one[100] ^= 1
    yield "bad checksum", bytes(one), "wrong checksum", True
    yield "no body", with_body(message, b""), "less than its header", True
    yield "half a header", with_body(message, body[:40]), "less than its header", True
    yield "voxels missing", with_body(message, body[:-1]), "its header says", True
    yield "voxels too many", with_body(message, body + b"\0" * 8), "its header says", True
    yield "dimension 0", with_image(message, 6, ">3H", 0, 10, 3), "whole slices", True
    yield "dimensions of terabytes", with_image(message, 6, ">3H", 65535, 65535, 65535), "whole slices", True
    absurd = with_image(with_image(message, 6, ">3H", *[65535] * 3), 60, ">6H", 0, 0, 0, *[65535] * 3)
    yield "a part of terabytes", absurd, "its header says", True
    yield "unknown scalar type", with_image(message, 3, ">B", 77), "scalar type 77", True
    yield "unknown byte order", with_image(message, 4, ">B", 3), "byte order 3", True
    yield "unknown coordinate system", with_image(message, 5, ">B", 9), "coordinate system 9", True
    yield "colours", with_image(message, 2, ">B", 3), "3 components", True
    yield "a part of slices", with_image(message, 66, ">H", 4), "whole slices", True
    yield "a part outside", with_image(message, 64, ">H", 2), "whole slices", True
    for name, value in (("NaN", np.nan), ("infinite", np.inf), ("no", 0.0), ("huge", 3e38), ("long", 500.0)):
        yield f"{name} axis", with_image(message, 12, ">f", value), "matrix", True
    yield "axes that are equal", with_image(message, 12, ">6f", 1.4, 0, 0, 1.4, 0, 0), "sheared", True
    yield "NaN centre", with_image(message, 48, ">f", np.nan), "the position", True
    yield "field of 1.4 km", with_image(message, 12, ">f", 99.0 * 1.4), "", True
    yield "extended header too short", with_body(second, body_2[:8]), "version 2 with a body of 8", True
    yield "extended header too long", with_body(second, b"\xff\xff" + body_2[2:]), "an extended header of 65535", True
    yield "metadata too long", with_body(second, body_2[:4] + b"\xff" * 4 + body_2[8:]), "an extended header", True
    yield "NaN voxels", with_body(message, body[:IMAGE] + b"\xff" * (len(body) - IMAGE)), "voxels from nan", True
    yield "unknown message type", message[:2] + b"NONSENSE\xff\xfe\0\0" + message[14:], "", True
    yield "device name that is no text", message[:14] + b"\xff" * 20 + message[34:], "", True
    yield "a body of terabytes", message[:42] + struct.pack(">Q", 2**42) + message[50:], "over the limit", False
    yield "a body of all bits", message[:42] + b"\xff" * 8 + message[50:], "over the limit", False
    yield "unknown version", b"\0\x09" + message[2:], "a header of version 9", False
    yield (
        "a web browser",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n",
        "version",
        False,
    )
    yield "zeros", bytes(4096), "a header of version 0", False


def mutation(seed: int) -> tuple[str, bytes, bool]:
    """(description, message, whether the next message can be read) of one mutation."""
    rng = np.random.default_rng(seed)
    message = good(1 + seed % 2)
    kind = ("bytes", "fields", "floats", "header", "cut")[seed % 5]
    body = bytearray(message[58:])
    if kind == "bytes":  # without a right checksum in every second case
        for place in rng.integers(0, len(body), size=rng.integers(1, 30)):
            body[place] = rng.integers(256)
        right = bool(rng.random() < 0.5)
        return kind, with_body(message, bytes(body)) if right else message[:58] + bytes(body), True
    if kind == "fields":
        place = 2 * int(rng.integers(0, (IMAGE + 12) // 2))
        struct.pack_into(">H", body, place, int(rng.choice(_NUMBERS)))
        return f"{kind} at {place}", with_body(message, bytes(body)), True
    if kind == "floats":
        place = (12 if message[1] == 2 else 0) + 12 + 4 * int(rng.integers(12))
        with np.errstate(over="ignore"):
            struct.pack_into(">f", body, place, np.float32(rng.choice(_FLOATS)))
        return f"{kind} at {place}", with_body(message, bytes(body)), True
    if kind == "header":
        raw = bytearray(message)
        place = int(rng.integers(58))
        raw[place] = rng.integers(256)
        return f"{kind} at {place}", bytes(raw), place > 1 and not 42 <= place < 50
    length = int(rng.integers(1, len(message)))
    return f"{kind} to {length}", message[:length], False
