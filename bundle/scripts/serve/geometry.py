"""The geometry that a peer claims: checked before memory is spent on it, then turned into the working order."""

from __future__ import annotations

import numpy as np

from scripts.cine.geometry import EXTENT_LIMIT_MM, ORIGIN_LIMIT_MM, SHEAR_TOLERANCE, SPACING_RANGE_MM
from scripts.core.errors import CineError
from scripts.live.orientation import Orientation
from scripts.serve.protocol import Volume

MAX_FIELD_MM2 = 2**24
"""In-plane area (mm2) times slices: what the network computes and holds in memory grows with it. 400 mm x 400 mm and
100 slices are within it."""
_ACTION = "Send the volume with its own geometry."


class Orienter:
    """Gives the working order of volumes; it computes again only when the geometry changes."""

    def __init__(self) -> None:
        self._key: tuple[bytes, tuple[int, ...]] | None = None

    def __call__(self, volume: Volume) -> Orientation:
        """The working order of a volume; CineError if its geometry is impossible or too large."""
        key = (volume.affine.tobytes(), volume.voxels_IJK.shape)
        if key != self._key:
            check_geometry(volume.affine, volume.voxels_IJK.shape)
            self._key, self._orientation = key, Orientation(volume.affine, volume.voxels_IJK.shape)
        return self._orientation


@np.errstate(all="ignore")  # values that are not finite fail the comparisons
def check_geometry(affine: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuse a geometry that no scanner has.

    Args:
        affine: 4x4, voxel indices to RAS (mm).
        shape: I, J, K.

    Raises:
        CineError: numbers are not finite, axes are sheared, or lengths are impossible or too large.
    """
    lengths_mm, (low, high) = np.linalg.norm(affine[:3, :3], axis=0), SPACING_RANGE_MM
    if not np.all((lengths_mm >= low) & (lengths_mm <= high)):
        expected = f"three lengths from {low:g} to {high:g} mm"
        raise CineError("matrix", f"voxels of {np.round(lengths_mm, 3).tolist()} mm", expected, _ACTION)
    if not np.all(abs(affine[:3, 3]) <= ORIGIN_LIMIT_MM):
        expected = f"a position within {ORIGIN_LIMIT_MM:g} mm"
        raise CineError("matrix", f"the position {affine[:3, 3].tolist()}", expected, _ACTION)
    directions = affine[:3, :3] / lengths_mm
    cosine = float(abs(directions.T @ directions - np.eye(3)).max())
    if not cosine <= SHEAR_TOLERANCE:
        expected = f"axes at right angles (a cosine of at most {SHEAR_TOLERANCE})"
        raise CineError("matrix", f"sheared axes (a cosine of {cosine:.3f} between two of them)", expected, _ACTION)
    extents_mm = lengths_mm * shape
    if extents_mm.max() > EXTENT_LIMIT_MM or np.prod(extents_mm) / lengths_mm.max() > MAX_FIELD_MM2:
        expected = f"at most {EXTENT_LIMIT_MM:g} mm along an axis, and {MAX_FIELD_MM2} mm2 in all slices together"
        raise CineError("volume", f"a field of {np.round(extents_mm).tolist()} mm", expected, _ACTION)
