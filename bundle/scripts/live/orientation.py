"""Change from a source's axis order to the network's and back, by whole axes, as views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scripts.cine.transforms import working_order


class Orientation:
    """The working order of a source's volumes, determined by ``ShortAxisOrder``.

    Args:
        affine: 4x4, voxel indices to RAS (mm).
        shape: the shape of a volume, in the source's order.
    """

    def __init__(self, affine: np.ndarray, shape: Sequence[int]):
        affine = np.asarray(affine, dtype=np.float64)
        self._order, flips = working_order(affine, tuple(shape))
        self._flipped = tuple(axis - 3 for axis in range(3) if flips[axis])
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        self.spacing_mm = tuple(float(lengths[axis]) for axis in self._order)

    @property
    def key(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Equal for two orientations that permute and flip the same axes."""
        return tuple(self._order), self._flipped

    def to_working(self, volumes: np.ndarray) -> np.ndarray:
        """The last three axes (of a volume, or T and a volume) in working order: H, W, D."""
        return np.flip(self._transpose(volumes, self._order), self._flipped)

    def to_source(self, masks: np.ndarray) -> np.ndarray:
        """The inverse of ``to_working``."""
        return self._transpose(np.flip(masks, self._flipped), [self._order.index(axis) for axis in range(3)])

    @staticmethod
    def _transpose(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
        lead = array.ndim - 3
        return array.transpose(*range(lead), *(lead + axis for axis in order))
