"""The connected parts of each structure: post-processing keeps the largest, and a large second one is a fragment."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np

from scripts.cine import STRUCTURES

FRAGMENT_SHARE = 0.05
"""A second part with at least this share of a structure's volume is flagged."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The connected parts (26 neighbours) of all structures in labels H W D, by number; number 0 is the background.

    Attributes:
        components: the number of each voxel's part, H W D.
        runs: flat indices of the starts of runs of one number along the last axis; far fewer than voxels.
        labels: the label of each part.
        voxels: the number of voxels of each part; 0 for the background.
    """

    components: np.ndarray
    runs: np.ndarray
    labels: np.ndarray
    voxels: np.ndarray

    def fragmented(self, structure: str) -> bool:
        """Whether a structure has a second part that is too large to be noise."""
        voxels = self.voxels[self.labels == STRUCTURES[structure]]
        return len(voxels) > 1 and np.sort(voxels)[-2] >= FRAGMENT_SHARE * voxels.sum()


def find_parts(labels_HWD: np.ndarray) -> Parts:
    """The parts of every structure in labels (0 background, 1 RV, 2 MYO, 3 LV)."""
    components, count = _connected(labels_HWD)
    flat = components.ravel()
    runs = np.concatenate(([0], 1 + np.flatnonzero(flat[1:] != flat[:-1])))
    voxels = np.bincount(flat[runs], np.diff(runs, append=len(flat)), 1 + count).astype(int)
    voxels[0] = 0
    return Parts(components, runs, _of_parts(labels_HWD, components, runs, count), voxels)


def keep_heart(labels_HWD: np.ndarray, parts: Parts) -> None:
    """Keep, in place, only the largest part of all structures together, and in it the largest part of each structure.

    A region in the liver that looks like myocardium may be larger than the real one, but it touches no ventricle.

    Args:
        labels_HWD: labels.
        parts: of these labels.
    """
    hearts, _ = _connected(labels_HWD > 0)
    heart_of_part = _of_parts(hearts, parts.components, parts.runs, len(parts.voxels) - 1)
    heart = np.bincount(heart_of_part, parts.voxels).argmax()
    voxels = np.where(heart_of_part == heart, parts.voxels, 0)
    kept = np.zeros_like(parts.labels)
    for label in STRUCTURES.values():
        largest = np.where(parts.labels == label, voxels, 0)
        if largest.any():
            kept[largest.argmax()] = label
    if (kept != parts.labels).any():
        labels_HWD[...] = kept.take(parts.components)


def _connected(mask_HWD: np.ndarray) -> tuple[np.ndarray, int]:
    # cc3d 4.1.1 confuses the axes of a view with only one axis longer than 1
    return cc3d.connected_components(np.ascontiguousarray(mask_HWD, np.uint8), connectivity=26, return_N=True)


def _of_parts(values_HWD: np.ndarray, components: np.ndarray, runs: np.ndarray, count: int) -> np.ndarray:
    """For each part, the value that all its voxels have."""
    of_parts = np.zeros(1 + count, values_HWD.dtype)
    of_parts[components.ravel()[runs]] = values_HWD.ravel()[runs]
    return of_parts
