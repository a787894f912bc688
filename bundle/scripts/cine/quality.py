"""The connected parts of each structure: what post-processing keeps, and what counts as a fragment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scripts.cine import STRUCTURES

TOUCHING = np.ones((3, 3, 3))
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


def parts_of(labels_HWD: np.ndarray, each: Callable[..., Iterable] = map) -> dict[str, Parts]:
    """The parts of every structure, by its name.

    Args:
        each: like ``map``, such as that of a pool of threads.
    """
    boxes = ndimage.find_objects(labels_HWD.astype(np.uint8, copy=False), max_label=max(STRUCTURES.values()))

    def parts(name: str) -> Parts:
        box = boxes[STRUCTURES[name] - 1]
        if box is None:
            return Parts(None, np.zeros((0, 0, 0), int), np.zeros(0, int))
        return Parts(box, *_label(labels_HWD[box] == STRUCTURES[name]))

    return dict(zip(STRUCTURES, each(parts, STRUCTURES), strict=True))


def heart_of(labels_HWD: np.ndarray) -> np.ndarray:
    """Where the largest part of all structures together is."""
    components, voxels = _label(labels_HWD)
    return components == 1 + voxels.argmax() if len(voxels) > 1 else labels_HWD > 0


def _label(mask_HWD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the parts, and the voxels of each."""
    components, count = ndimage.label(mask_HWD, TOUCHING)
    if count < 2:  # counting by number takes a third of the time of finding them
        return components, np.full(count, np.count_nonzero(components))
    return components, np.bincount(components.ravel())[1:]


def keep_heart(labels_HWD: np.ndarray, parts: dict[str, Parts], heart_HWD: np.ndarray) -> None:
    """Clear, in place, all but the largest part of all structures together, and in it of each structure.

    What looks like myocardium in the liver may be larger than the real one, but it touches no ventricle.

    Args:
        labels_HWD: labels.
        parts, heart_HWD: of ``parts_of`` and ``heart_of``, for these labels.
    """
    for part in parts.values():
        if part.box is None:
            continue
        heart_hwd, labels_hwd = heart_HWD[part.box], labels_HWD[part.box]
        if len(part.voxels) == 1:
            labels_hwd[(part.components > 0) & ~heart_hwd] = 0
        else:  # a part lies wholly within the heart or wholly outside
            within = np.bincount(part.components[heart_hwd], minlength=1 + len(part.voxels))[1:]
            labels_hwd[(part.components > 0) & ~(heart_hwd & (part.components == 1 + within.argmax()))] = 0
