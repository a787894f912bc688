"""Read, collect and write a cine frame by frame, so that memory depends on the size of a volume, not of the cine.

Tensors: T frames, H W in-plane, D slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from gzip import GzipFile
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import ImageReader
from monai.transforms import LoadImaged

from scripts.cine.header import Header, read_header
from scripts.cine.reader import CONSTANT, CineReader, metadata, read_frames
from scripts.core.errors import CineError
from scripts.core.files import replacing

FRAME, FRAMES = "frame", "frames"
"""Keys of an item that is one frame of a cine: its number, counted from 0, and the number of frames."""
LABELS = ("pred", "all_parts")


class FrameReader(CineReader):
    """Reads one frame of a file. Frames that are requested in order are read in one pass.

    A pass is complete only at the end of the file, where gzip has its checksum; the last frame waits for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: Any = 0
        self._pass: Iterator[np.ndarray] = iter(())
        self._of: tuple[Any, ...] = ()

    def get_data(self, img: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """H W D, float32, of the frame ``asked``; as ``CineReader`` otherwise. CineError if there is no such frame."""
        header = read_header(img[0])
        frame = _number(self.asked, header.frames)
        status = header.path.stat()
        file = (header.path, status.st_mtime_ns, status.st_size)
        if self._of != (*file, frame):
            self._pass = read_frames(header)
            for _ in range(frame):
                next(self._pass)
        self._of = ()
        frame_HWD = next(self._pass)
        if frame + 1 == header.frames:
            next(self._pass, None)
        else:
            self._of = (*file, frame + 1)
        return frame_HWD, metadata(header, frame_HWD[np.newaxis], is_cine=False)


class LoadFramed(LoadImaged):
    """LoadImaged for cines: an item with a frame number gets this frame, 1 H W D; any other item all, T H W D.

    Items of MONAI Label have a frame number, and so do items of ``run infer``, one frame after the other.

    Args:
        keys: the keys of images.
        frame_key: the key of the frame's number, counted from 0; it may be missing.
    """

    def __init__(self, keys: KeysCollection, frame_key: str = FRAME):
        super().__init__(keys, reader=CineReader, ensure_channel_first=True, image_only=True)
        self.frame_key, self._frames = frame_key, FrameReader()

    def __call__(self, data: Mapping[Any, Any], reader: ImageReader | None = None) -> dict[Any, Any]:
        if data.get(self.frame_key) is not None:
            self._frames.asked = data[self.frame_key]
            reader = self._frames
        return super().__call__(data, reader)


def _number(asked: Any, frames: int) -> int:
    text = str(asked).strip()
    if not text.isdecimal() or int(text) >= frames:
        expected = f"a number from 0 to {frames - 1}" if frames > 1 else "0, since the image has one frame"
        raise CineError(FRAME, repr(asked), expected, "Choose another frame.")
    return int(text)


def frame_items(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One item for each frame of the file ``item["image"]``."""
    header: Header = read_header(item["image"])
    for frame in range(header.frames):
        yield {**item, FRAME: frame, FRAMES: header.frames}


class FramesGathered:
    """Collects the labels of a cine's frames, one byte per voxel."""

    def __init__(self) -> None:
        self._labels: dict[str, np.ndarray] = {}
        self._constant: list[bool] = []

    def add(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """Add an item of ``frame_items`` with its labels, 1 H W D; frames must come in order.

        Returns:
            After the last frame, the item of the cine, with labels T H W D (uint8) and the lists of its frames'
            metadata; None before. An item without a frame number is returned unchanged.
        """
        if FRAMES not in item:
            return dict(item)
        frame, frames = int(item[FRAME]), int(item[FRAMES])
        if frame == 0:
            self._labels, self._constant = {}, []
        for key in LABELS:
            if key in item:
                labels_HWD = np.asarray(item[key])[0]
                whole_THWD = self._labels.setdefault(key, np.empty((frames, *labels_HWD.shape), np.uint8))
                whole_THWD[frame] = labels_HWD
        image: Any = item.get("image")
        self._constant += list(getattr(image, "meta", {}).get(CONSTANT, ()))
        if frame + 1 < frames:
            return None
        if hasattr(image, "meta"):
            image.meta[CONSTANT] = np.array(self._constant)
        labels, self._labels = self._labels, {}
        return {**item, **labels}


def write_frames(path: str | Path, head: bytes, frames: Iterable[bytes]) -> None:
    """Write a NIfTI frame by frame, as a whole or not at all; compressed if its name ends in .gz.

    Args:
        path: the path of the file.
        head: all bytes before the voxels.
        frames: the stored voxels of each frame, the first axis fastest.

    Raises:
        CineError: the file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        compressed = str(path).endswith(".gz")
        with GzipFile("", "wb", 6, file, mtime=0) if compressed else nullcontext(file) as stream:
            stream.write(head)
            for frame in frames:
                stream.write(frame)


def check_name(item: Mapping[str, Any], suffixes: tuple[str, ...]) -> None:
    """CineError if the disk does not accept the names of an item's results."""
    for suffix in suffixes:
        try:
            Path(f"{item['output']}{suffix}").lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            found = f"a result's name that the disk refuses ({error.strerror})"
            raise CineError(item["source"], found, "a shorter name", "Rename the file.") from None
