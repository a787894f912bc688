"""What seems to be a label map, and is no image."""

from __future__ import annotations

import numpy as np

from scripts.core.errors import CineError

MAX_LABELS = 16
"""So few different values, all whole, are labels: a scanner's image has hundreds."""
SAMPLE = 20_000
"""Voxels of a frame that stand for all."""


def sample(voxels: np.ndarray) -> np.ndarray:
    """Voxels from all over an array."""
    flat = voxels.reshape(-1)
    return flat if flat.size <= SAMPLE else flat[:: flat.size // SAMPLE | 1]


def refuse_labels(frame_HWD: np.ndarray, where: str) -> None:
    """CineError where a frame holds a handful of whole values only."""
    for voxels in (sample(frame_HWD), frame_HWD):  # few values in a part may be many in the whole
        values = np.unique(voxels)
        if not 1 < len(values) <= MAX_LABELS or not np.array_equal(values, np.rint(values)):
            return
    found = f"{len(values)} different values, all whole ({', '.join(f'{value:g}' for value in values[:6])} ...)"
    action = "This seems to be a label map: hand over the image itself, or move label maps out of the folder."
    raise CineError(where, found, "an image with its grey values", action)
