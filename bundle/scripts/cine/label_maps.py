"""Detect label maps that were given as images."""

from __future__ import annotations

import numpy as np

from scripts.core.errors import CineError

MAX_LABELS = 16
"""Up to this many different values, all whole, are labels: a scanner's image has hundreds."""
SAMPLE = 20_000
"""The number of voxels in a sample of a frame."""


def sample(voxels: np.ndarray) -> np.ndarray:
    """A sample of voxels from the whole array."""
    flat = voxels.reshape(-1)
    return flat if flat.size <= SAMPLE else flat[:: flat.size // SAMPLE | 1]


def refuse_labels(frame_HWD: np.ndarray, where: str) -> None:
    """CineError if a frame has only a few different values, all whole numbers."""
    for voxels in (sample(frame_HWD), frame_HWD):  # the whole may have more different values than a sample
        values = np.unique(voxels)
        if not 1 < len(values) <= MAX_LABELS or not np.array_equal(values, np.rint(values)):
            return
    found = f"{len(values)} different values, all whole ({', '.join(f'{value:g}' for value in values[:6])} ...)"
    action = "This seems to be a label map: give the image itself, or move label maps out of the folder."
    raise CineError(where, found, "an image with its grey values", action)
