"""Malformed files for tests of the reader: every named case, and seeded mutations of a volume's header and bytes."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from typing import Any

import nibabel as nib
import numpy as np

HEADER = 348
_FLOATS = (0.0, -1.0, 1e-30, 1e30, np.nan, np.inf, -np.inf, 3.4e38, 0.5, 1000.0)
_INTEGERS = (0, 1, -1, 2, 3, 7, 8, 16, 64, 127, -128, 255, 511, 32767, -32768)


def nifti(voxels: np.ndarray, order: str = "<", **fields: object) -> bytes:
    """A NIfTI-1 file of voxels H W (D (T)) of 1.5 x 1.5 x 8 mm, in ACDC's axes; ``fields`` are set last, unchecked."""
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    header["pixdim"] = [1, 1.5, 1.5, 8, 0.04, 1, 1, 1]
    header["magic"], header["vox_offset"], header["scl_slope"], header["scl_inter"] = b"n+1", 352, 1, 0
    header["xyzt_units"], header["sform_code"] = 2 + 8, 1
    header["srow_x"], header["srow_y"], header["srow_z"] = [-1.5, 0, 0, 7], [0, -1.5, 0, 8], [0, 0, 8, 9]
    return with_fields(header.binaryblock + bytes(4) + _stored(voxels, order), **fields)


