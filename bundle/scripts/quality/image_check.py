"""Check an image before it is segmented: a label map is refused, and doubts are noted.

The lengths of time and space axes do not help: 10 may be slices or frames. Neighbouring frames are similar, as most of
the chest rests, but neighbouring slices differ. docs/decisions.md gives the measurements on real exams.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from scripts.cine.frames import FRAME, FRAMES
from scripts.cine.label_maps import refuse_labels, sample
from scripts.cine.transforms import slice_axis

DOUBTS = "doubts"
"""The key of an image's flags in an item, separated by commas: MONAI's collation preserves text."""
AXES, INVERTED, STILL, GAPS = "axes doubtful", "contrast inverted", "no motion", "empty slices"
IMAGE_DOUBTS = {
    AXES: "frames differ more than slices do: the axes of time and slices seem to be swapped; store H x W x D x T",
    INVERTED: "most of the image is bright, as if black and white were swapped; the network expects dark air",
    GAPS: "some slices show nothing in some frames, so the heart is incomplete there",
    STILL: "all frames are equal: this is not a cine; they may be the colours of a picture",
}
"""Flag -> its meaning."""
MIN_FRAMES = 3
"""Two frames may be ED and ES, which differ as much as slices do if the image is cropped to the heart."""
SLICE_STEP_MM = 8.0
"""Slices are compared at this distance, since thin slices would be as similar as frames."""
MAX_FRAME_CHANGE, MIN_FRAME_CHANGE = 1.2, 0.01
"""Difference between frames divided by that between slices: at most 0.7 in cines, at least 1.5 if axes are swapped."""
MAX_MEDIAN = 0.6
"""The median's position from darkest to brightest voxels: at most 0.52 in exams, also in cropped ones."""


class CheckedImaged(MapTransform):
    """Refuse label maps, and note doubts about an image, T H W D as it was loaded, under DOUBTS.

    If frames come one by one (``frame_items``), the last one carries the doubts about all of them.

    Raises:
        CineError: a frame has only a few different values, all whole numbers.
    """

    def __init__(self, keys: KeysCollection):
        super().__init__(keys)
        self._seen: ImageStatistics | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            voxels_THWD = np.asarray(image)
            if self._seen is None or not result.get(FRAME) or FRAMES not in result:
                self._seen = ImageStatistics(np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0))
            for frame_HWD in voxels_THWD:
                refuse_labels(frame_HWD, str(result.get("source", key)))
                self._seen.add(frame_HWD)
            last = int(result.get(FRAME) or 0) + 1 == int(result[FRAMES]) if FRAMES in result else True
            result[DOUBTS] = ", ".join(self._seen.doubts()) if last else ""
        return result


class ImageStatistics:
    """Statistics for the doubts about an image, collected frame by frame.

    Args:
        spacing_mm: size of a voxel.
    """

    def __init__(self, spacing_mm: np.ndarray):
        self.spacing_mm = spacing_mm
        self._frame_changes: list[float] = []
        self._slice_changes: list[float] = []
        self._samples: list[np.ndarray] = []
        self._empty: list[np.ndarray] = []
        self._last_HWD: np.ndarray | None = None

    def add(self, frame_HWD: np.ndarray) -> None:
        """Add the next frame. A frame without contrast is not compared with others."""
        axis = slice_axis(self.spacing_mm, frame_HWD.shape)
        step = max(1, round(SLICE_STEP_MM / self.spacing_mm[axis]))
        stack = np.moveaxis(frame_HWD, axis, 0)
        empty_D = stack.min(axis=(1, 2)) == stack.max(axis=(1, 2))
        if empty_D.all():
            return
        self._empty.append(empty_D)
        if step < len(stack):
            self._slice_changes.append(_change(stack[step:], stack[:-step]))
        if self._last_HWD is not None:
            self._frame_changes.append(_change(frame_HWD, self._last_HWD))
        self._samples.append(sample(frame_HWD))
        self._last_HWD = frame_HWD

    def doubts(self) -> list[str]:
        """The flags of IMAGE_DOUBTS for the frames so far."""
        if not self._samples:
            return []
        low, median, high = np.percentile(np.concatenate(self._samples), (0.5, 50, 99.5))
        flags = [INVERTED] if median - low > MAX_MEDIAN * (high - low) else []
        if any((empty_D != self._empty[0]).any() for empty_D in self._empty):
            flags.append(GAPS)
        if not self._frame_changes:
            return flags
        between_frames = float(np.median(self._frame_changes))  # the median, since one frame may be bad
        between_slices = float(np.mean(self._slice_changes)) if self._slice_changes else 0.0
        if between_frames <= MIN_FRAME_CHANGE * between_slices:
            flags.append(STILL)
        elif between_slices and len(self._samples) >= MIN_FRAMES and between_frames > MAX_FRAME_CHANGE * between_slices:
            flags.append(AXES)
        return flags


def image_doubts(image_THWD: np.ndarray, spacing_mm: np.ndarray) -> list[str]:
    """The flags of IMAGE_DOUBTS for an image with voxels of ``spacing_mm``."""
    statistics = ImageStatistics(spacing_mm)
    for frame_HWD in image_THWD:
        statistics.add(frame_HWD)
    return statistics.doubts()


def _change(volumes: np.ndarray, others: np.ndarray) -> float:
    """Mean difference of voxels."""
    return float(np.abs(volumes - others).mean())
