"""The only way to read a NIfTI: its voxels complete and finite, its geometry checked, in mm."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader
from monai.transforms import LoadImaged
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from scripts.cine.formats import is_nifti
from scripts.cine.header import READ_ERRORS, Header, check_memory, open_file, read_header, unreadable
from scripts.cine.label_maps import refuse_labels
from scripts.core.errors import CineError

__all__ = ["CineReader", "Header", "LoadExamd", "read_frames", "read_header", "read_volume"]

logger = logging.getLogger(__name__)

IMAGE = "image"
CONSTANT = "constant"
"""Key in an image's metadata: for each frame, whether all its voxels are equal."""
MAX_VOXEL = 1e15
"""A limit for voxels: squares of larger values overflow float32 when an image is normalised."""
MIN_CONTRAST = 1e-15
"""A limit for contrast: squares of smaller differences underflow."""
RESOLUTION = 2.0**-15
"""The minimum contrast as a share of the largest voxel: it leaves float32 512 grey levels."""


class CineReader(ImageReader):
    """Reader for ``LoadImaged(reader=CineReader(), ensure_channel_first=True, image_only=True)``.

    A 3D file becomes a tensor of 1 H W D. A 4D cine becomes T H W D (frames as channels), a 2D file 1 H W 1. All are
    float32, in the file's own axis order. The affine is RAS in mm.

    ``read`` does not open the file: if it failed, LoadImage would silently fall back to a reader without these checks.

    Args:
        frame: the only frame of a cine to read, counted from 0; None reads all.
    """

    def __init__(self, frame: int | None = None):
        self.frame = frame

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether all names end in .nii or .nii.gz."""
        return all(map(is_nifti, ensure_tuple(filename)))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[Path, ...]:
        """The paths themselves; ``get_data`` reads the files."""
        return tuple(Path(name) for name in ensure_tuple(data))

    def get_data(self, img: Sequence[Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read one file.

        Returns:
            H W D, or H W D T for all frames of a cine, float32; and the metadata for MONAI's spatial transforms.

        Raises:
            CineError: the file does not pass the checks.
        """
        if len(img) != 1:
            raise CineError(
                ", ".join(map(str, img)), f"{len(img)} files", "one file per image", "List them separately."
            )
        voxels_THWD, header = read_volume(img[0], self.frame)
        several = header.is_cine and self.frame is None
        meta = metadata(header, voxels_THWD, several)
        return (np.moveaxis(voxels_THWD, 0, -1) if several else voxels_THWD[0]), meta


def metadata(header: Header, voxels_THWD: np.ndarray, is_cine: bool) -> dict[str, Any]:
    """The metadata of an image for MONAI's spatial transforms, and which of its frames are constant."""
    return {
        MetaKeys.AFFINE: header.affine.copy(),
        MetaKeys.ORIGINAL_AFFINE: header.affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(header.shape),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if is_cine else "no_channel",
        CONSTANT: voxels_THWD.min(axis=(1, 2, 3)) == voxels_THWD.max(axis=(1, 2, 3)),
    }


