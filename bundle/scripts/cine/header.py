"""Check a NIfTI's header against all rules before a voxel is read: size and type, and its geometry."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import nibabel as nib
import numpy as np

from scripts.cine.formats import other_format
from scripts.cine.geometry import geometry
from scripts.core.errors import CineError
from scripts.core.files import missing
from scripts.runtime.device import available_memory

MEMORY_SHARE = 0.5
"""The share of the available memory that one file may take."""
WORK_BYTES, WORK_SPACING_MM = 64, 1.5
"""Bytes of inference per voxel (measured: 60 to 100), of the file or of the in-plane working grid."""
MASK_BYTES = 4
"""Bytes per voxel of the masks of all frames, until they are written."""
EXTENSION_LIMIT = 16 * 2**20
"""Largest offset in bytes of the voxels in a file: enough for header extensions, too little for decompression bombs."""
DEFLATE_LIMIT = 1032
"""The highest compression ratio of gzip; a larger claim cannot be true (https://zlib.net/zlib_tech.html)."""

_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_REFUSED = {1: "binary", 32: "complex64", 128: "RGB", 1536: "float128", 1792: "complex128", 2048: "complex256"}
_REFUSED |= {2304: "RGBA"}
_EXPORT = "Export the exam again as a NIfTI of H x W x D (x T) real voxels."
READ_ERRORS = (OSError, EOFError, zlib.error)


@dataclass(frozen=True, eq=False)
class Header:
    """The contents of a valid header.

    Attributes:
        path: the file.
        file_shape: the dimensions in the file: H W, H W D or H W D T, perhaps with ones before and after T.
        shape: H, W, D; D is 1 for a 2D file.
        frames: T; 1 if the file is not a cine.
        is_cine: whether the file has a time axis.
        spacing_mm: distance of voxel centres along H, W and D (mm).
        affine: 4x4, voxel indices to RAS (mm); orthogonal, with the lengths ``spacing_mm`` of its columns.
        dtype: the type of the stored voxels, with their byte order.
        offset: the position of the first voxel in the file (bytes).
        slope, intercept: stored value * slope + intercept is the voxel's value.
        raw: nibabel's header, unchanged.
        spacing_doubt: why the spacing may be wrong; empty if the header gives no reason for a doubt.
    """

    path: Path
    file_shape: tuple[int, ...]
    shape: tuple[int, int, int]
    frames: int
    is_cine: bool
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    raw: nib.Nifti1Header
    spacing_doubt: str

    @property
    def nbytes(self) -> int:
        """Bytes of the stored voxels."""
        return math.prod(self.file_shape) * self.dtype.itemsize


def read_header(path: str | Path) -> Header:
    """Read and check the header of a NIfTI-1 or NIfTI-2 file (.nii, .nii.gz), without its voxels.

    Raises:
        CineError: not a readable NIfTI, or its size, type, units or geometry is implausible.
    """
    path = Path(path)
    raw, magic = _read_raw(path)
    if magic not in (b"n+1", b"n+2"):
        raise _no_nifti(path, f"the magic {magic!r}", "a single-file NIfTI (magic n+1 or n+2)")
    file_shape, dtype, offset = _layout(path, raw)
    slope, intercept = _scaling(path, raw)
    spacing_mm, affine, doubt = geometry(path, raw, file_shape)
    header = Header(
        path=path,
        file_shape=file_shape,
        shape=(file_shape[0], file_shape[1], file_shape[2] if len(file_shape) > 2 else 1),
        frames=math.prod(file_shape[3:]),
        is_cine=len(file_shape) > 3,
        spacing_mm=spacing_mm,
        affine=affine,
        dtype=dtype,
        offset=offset,
        slope=slope,
        intercept=intercept,
        raw=raw,
        spacing_doubt=doubt,
    )
    _check_size(header)
    return header


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading; its content, not its name, decides whether it is decompressed."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")  # type: ignore[return-value]


def unreadable(path: Path, error: Exception) -> CineError:
    """The error for a file that cannot be opened, or whose compressed stream is damaged or truncated."""
    if isinstance(error, FileNotFoundError):
        found, action = missing(path, "Check the path.")
        return CineError(path, found, "a NIfTI file", action)
    reason = getattr(error, "strerror", None) or str(error)
    return CineError(
        path, f"a file that cannot be read ({reason})", "a complete NIfTI file", "Copy or export it again."
    )


