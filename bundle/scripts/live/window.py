"""The window that follows the heart over the network's in-plane grid; plain numbers, no torch."""

from __future__ import annotations

import numpy as np

LOST_SHARE = 0.3
"""A heart of less than this share of its usual volume is lost, not contracted: no ventricle ejects so much."""


class HeartWindow:
    """Where the network looks next: a window of fixed size around the last heart, or the whole field.

    Args:
        size: h, w of the window, voxels.
    """

    def __init__(self, size: tuple[int, int]):
        self.size = size
        self.centre: tuple[float, float] | None = None
        self._usual_ml = 0.0

    def start(self, field: tuple[int, int]) -> tuple[int, int] | None:
        """The window's first voxel in a field of h, w voxels; None asks for the whole field."""
        if self.centre is None:
            return None
        starts = (round(centre - size / 2) for centre, size in zip(self.centre, self.size, strict=True))
        return tuple(  # type: ignore[return-value]
            max(0, min(start, length - size)) for start, length, size in zip(starts, field, self.size, strict=True)
        )

    def lost(self, heart_ml: float) -> bool:
        """Whether so little heart means that the window misses it."""
        return heart_ml <= LOST_SHARE * self._usual_ml

    def follow(self, box: tuple[slice, slice] | None, heart_ml: float) -> None:
        """Learn from a mask: the heart's bounding box on the network's grid (None: no heart) and its volume."""
        if box is None:
            self.centre = None
            return
        self.centre = ((box[0].start + box[0].stop) / 2, (box[1].start + box[1].stop) / 2)
        self._usual_ml = heart_ml if not self._usual_ml else 0.9 * self._usual_ml + 0.1 * heart_ml


def bounding_box(mask_hwD: np.ndarray) -> tuple[slice, slice] | None:
    """In-plane bounding box of a mask, None where it is empty."""
    rows, columns = np.flatnonzero(mask_hwD.any((1, 2))), np.flatnonzero(mask_hwD.any((0, 2)))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
