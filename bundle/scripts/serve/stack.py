"""Slices that arrive one by one become a volume as soon as all are there.

Arrays: I J in-plane, K slices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.serve.protocol import MalformedError, Volume

MAX_SLICES = 256
SAME_PLACE_MM = 0.05
"""Two slices that are nearer than this show the same place."""
IRREGULAR = 0.1
"""Distances between slices may differ from their mean by this share."""


@dataclass(frozen=True, eq=False)
class Part:
    """The slices that one message brings.

    Attributes:
        voxels_IJK: one slice or more.
        affine: 4x4, voxel indices of this part to RAS (mm).
        origin: what the protocol keeps for the answer.
        first: number of its first slice in the stack, from 0; None if the protocol does not number slices.
        of: number of slices in the whole stack; None if unknown.
        group: slices of one stack have the same, such as a repetition and a phase.
    """

    voxels_IJK: np.ndarray
    affine: np.ndarray
    origin: Any
    first: int | None = None
    of: int | None = None
    group: Hashable = None


class Stacker:
    """Collects parts until a stack is complete.

    A part that holds its whole stack is a volume at once. Numbered parts wait for the others of their group; several
    groups may wait at a time. Slices without numbers differ by their place: a stack is complete with the given
    number of slices. Without that number, the first slice whose place was there before shows how many there are.

    Args:
        slices: of a stack whose slices have no number; None: found from their places.
        max_bytes: of all voxels that wait; the oldest are dropped above it.
        complain: takes a line about what was dropped.
    """

    def __init__(self, slices: int | None, max_bytes: int, complain: Callable[[str], None]):
        self._given, self._max_bytes, self._complain = slices, max_bytes, complain
        self._groups: dict[Hashable, list[Part]] = {}
        self._cycle: list[Part] = []
        self._learned: int | None = None
        self._last_count: int | None = None

    def add(self, part: Part, arrived_s: float) -> list[Volume]:
        """Take a part; returns the volumes that it completes, which are none to two.

        Raises:
            MalformedError: the part does not fit its stack, or the complete stack is no regular one. Its slices are
                dropped.
        """
        depth = part.voxels_IJK.shape[2]
        if part.of == depth or (part.of is None and depth > 1):
            return [join([part], arrived_s)]
        if part.first is None:
            return [join(parts, arrived_s) for parts in self._by_place(part)]
        return [join(parts, arrived_s) for parts in self._by_number(part, part.first)]

    def end(self) -> None:
        """Complain about slices that still wait when no more come."""
        left = sum(part.voxels_IJK.shape[2] for parts in [self._cycle, *self._groups.values()] for part in parts)
        if left:
            self._complain(f"{left} slices never formed a whole stack")

    def _by_number(self, part: Part, first: int) -> list[list[Part]]:
        total, end = part.of or 0, first + part.voxels_IJK.shape[2]
        if not (0 <= first < end <= total):
            raise MalformedError(f"slices {first} to {end - 1} of a stack of {total}")
        key = (part.group, part.voxels_IJK.shape[:2], part.voxels_IJK.dtype.str, total)
        waiting = self._groups.setdefault(key, [])
        if any(first < _end(other) and (other.first or 0) < end for other in waiting):
            self._complain(f"slice {first} came again before its stack of {total} was complete: the stack is dropped")
            waiting.clear()
        waiting.append(part)
        if sum(other.voxels_IJK.shape[2] for other in waiting) == total:
            return [self._groups.pop(key)]
        while self._bytes() > self._max_bytes:
            oldest = next(iter(self._groups))
            self._complain(f"a stack that misses slices is dropped ({len(self._groups.pop(oldest))} parts of it came)")
        return []

    def _by_place(self, part: Part) -> list[list[Part]]:
        complete = []
        if self._cycle and not _fits(self._cycle[0], part):
            self._drop("the geometry of the slices changed")
            self._learned = self._last_count = None
        if any(np.linalg.norm(part.affine[:3, 3] - other.affine[:3, 3]) < SAME_PLACE_MM for other in self._cycle):
            count = len(self._cycle)
            # a lost slice makes one short cycle, a changed protocol makes two of the same length
            if self._given is None and (self._learned is None or count == self._last_count):
                self._learned, self._last_count = count, None
                complete.append(self._cycle)
            else:
                self._last_count = count
                self._drop("a slice came again before the stack was complete")
            self._cycle = []
        self._cycle.append(part)
        if len(self._cycle) == (self._given or self._learned):
            complete.append(self._cycle)
            self._cycle, self._last_count = [], None
        elif len(self._cycle) >= MAX_SLICES or sum(p.voxels_IJK.nbytes for p in self._cycle) > self._max_bytes:
            self._drop("no slice came again")
        return complete

    def _drop(self, why: str) -> None:
        self._complain(f"{why}: {len(self._cycle)} slices are dropped")
        self._cycle = []

    def _bytes(self) -> int:
        return sum(part.voxels_IJK.nbytes for parts in self._groups.values() for part in parts)


@np.errstate(all="ignore")  # values that are not finite fail the comparisons
def join(parts: Sequence[Part], arrived_s: float) -> Volume:
    """The volume of some parts, ordered along their normal.

    Raises:
        MalformedError: their slices are not parallel, not equally spaced, or shifted in plane.
    """
    if len(parts) == 1:
        (part,) = parts
        place = slice(0, part.voxels_IJK.shape[2])
        return Volume(part.voxels_IJK, part.affine, [(part.origin, place)], arrived_s)
    affine = parts[0].affine
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal *= (-1.0 if normal @ affine[:3, 2] < 0 else 1.0) / np.linalg.norm(normal)
    offsets = np.stack([part.affine[:3, 3] for part in parts]) - affine[:3, 3]
    order = np.argsort(offsets @ normal, kind="stable")
    depths = np.array([part.voxels_IJK.shape[2] for part in parts])[order]
    steps_mm = np.diff((offsets @ normal)[order]) / depths[:-1]
    mean_mm = steps_mm.mean()
    if not (mean_mm > SAME_PLACE_MM and np.all(abs(steps_mm - mean_mm) <= IRREGULAR * mean_mm)):
        raise MalformedError(f"{len(parts)} slices at distances of {np.round(steps_mm, 2).tolist()} mm: not a stack")
    shifts_mm = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1)
    if not np.all(shifts_mm <= 0.5 * np.linalg.norm(affine[:3, 0])):
        raise MalformedError(f"slices that are shifted in plane by {shifts_mm.max():.1f} mm: not a stack")
    if not all(_fits(parts[0], part) for part in parts):
        raise MalformedError("slices of different directions: not a stack")
    stack = affine.copy()
    stack[:3, 2] = normal * mean_mm
    stack[:3, 3] = parts[order[0]].affine[:3, 3]
    starts = np.empty(len(parts), int)
    starts[order] = np.cumsum(depths) - depths
    places = [
        (part.origin, slice(int(start), int(start) + part.voxels_IJK.shape[2]))
        for part, start in zip(parts, starts, strict=True)
    ]
    return Volume(np.concatenate([parts[i].voxels_IJK for i in order], axis=2), stack, places, arrived_s)


def _fits(one: Part, other: Part) -> bool:
    """Whether two slices have the same size, type and directions."""
    a, b = one.voxels_IJK, other.voxels_IJK
    directions, others = one.affine[:3, :2], other.affine[:3, :2]
    with np.errstate(all="ignore"):
        near = np.all(abs(directions - others) <= 1e-3 * np.linalg.norm(directions, axis=0))
    return a.shape[:2] == b.shape[:2] and a.dtype == b.dtype and bool(near)


def _end(part: Part) -> int:
    return (part.first or 0) + part.voxels_IJK.shape[2]
