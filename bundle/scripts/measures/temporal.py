"""How volumes change over a cine: a heart moves smoothly, so that a jump shows a frame that was segmented badly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import median_filter

SUDDEN_SHARE = 0.4
"""A change between neighbouring frames beyond this share of the structure's largest volume is flagged."""
CINE_FRAMES = 5
"""Fewer frames are no time series whose changes could be judged."""
ODD_SHARE, ODD_PER_FRAME = 0.15, 2.5
"""How far a frame may lie off the median of its neighbours, as a share of the largest volume. The former holds in long
cines; the latter, over the number of frames, in short ones, in which a heart moves more from frame to frame."""


def sudden_frames(volumes_ml: Mapping[str, Sequence[float]]) -> dict[str, list[int]]:
    """Frames, counted from 1, in which a structure's volume jumps; none in less than ``CINE_FRAMES``.

    A cine is a loop: the first frame is judged by the last ones too. A frame far off the median of its quarter of the
    beat is odd. Of a step between two frames that are not odd, the later one is named.
    """
    return {name: _sudden(np.asarray(curve, dtype=float)) for name, curve in volumes_ml.items()}


def _sudden(curve_T: np.ndarray) -> list[int]:
    frames, largest = len(curve_T), curve_T.max(initial=0.0)
    if frames < CINE_FRAMES:
        return []
    window = max(3, 2 * (frames // 8) + 1)
    off = np.abs(curve_T - median_filter(curve_T, size=window, mode="wrap"))
    odd = off > max(ODD_SHARE, ODD_PER_FRAME / frames) * largest
    steps = np.abs(np.diff(curve_T)) > SUDDEN_SHARE * largest
    odd[1:] |= steps & ~odd[1:] & ~odd[:-1]
    return (np.flatnonzero(odd) + 1).tolist()
