"""Detect badly segmented frames by their volumes: a heart moves smoothly, so its volumes do not jump."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import median_filter

SUDDEN_SHARE = 0.4
"""A change between neighbouring frames beyond this share of the structure's largest volume is flagged."""
CINE_FRAMES = 5
"""With fewer frames, changes cannot be judged."""
ODD_SHARE, ODD_PER_FRAME = 0.15, 2.5
"""The largest deviation of a frame from the median of its neighbours, as a share of the largest volume.

Long cines use the first value. Short cines use the second divided by the number of frames, since a heart moves more
between their frames."""


def sudden_frames(volumes_ml: Mapping[str, Sequence[float]]) -> dict[str, list[int]]:
    """Frames, counted from 1, in which a structure's volume jumps; none if there are fewer than ``CINE_FRAMES``.

    A cine is a loop, so the first frame is also compared with the last ones. A frame far from the median of its quarter
    of the beat is odd. If a volume jumps between two frames that are not odd, the later one is reported.
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
