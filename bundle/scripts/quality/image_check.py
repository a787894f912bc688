"""What an image says about itself before it is segmented: a label map is refused, and doubts are noted.

Lengths of time and space axes are no help: 10 may be slices or frames. Neighbouring frames are alike, as most of the
chest rests, while neighbouring slices differ. docs/decisions.md says what was measured on real exams.
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
"""Where an item holds the flags of its image, separated by commas; a text, as MONAI's collation keeps it."""
AXES, INVERTED, STILL, GAPS = "axes doubtful", "contrast inverted", "no motion", "empty slices"
IMAGE_DOUBTS = {
    AXES: "frames differ more than slices do: time and slices seem to have changed places; store H x W x D x T",
    INVERTED: "most of the image is bright, as where black and white have changed places; the network expects dark air",
    GAPS: "some slices show nothing in some frames, so that the heart is not whole there",
    STILL: "all frames show the same: they are no cine, such as the colours of a picture",
}
"""Flag -> what it means."""
MIN_FRAMES = 3
"""Two frames may be ED and ES, which differ as much as slices do where the image is cropped to the heart."""
SLICE_STEP_MM = 8.0
"""Slices are compared at this distance, so that thin ones do not look like frames."""
MAX_FRAME_CHANGE, MIN_FRAME_CHANGE = 1.2, 0.01
"""Change between neighbouring frames over that between slices: at most 0.7 in cines, 1.5 and more in swapped ones."""
MAX_MEDIAN = 0.6
"""The median's place between the darkest and the brightest voxels: at most 0.52 in exams, also in cropped ones."""


class CheckedImaged(MapTransform):
    """Refuse label maps, and note under DOUBTS what speaks against an image, T H W D as it was loaded.

    Where frames come one by one (``frame_items``), the last one carries the doubts about them all.

    Raises:
        CineError: a frame holds a handful of whole values only.
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
    """What tells an image's doubts, taken up frame by frame.

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
        """Take up the next frame. One without any contrast says nothing of the others."""
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
        """The flags of IMAGE_DOUBTS that hold for the frames so far."""
        if not self._samples:
            return []
        low, median, high = np.percentile(np.concatenate(self._samples), (0.5, 50, 99.5))
        flags = [INVERTED] if median - low > MAX_MEDIAN * (high - low) else []
        if any((empty_D != self._empty[0]).any() for empty_D in self._empty):
            flags.append(GAPS)
        if not self._frame_changes:
            return flags
        between_frames = float(np.median(self._frame_changes))  # one frame may be spoilt
        between_slices = float(np.mean(self._slice_changes)) if self._slice_changes else 0.0
        if between_frames <= MIN_FRAME_CHANGE * between_slices:
            flags.append(STILL)
        elif between_slices and len(self._samples) >= MIN_FRAMES and between_frames > MAX_FRAME_CHANGE * between_slices:
            flags.append(AXES)
        return flags


def image_doubts(image_THWD: np.ndarray, spacing_mm: np.ndarray) -> list[str]:
    """The flags of IMAGE_DOUBTS that hold for an image whose voxels measure ``spacing_mm``."""
    statistics = ImageStatistics(spacing_mm)
    for frame_HWD in image_THWD:
        statistics.add(frame_HWD)
    return statistics.doubts()


def _change(volumes: np.ndarray, others: np.ndarray) -> float:
    """Mean difference of voxels."""
    return float(np.abs(volumes - others).mean())