class LoadExamd(LoadImaged):
    """MONAI's LoadImaged with the checks of this module; it reads only one frame of an item with a frame number.

    Args:
        keys: the keys of files, which become tensors of C H W D.
        frame_key: the key of the frame's number, counted from 0; it may be missing.
        allow_missing_keys: whether keys may be missing from an item.
    """

    def __init__(self, keys: KeysCollection, frame_key: str = "frame", allow_missing_keys: bool = False):
        reader: Any = CineReader()
        super().__init__(
            keys, reader, ensure_channel_first=True, image_only=True, allow_missing_keys=allow_missing_keys
        )
        self.frame_key = frame_key

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Paths -> C H W D; CineError if a file does not pass the checks or has no such frame."""
        frame = data.get(self.frame_key)
        loaded = super().__call__(data, reader if frame is None else CineReader(int(frame)))
        if IMAGE in self.keys and IMAGE in data:
            for frame_HWD in np.asarray(loaded[IMAGE]):
                refuse_labels(frame_HWD, str(data[IMAGE]))
        return loaded


def read_volume(path: str | Path, frame: int | None = None) -> tuple[np.ndarray, Header]:
    """Read a NIfTI with all checks.

    A voxel that is not finite in float32 is set to the minimum finite value of its frame, with a warning. A constant
    frame (such as all zero) is accepted unchanged, with a warning.

    Args:
        path: the file.
        frame: the only frame to read, counted from 0; None reads all.

    Returns:
        T H W D, float32, in the file's axis order (T is 1 for a 2D or 3D file, and for one frame); and the header.

    Raises:
        CineError: the header is refused; the data are incomplete, damaged or too long; there is no such frame. Or a
            frame has no finite voxel, or its contrast does not fit float32 (because of a wrong slope or intercept).
    """
    header = read_header(path)
    if frame is not None and not 0 <= frame < header.frames:
        raise CineError(path, f"{header.frames} frames", f"a frame {frame + 1}", "Correct the frame's number.")
    check_memory(header, whole=frame is None)
    voxels_THWD = np.empty((header.frames if frame is None else 1, *header.shape), np.float32)
    for index, stored_HWD in _stored_frames(header):
        if frame in (None, index):
            voxels_THWD[index if frame is None else 0] = _frame(header, index, stored_HWD)
    return voxels_THWD, header


def read_frames(header: Header, of_any_contrast: bool = False) -> Iterator[np.ndarray]:
    """The frames of a file, H W D, float32, one after the other, with the checks of ``read_volume``.

    Args:
        header: the header of the file.
        of_any_contrast: whether constant frames are acceptable, as in label maps.
    """
    return (_frame(header, index, stored_HWD, of_any_contrast) for index, stored_HWD in _stored_frames(header))


def _stored_frames(header: Header) -> Iterator[tuple[int, np.ndarray]]:
    """Number and stored voxels of each frame.

    It reads to the end of the stream, where gzip has its checksum, but not more than the header claims.
    """
    size = header.nbytes // header.frames
    try:
        with open_file(header.path) as stream:
            stream.seek(header.offset)
            for index in range(header.frames):
                content = stream.read(size)
                if len(content) < size:
                    raise _other_size(header, f"only {index * size + len(content)} bytes of voxels")
                yield index, np.frombuffer(content, header.dtype).reshape(header.shape, order="F")
            if stream.read(1):
                raise _other_size(header, "more bytes of voxels than the header claims")
    except READ_ERRORS as error:
        raise unreadable(header.path, error) from None


def _frame(header: Header, index: int, stored_HWD: np.ndarray, of_any_contrast: bool = False) -> np.ndarray:
    """Stored voxels -> finite values, float32."""
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow becomes infinite and is checked below
        if (header.slope, header.intercept) == (1.0, 0.0):
            frame_HWD = stored_HWD.astype(np.float32)
        else:
            frame_HWD = (stored_HWD.astype(np.float64) * header.slope + header.intercept).astype(np.float32)
    if of_any_contrast and not np.isfinite(frame_HWD).all():
        action = "Write 0 for unlabelled voxels."
        raise CineError(header.path, "label values that are not finite", "whole numbers", action)
    _make_finite(header, index, frame_HWD)
    if not of_any_contrast:
        _check_contrast(header, index, frame_HWD, stored_HWD)
    return frame_HWD


def _other_size(header: Header, found: str) -> CineError:
    expected = f"{header.nbytes} bytes for {header.file_shape} voxels of {header.dtype.name}"
    return CineError(header.path, found, expected, "The file is damaged: copy or export it again.")


def _make_finite(header: Header, index: int, frame_HWD: np.ndarray) -> None:
    finite = np.isfinite(frame_HWD)
    if not finite.all():
        if not finite.any():
            found = f"no finite voxel in frame {index + 1} of {header.frames}"
            raise CineError(header.path, found, "finite voxels", "Export the exam again.")
        count = finite.size - np.count_nonzero(finite)
        logger.warning("frame %d: set %d voxels that are not finite to the frame's minimum", index + 1, count)
        logger.debug("%s: these voxels are in frame %d of this file", header.path, index + 1)
        frame_HWD[~finite] = frame_HWD[finite].min()


def _check_contrast(header: Header, index: int, frame_HWD: np.ndarray, stored_HWD: np.ndarray) -> None:
    low, high = float(frame_HWD.min()), float(frame_HWD.max())
    largest = max(-low, high)
    # rounding to float32 may have removed the contrast
    constant = low == high and np.ptp(stored_HWD[np.isfinite(stored_HWD)]) == 0
    if largest > MAX_VOXEL or not (constant or high - low >= max(MIN_CONTRAST, RESOLUTION * largest)):
        raise CineError(
            header.path,
            f"voxels from {low:g} to {high:g} in frame {index + 1} of {header.frames}",
            f"a contrast that float32 can hold, and at most {MAX_VOXEL:g}",
            "Correct scl_slope and scl_inter in the header, or export the exam again.",
        )
    if constant:
        logger.warning("frame %d is constant (%g): it shows nothing", index + 1, low)