def _read_raw(path: Path) -> tuple[nib.Nifti1Header, bytes]:
    if path.exists() and not path.is_file():
        raise CineError(path, "a folder or device", "a NIfTI file", "Name the file itself.")
    try:
        with open_file(path) as stream:
            block = stream.read(nib.Nifti2Header.template_dtype.itemsize)
    except READ_ERRORS as error:
        raise unreadable(path, error) from None
    if not block:
        raise CineError(path, "an empty file", "a NIfTI file", "Copy or export it again.")
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        size = kind.template_dtype.itemsize
        for order in "<>":
            if len(block) >= size and np.frombuffer(block, f"{order}i4", count=1)[0] == size:
                raw = kind(block[:size], order, check=False)
                return raw, bytes(raw["magic"].item())
    raise _no_nifti(
        path, f"other bytes than a NIfTI header (it begins with {block[:8]!r})", "a NIfTI-1 or NIfTI-2 file"
    )


def _no_nifti(path: Path, found: str, expected: str) -> CineError:
    """The error for another format, with its name if it is known."""
    what, action = other_format(path) or (found, _EXPORT)
    return CineError(path, what, expected, action)


def _layout(path: Path, raw: nib.Nifti1Header) -> tuple[tuple[int, ...], np.dtype, int]:
    dim = [int(n) for n in raw["dim"]]
    rank = dim[0]
    if not 1 <= rank <= 7 or any(n < 1 for n in dim[1 : rank + 1]):
        raise CineError(path, f"the dimensions {dim}", "2 to 4 dimensions of at least 1", _EXPORT)
    file_shape = tuple(dim[1 : rank + 1])
    if rank < 2 or sum(n > 1 for n in file_shape[3:]) > 1:  # ITK stores cines as H x W x D x 1 x T
        raise CineError(path, f"{rank} dimensions {file_shape}", "H x W, H x W x D or H x W x D x T", _EXPORT)
    code = int(raw["datatype"])
    if code not in _DTYPES:
        name = _REFUSED.get(code, "unknown")
        raise CineError(path, f"the data type {name} (code {code})", "integers or floats of 8 to 64 bits", _EXPORT)
    first = raw.single_vox_offset
    offset = float(raw["vox_offset"])
    if not (first <= offset <= EXTENSION_LIMIT and offset.is_integer()):
        expected = f"a whole number of bytes from {first} to {EXTENSION_LIMIT}"
        raise CineError(path, f"voxels that begin at byte {offset:g} (vox_offset)", expected, _EXPORT)
    return file_shape, np.dtype(_DTYPES[code]).newbyteorder(raw.endianness), int(offset)


def _scaling(path: Path, raw: nib.Nifti1Header) -> tuple[float, float]:
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise CineError(
            path, f"scl_slope {slope} and scl_inter {intercept}", "finite numbers", "Set them to 1 and 0 if unscaled."
        )
    return (slope, intercept) if slope else (1.0, 0.0)  # in the standard, slope 0 means unscaled


def _check_size(header: Header) -> None:
    path, claimed = header.path, header.offset + header.nbytes
    stored = path.stat().st_size
    with path.open("rb") as stream:
        limit = stored * DEFLATE_LIMIT if stream.read(2) == b"\x1f\x8b" else stored
    if claimed > limit:
        raise CineError(
            path,
            f"a header that claims {claimed} bytes in a file of {stored}",
            "all voxels that the header claims",
            "The file is truncated or damaged: copy or export it again.",
        )
    check_memory(header)


def check_memory(header: Header, whole: bool = False) -> None:
    """CineError if a file takes more than its share of the available memory.

    Args:
        header: the header of the file.
        whole: whether all frames are processed at once, not one by one, with the masks of all frames.
    """
    voxels, frames = math.prod(header.shape), header.frames
    coarser = (
        math.prod(sorted(header.spacing_mm)[:2]) / WORK_SPACING_MM**2
    )  # the slice axis is the one with the largest spacing
    worked_on = WORK_BYTES * voxels * max(1.0, coarser)
    needed = int(header.nbytes + frames * worked_on if whole else worked_on + MASK_BYTES * voxels * frames)
    budget = int(MEMORY_SHARE * available_memory("cpu"))
    if needed > budget:
        raise CineError(
            header.path,
            f"{header.file_shape} voxels of {header.spacing_mm} mm, which need {needed / 2**20:.0f} MiB",
            f"at most {budget / 2**20:.0f} MiB ({MEMORY_SHARE:.0%} of the available memory)",
            "Crop the image, split the cine, or free memory.",
        )
