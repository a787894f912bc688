"""The size of the live window: the deployment size, or a smaller one while the heart fits into it."""

from __future__ import annotations

import numpy as np

from scripts.cine import STRUCTURES

FITTED_MM = (156.0, 144.0)
"""Height and width of the smaller window. The labelled hearts of ACDC are 105 x 99 mm on average."""
MARGIN_MM = 9.0
"""Room on each side of a heart that fits. Half a step of the window may be missing on one side."""
EDGE_MM = 3.0
"""A heart that is nearer to the edge of the smaller window needs the larger one."""
CALM = 22
"""Volumes between two changes of the size: a second."""
PATIENCE = 220
"""Volumes until the smaller window is tried again after its mask differed: ten seconds."""
MIN_DICE = 0.98
"""The masks of both windows agree if no structure has a lower Dice."""


class FittedWindow:
    """Chooses between the deployment size and a smaller size, in which the network takes less time.

    The smaller window is tried when the heart fits. For one volume the network then runs in both windows. Only if
    the masks agree, the smaller one is used. It ends when the heart nears its edge or is lost.

    Args:
        deployment: h, w of the deployment size, voxels of the network's grid.
        spacing_mm: in-plane distance of these voxels.
        step: the smaller size is a multiple of this.
        allowed: whether there is a smaller size.
    """

    def __init__(self, deployment: tuple[int, int], spacing_mm: tuple[float, ...], step: int, allowed: bool = True):
        self.large = deployment
        sides = (round(side / mm / step) * step for side, mm in zip(FITTED_MM, spacing_mm, strict=True))
        height, width = (min(side, limit) for side, limit in zip(sides, deployment, strict=True))
        self.small = (height, width) if allowed else deployment
        self._spacing_mm = spacing_mm
        self.restart()

    def restart(self) -> None:
        """Return to the deployment size."""
        self.in_use = False
        self._volumes_left = CALM

    @property
    def size(self) -> tuple[int, int]:
        """h, w of the window for the next volume."""
        return self.small if self.in_use else self.large

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """All sizes that a window may have."""
        return {self.large, self.small}

    def try_now(self, heart: tuple[slice, slice] | None) -> bool:
        """Whether the smaller window should be tried with this volume, whose heart has this bounding box."""
        self._volumes_left = max(0, self._volumes_left - 1)
        return (
            not self.in_use
            and self.small != self.large
            and heart is not None
            and not self._volumes_left
            and all(
                (along.stop - along.start + 2 * MARGIN_MM / mm) <= side
                for along, side, mm in zip(heart, self.small, self._spacing_mm, strict=True)
            )
        )

    def decide(self, mask_HWD: np.ndarray, fitted_HWD: np.ndarray) -> None:
        """Use the smaller window from now on if its mask agrees with that of the deployment size."""
        self.in_use = least_dice(mask_HWD, fitted_HWD) >= MIN_DICE
        self._volumes_left = CALM if self.in_use else PATIENCE

    def follow(self, heart: tuple[slice, slice] | None, start: tuple[int, int] | None, field: tuple[int, int]) -> None:
        """Return to the deployment size if the heart was lost or is near an edge of the window inside the field.

        Args:
            heart: bounding box on the network's grid; None: no heart.
            start: the first voxel of the window; None: the network saw the whole field, since the heart was lost.
            field: h, w of the whole field.
        """
        if not self.in_use:
            return
        if heart is None or start is None or self._near_edge(heart, start, field):
            self.restart()

    def _near_edge(self, heart: tuple[slice, slice], start: tuple[int, int], field: tuple[int, int]) -> bool:
        for along, first, side, length, mm in zip(heart, start, self.small, field, self._spacing_mm, strict=True):
            before = first > 0 and (along.start - first) * mm < EDGE_MM
            after = first + side < length and (first + side - along.stop) * mm < EDGE_MM
            if before or after:
                return True
        return False


def least_dice(one_HWD: np.ndarray, other_HWD: np.ndarray) -> float:
    """The lowest Dice of the structures; 1 for a structure that both masks lack."""
    values = []
    for label in STRUCTURES.values():
        one, other = one_HWD == label, other_HWD == label
        voxels = np.count_nonzero(one) + np.count_nonzero(other)
        values.append(float(2 * np.count_nonzero(one & other) / voxels) if voxels else 1.0)
    return min(values)