def with_fields(content: bytes, **fields: object) -> bytes:
    """A file with other header fields."""
    header = nib.Nifti1Header(content[:HEADER], check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + content[HEADER:]


def named_cases(voxels_HWD: np.ndarray) -> Iterator[tuple[str, bytes, bool]]:
    """(name with the file's ending, content, whether it must be accepted) of every case in the reader's rules.

    Args:
        voxels_HWD: an image, int16 from 0 up.
    """
    small = (voxels_HWD % 100).astype(np.int8)
    for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"):
        for order, end in (("<", "little"), (">", "big")):
            yield f"{kind} {end}-endian.nii", nifti(small.astype(kind), order), True
    image = nifti(voxels_HWD)
    yield "scl_slope and scl_inter.nii", with_fields(image, scl_slope=0.25, scl_inter=-3), True
    cine = np.stack([voxels_HWD, voxels_HWD[::-1]], axis=-1)
    for name, voxels in {
        "1 slice": voxels_HWD[..., :1],
        "1 frame": cine[..., :1],
        "2 frames": cine,
        "2D": voxels_HWD[..., 3],
        "1 column": voxels_HWD[:1],
        "1 voxel": voxels_HWD[:1, :1, :1],
        "odd size": voxels_HWD[:37, :23],
        "all zero": np.zeros_like(voxels_HWD),
        "constant": np.full_like(voxels_HWD, 7),
        "a frame all zero": np.stack([voxels_HWD, np.zeros_like(voxels_HWD)], axis=-1),
    }.items():
        yield f"{name}.nii", nifti(voxels), True
    spotted = voxels_HWD.astype(np.float32)
    spotted[3, 3, 3] = np.nan
    yield "single NaN.nii", nifti(spotted), True
    for name, code, factor in (("metres", 1, 1e-3), ("micrometres", 3, 1e3), ("no unit", 0, 1.0)):
        rows = {
            f"srow_{x}": np.array(row) * factor for x, row in zip("xyz", np.diag([-1.5, -1.5, 8, 1])[:3], strict=True)
        }
        pixdim = [1, 1.5 * factor, 1.5 * factor, 8 * factor, 0, 0, 0, 0]
        yield f"{name}.nii", with_fields(image, xyzt_units=code, pixdim=pixdim, **rows), True
    yield "axes off by 0.2 degrees.nii", with_fields(image, srow_x=[-1.5, 0.005, 0, 0]), True
    yield "sform of 1 mm.nii", with_fields(image, srow_x=[-1, 0, 0, 0], srow_y=[0, -1, 0, 0], srow_z=[0, 0, 1, 0]), True

    packed = gzip.compress(image, mtime=0)
    wrong_sum = bytearray(packed)
    wrong_sum[-6] ^= 0xFF
    for name, content in {
        "truncated gzip.nii.gz": packed[: len(packed) // 2],
        "gzip without its checksum.nii.gz": packed[:-8],
        "bad CRC.nii.gz": bytes(wrong_sum),
        "empty.nii.gz": b"",
        "gzip of nothing.nii.gz": gzip.compress(b""),
        "text.nii": b"Group: NOR\n" * 99,
        "truncated.nii": image[:-100],
        "only a header.nii": image[:352],
        "bomb header.nii.gz": gzip.compress(
            with_fields(image, dim=[3, 9000, 9000, 27, 1, 1, 1, 1], **_pixels(0.1))[:352]
        ),
        "bomb.nii.gz": gzip.compress(image + bytes(2**26)),
        "complex.nii": nifti(voxels_HWD.astype(np.complex64)),
        "RGB.nii": with_fields(image, datatype=128, bitpix=24),
        "5D.nii": nifti(np.stack([cine, cine], axis=-1)),
        "all NaN.nii": nifti(np.full(voxels_HWD.shape, np.nan, np.float32)),
    }.items():
        yield name, content, False
    refused_fields: dict[str, dict[str, object]] = {
        "zero dimension": {"dim": [3, 48, 0, 6, 1, 1, 1, 1]},
        "negative dimension": {"dim": [3, 48, -48, 6, 1, 1, 1, 1]},
        "NaN pixdim": _pixels(np.nan),
        "zero pixdim": _pixels(0),
        "negative pixdim": _pixels(-1.5),
        "NaN affine": {"srow_x": [np.nan, 0, 0, 0]},
        "zero affine": {"srow_x": 0, "srow_y": 0, "srow_z": 0},
        "sheared affine": {"srow_x": [-1.5, 0.5, 0, 0]},
        "NaN slope": {"scl_slope": np.nan},
        "infinite slope": {"scl_slope": np.inf},
        "unknown data type": {"datatype": 77},
        "unknown unit": {"xyzt_units": 5},
    }
    for name, fields in refused_fields.items():
        yield f"{name}.nii", with_fields(image, **fields), False
        yield f"{name}.nii.gz", gzip.compress(with_fields(image, **fields)), False


def mutation(originals: list[bytes], seed: int) -> tuple[str, bytes]:
    """(description with the file's ending, content) of one mutation of one of the uncompressed files."""
    rng = np.random.default_rng(seed)
    content = bytearray(originals[rng.integers(len(originals))])
    kinds: list[Callable[[np.random.Generator, bytearray], str]] = [_header_bytes, _header_fields, _anywhere, _packed]
    name = kinds[seed % len(kinds)](rng, content)
    if not name.endswith(".gz") and rng.random() < 0.3:
        name, content[:] = f"{name}.gz", gzip.compress(content, compresslevel=1, mtime=0)
    return name, bytes(content)


def _header_bytes(rng: np.random.Generator, content: bytearray) -> str:
    for place in rng.integers(0, 352, size=rng.integers(1, 4)):
        content[place] = rng.integers(256)
    return "header bytes.nii"


def _header_fields(rng: np.random.Generator, content: bytearray) -> str:
    fields: dict[str, Any] = dict(nib.Nifti1Header.template_dtype.fields or {})
    chosen = rng.choice([name for name, (kind, *_) in fields.items() if kind.base.kind in "if"])
    kind, offset = fields[chosen]
    place = offset + kind.base.itemsize * rng.integers(max(1, int(np.prod(kind.shape))))
    value = rng.choice(_FLOATS) if kind.base.kind == "f" else rng.choice(_INTEGERS)
    with np.errstate(over="ignore"):
        content[place : place + kind.base.itemsize] = np.asarray(value).astype(kind.base).tobytes()
    return f"{chosen} = {value}.nii"


def _anywhere(rng: np.random.Generator, content: bytearray) -> str:
    for place in rng.integers(0, len(content), size=rng.integers(1, 50)):
        content[place] = rng.integers(256)
    return "bytes.nii"


def _packed(rng: np.random.Generator, content: bytearray) -> str:
    packed = bytearray(gzip.compress(content, compresslevel=1, mtime=0))
    start, length = int(rng.integers(len(packed))), int(rng.integers(1, 200))
    action = rng.choice(["flip", "cut", "drop", "repeat", "zero"])
    if action == "flip":
        packed[start] ^= 1 << int(rng.integers(8))
    elif action == "cut":
        del packed[start:]
    elif action == "drop":
        del packed[start : start + length]
    elif action == "repeat":
        packed[start:start] = packed[start : start + length]
    else:
        packed[start : start + length] = bytes(len(packed[start : start + length]))
    content[:] = packed
    return f"{action} in gzip.nii.gz"


def _pixels(mm: float) -> dict[str, object]:
    return {"pixdim": [1, mm, 1.5 if mm <= 0 or np.isnan(mm) else mm, 8, 0, 0, 0, 0]}


def _stored(voxels: np.ndarray, order: str) -> bytes:
    return voxels.astype(voxels.dtype.newbyteorder("<" if order == "<" else ">")).tobytes(order="F")
