"""A window that follows the heart over the network's in-plane grid; plain numbers, no torch."""

from __future__ import annotations

import numpy as np

LOST_SHARE = 0.3
"""A heart with less than this share of its usual volume is lost, not contracted: no ventricle ejects so much."""


class HeartTracker:
    """Where the network looks next: a window around the last position of the heart, or the whole field.

    Args:
        step: the window starts at multiples of this. If the step is the network's coarsest voxel, pooling combines the
            same voxels as over the whole field, so the masks are equal.
    """

    def __init__(self, step: int = 1):
        self.step = step
        self.centre: tuple[float, float] | None = None
        self._usual_ml = 0.0

    def start(self, field: tuple[int, int], window: tuple[int, int]) -> tuple[int, int] | None:
        """The first voxel of a window of h, w voxels in a field of h, w voxels; None means the whole field.

        The window may extend beyond the end of the field, by less than a step.
        """
        if self.centre is None:
            return None
        starts = []
        for centre, size, length in zip(self.centre, window, field, strict=True):
            last = -(-max(0, length - size) // self.step)
            starts.append(self.step * max(0, min(round((centre - size / 2) / self.step), last)))
        return starts[0], starts[1]

    def lost(self, heart_ml: float) -> bool:
        """Whether the heart is so small that the window must have missed it."""
        return heart_ml <= LOST_SHARE * self._usual_ml

    def follow(self, box: tuple[slice, slice] | None, heart_ml: float) -> None:
        """Update from a mask: the heart's bounding box on the network's grid (None: no heart) and its volume."""
        if box is None:
            self.centre = None
            return
        self.centre = ((box[0].start + box[0].stop) / 2, (box[1].start + box[1].stop) / 2)
        self._usual_ml = heart_ml if not self._usual_ml else 0.9 * self._usual_ml + 0.1 * heart_ml


def bounding_box(mask_hwD: np.ndarray) -> tuple[slice, slice] | None:
    """In-plane bounding box of a mask, None if it is empty."""
    rows = np.flatnonzero(mask_hwD.reshape(len(mask_hwD), -1).any(1))
    if not len(rows):
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    # over the first axis first, where memory is contiguous
    columns = np.flatnonzero(np.bitwise_or.reduce(mask_hwD[top:bottom]).any(1))
    return slice(top, bottom), slice(int(columns[0]), int(columns[-1]) + 1)
