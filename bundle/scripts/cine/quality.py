"""The connected parts of each structure: what post-processing keeps, and what counts as a fragment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scripts.cine import STRUCTURES

FRAGMENT_SHARE = 0.05
"""A second component of at least this share of a structure's volume is flagged."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The connected parts (26 neighbours) of one structure in labels H W D.

    Attributes:
        box: where the structure lies; None where it is missing.
        components: numbers of the parts within the box, 0 outside the structure.
        voxels: of each part.
    """

    box: tuple[slice, ...] | None
    components: np.ndarray
    voxels: np.ndarray

    @property
    def fragmented(self) -> bool:
        """Whether a second part is too large to be noise."""
        return len(self.voxels) > 1 and np.sort(self.voxels)[-2] >= FRAGMENT_SHARE * self.voxels.sum()


def parts_of(labels_HWD: np.ndarray) -> dict[str, Parts]:
    """The parts of every structure, by its name."""
    boxes = ndimage.find_objects(labels_HWD.astype(np.uint8, copy=False), max_label=max(STRUCTURES.values()))
    parts = {}
    for name, label in STRUCTURES.items():
        box = boxes[label - 1]
        if box is None:
            parts[name] = Parts(None, np.zeros((0, 0, 0), int), np.zeros(0, int))
            continue
        components, _ = ndimage.label(labels_HWD[box] == label, np.ones((3, 3, 3)))
        parts[name] = Parts(box, components, np.bincount(components.ravel())[1:])
    return parts


def keep_heart(labels_HWD: np.ndarray) -> bool:
    """Clear, in place, what does not touch the largest part of all structures together; whether there was anything.

    Before each structure's own largest part is sought: what looks like myocardium in the liver may be larger than it.
    """
    box = ndimage.find_objects((labels_HWD > 0).astype(np.uint8))
    if not box:
        return False
    inside = labels_HWD[box[0]]
    components, count = ndimage.label(inside, np.ones((3, 3, 3)))
    if count > 1:
        inside[components != 1 + np.bincount(components.ravel())[1:].argmax()] = 0
    return count > 1


def keep_largest(labels_HWD: np.ndarray, parts: dict[str, Parts]) -> None:
    """Clear all but the largest part of every structure, in place."""
    for part in parts.values():
        if len(part.voxels) > 1:
            inside = labels_HWD[part.box]
            inside[(part.components > 0) & (part.components != 1 + part.voxels.argmax())] = 0
