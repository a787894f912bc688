"""Group the images of a study to candidates for its cine: remove copies, then form stacks of parallel planes."""

from __future__ import annotations

import filecmp
import logging
import math
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from scripts.core.errors import CineError
from scripts.dicom.stack import MAX_UNEVEN, by_position, normal_of, series_names, unevenness
from scripts.dicom.tags import Plane

logger = logging.getLogger(__name__)

DIFFERENCE = 1e-3
"""Largest difference of pixel spacings (mm) and of direction cosines that is taken as rounding."""
MIN_FRAMES = 10
"""The minimum frames of a whole beat, if a study also has stacks with fewer, such as late enhancement."""


@dataclass(frozen=True)
class Candidate:
    """Images of one stack of parallel planes."""

    images: list[Plane]

    @cached_property
    def slices(self) -> tuple[list[list[Plane]], np.ndarray]:
        return by_position(self.images)

    @property
    def positions(self) -> int:
        return len(self.slices[0])

    @cached_property
    def frames(self) -> int:
        return int(np.median([len(images) for images in self.slices[0]]))

    @property
    def first(self) -> Plane:
        return self.images[0]

    def number(self) -> float:
        """The number of its first series."""
        return min((image.series_number for image in self.images if image.series_number is not None), default=math.inf)

    @property
    def is_cine(self) -> bool:
        return self.positions > 1 and self.frames > 1 and not self.first.phase

    @cached_property
    def repeated(self) -> list[str]:
        """The slices that are in several series; one series per time point does not count."""
        found = []
        for number, images in enumerate(self.slices[0], start=1):
            series = len({image.series for image in images})
            if series > 1 and not series == len(images) >= MIN_FRAMES:
                found.append(f"slice {number} of {self.positions} in {series_names(images)}")
        return found

    def at(self, folder: Path) -> str:
        """Like ``str``, with a file name: only for errors, since names of files may contain a patient's name."""
        return f"{self}, such as {os.path.relpath(self.first.path, folder)}"

    def __str__(self) -> str:
        (columns, rows), (along, down) = self.first.size, self.first.spacing_mm
        x, y, z = normal_of(self.first)
        counts = f"slices: {self.positions}, frames: {self.frames}{', phase' * self.first.phase}"
        return (
            f"{series_names(self.images)} ({counts}, {columns} x {rows} pixels of {along:.3g} x {down:.3g} mm, "
            f"normal {x:.2f} {y:.2f} {z:.2f})"
        )


def candidates_of(images: list[Plane]) -> list[Candidate]:
    """Stacks with one frame of reference, matrix, pixel spacing and orientation, of magnitude or of phase images.

    A stack with repeated slices, or with uneven distances, is split by series. Sorted by series number.
    """
    found = [part for group in _groups(_in_one_frame(images)) for part in _parts(group)]
    return sorted(found, key=Candidate.number)


def without_copies(images: list[Plane]) -> list[Plane]:
    """One image for each SOPInstanceUID and frame; CineError if copies differ."""
    kept: dict[object, Plane] = {}
    copies, edited = set(), set()
    for image in images:
        first = kept.setdefault((image.instance_uid or image.path, image.frame), image)
        if first is image:
            continue
        if not first.agrees(image):
            found = f"a position, time or series that differs from {first.path}, with the same SOPInstanceUID"
            raise CineError(image.path, found, "the same in each copy", "Remove the wrong copy.")
        if image.path not in copies and not filecmp.cmp(first.path, image.path, shallow=False):
            edited.add(image.path)
        copies.add(image.path)
    if copies:
        logger.info("%d files are copies of others (the same SOPInstanceUID) and are ignored", len(copies))
    if edited:
        logger.warning("%d of the copies differ from the used file in bytes, but not in geometry", len(edited))
    return list(kept.values())


def _in_one_frame(images: list[Plane]) -> list[Plane]:
    """Ignore frames of reference that an anonymiser set for each image: DICOM has one per series (PS3.3, C.7.4.1)."""
    by_series: dict[str, dict[Path, str]] = {}
    for image in images:
        by_series.setdefault(image.series, {})[image.path] = image.frame_of_reference
    if not any(len(set(frames.values())) == len(frames) > 1 for frames in by_series.values()):
        return images
    logger.warning("each image of a series has its own frame of reference: one common frame is assumed")
    return [replace(image, frame_of_reference="") for image in images]


def _groups(images: list[Plane]) -> list[list[Plane]]:
    """Groups of images with one frame of reference, matrix, pixel spacing and orientation, of magnitude or of phase."""
    groups: list[list[Plane]] = []
    known: dict[object, list[Plane]] = {}
    for image in images:
        key = (image.frame_of_reference, image.size, image.phase)
        exact = (*key, image.spacing_mm.tobytes(), image.orientation.tobytes())
        if exact not in known:
            alike = (group for group in groups if _alike(group[0], image))
            known[exact] = next(alike, [])
            if not known[exact]:
                groups.append(known[exact])
        known[exact].append(image)
    return groups


def _alike(one: Plane, other: Plane) -> bool:
    return (
        (one.frame_of_reference, one.phase) == (other.frame_of_reference, other.phase)
        and same_grid(one, other)
        and np.abs(one.orientation - other.orientation).max() <= DIFFERENCE
    )


def same_grid(one: Plane, other: Plane) -> bool:
    return one.size == other.size and bool(np.abs(one.spacing_mm - other.spacing_mm).max() <= DIFFERENCE)


def _parts(group: list[Plane]) -> list[Candidate]:
    """One candidate, or one per series of several slices if these do not form one stack together."""
    whole = Candidate(group)
    if not whole.repeated and unevenness(whole.slices[1]) <= MAX_UNEVEN:
        return [whole]
    by_series: dict[str, list[Plane]] = {}
    for image in group:
        by_series.setdefault(image.series, []).append(image)
    parts: list[list[Plane]] = []
    cines: list[Plane] = []
    stills: list[Plane] = []
    for images in by_series.values():
        if len(by_position(images)[0]) > 1:
            parts.append(images)
        else:
            (cines if len(images) > 1 else stills).extend(images)
    return [Candidate(images) for images in (*parts, cines, stills) if images]
