"""The images of a study -> those of its short-axis cine: copies, series, and which stack of planes is taken.

A stack is what has one frame of reference, matrix, pixel spacing and orientation. No file is left out in silence.
"""

from __future__ import annotations

import filecmp
import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from scripts.cine.dicom import ONLY, Content, Plane
from scripts.cine.dicom_stack import MAX_UNEVEN, by_position, normal_of, series_names, unevenness
from scripts.files import CineError

logger = logging.getLogger(__name__)

DIFFERENCE = 1e-3
"""Largest difference of pixel spacings (mm) and of direction cosines that is taken for rounding."""
MIN_FRAMES = 10
"""A stack of at least this many frames a beat wins over one of fewer than half, such as pairs of late enhancement."""
PARALLEL = np.cos(np.radians(10))
MAX_LISTED = 6
CHOOSE = "Name the folder of one of them, or move the others elsewhere."


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
        """Its first series."""
        return min((image.series_number for image in self.images if image.series_number is not None), default=math.inf)

    @property
    def is_cine(self) -> bool:
        return self.positions > 1 and self.frames > 1 and not self.first.phase

    @cached_property
    def repeated(self) -> list[str]:
        """The slices that several series hold; one series for each time is none."""
        found = []
        for number, images in enumerate(self.slices[0], start=1):
            series = len({image.series for image in images})
            if series > 1 and not series == len(images) >= MIN_FRAMES:
                found.append(f"slice {number} of {self.positions} in {series_names(images)}")
        return found

    def at(self, folder: Path) -> str:
        """As ``str``, with a file: for errors only, since the names of files may hold a patient's."""
        return f"{self}, such as {os.path.relpath(self.first.path, folder)}"

    def __str__(self) -> str:
        (columns, rows), (along, down) = self.first.size, self.first.spacing_mm
        x, y, z = normal_of(self.first)
        counts = f"slices: {self.positions}, frames: {self.frames}{', phase' * self.first.phase}"
        return (
            f"{series_names(self.images)} ({counts}, {columns} x {rows} pixels of {along:.3g} x {down:.3g} mm, "
            f"normal {x:.2f} {y:.2f} {z:.2f})"
        )


def short_axis(folder: Path, contents: Sequence[Content]) -> list[Plane]:
    """The images of the one stack that has several slices and times, or of the one stack there is.

    Raises:
        CineError: no image; several patients or studies; copies that differ; two stacks that are equally good; series
            that may hold slices of the stack.
    """
    images = _without_copies([plane for content in contents for plane in content.planes])
    for reason, count in Counter(content.left_out for content in contents if content.left_out).items():
        level = logging.INFO if reason == "without an image" else logging.WARNING
        logger.log(level, "%d DICOM files %s are left out", count, reason)
    if not images:
        raise CineError(folder, f"{len(contents)} DICOM files and no image in them", "MR images", "Check input.")
    for name, words in {"patient": "patients", "study": "studies"}.items():
        count = len({getattr(image, name) for image in images})
        if count > 1:
            raise CineError(folder, f"{count} {words} in {len(images)} images", "one", ONLY)
    candidates = [part for group in _groups(_in_one_frame(images)) for part in _parts(group)]
    candidates.sort(key=Candidate.number)  # for messages that do not depend on the names of files
    chosen = _choose(folder, candidates)
    if chosen.repeated:
        found = f"{len(chosen.repeated)} slices that were taken more than once: {'; '.join(chosen.repeated[:5])}"
        raise CineError(folder, found, "one series a slice", "Keep the better series of each slice.")
    series = {image.series for image in chosen.images}
    for content in contents:
        if content.left_out and content.left_out != "without an image" and content.series in series:
            raise CineError(content.path, f"a picture {content.left_out}, in a series of the cine", "grey values", ONLY)
    others = [candidate for candidate in candidates if candidate is not chosen]
    logger.info("the cine is %s", chosen)
    for other in others:
        _check_left_out(folder, chosen, other)
        mixed = not other.first.phase and not series.isdisjoint(image.series for image in other.images)
        logger.log(logging.WARNING if mixed else logging.INFO, "left out: %s", other)
    return chosen.images


def _without_copies(images: list[Plane]) -> list[Plane]:
    """One image for each SOPInstanceUID and frame; CineError where the copies differ."""
    kept: dict[object, Plane] = {}
    copies, edited = set(), set()
    for image in images:
        first = kept.setdefault((image.instance_uid or image.path, image.frame), image)
        if first is image:
            continue
        if not first.agrees(image):
            found = f"another position, time or series than {first.path} has under the same SOPInstanceUID"
            raise CineError(image.path, found, "the same in each copy", "Remove the wrong copy.")
        if image.path not in copies and not filecmp.cmp(first.path, image.path, shallow=False):
            edited.add(image.path)
        copies.add(image.path)
    if copies:
        logger.info("%d files are copies of others (the same SOPInstanceUID) and are left out", len(copies))
    if edited:
        logger.warning("%d of the copies differ from the file that is used, in bytes but not in geometry", len(edited))
    return list(kept.values())


def _in_one_frame(images: list[Plane]) -> list[Plane]:
    """Forget frames of reference that an anonymiser wrote image by image: DICOM has one a series (PS3.3, C.7.4.1)."""
    by_series: dict[str, dict[Path, str]] = {}
    for image in images:
        by_series.setdefault(image.series, {})[image.path] = image.frame_of_reference
    if not any(len(set(frames.values())) == len(frames) > 1 for frames in by_series.values()):
        return images
    logger.warning("each image of a series has a frame of reference of its own: positions are taken to be in one")
    return [replace(image, frame_of_reference="") for image in images]


def _groups(images: list[Plane]) -> list[list[Plane]]:
    """Images of one frame of reference, matrix, pixel spacing and orientation, magnitude or phase."""
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
        and _same_grid(one, other)
        and np.abs(one.orientation - other.orientation).max() <= DIFFERENCE
    )


def _same_grid(one: Plane, other: Plane) -> bool:
    return one.size == other.size and bool(np.abs(one.spacing_mm - other.spacing_mm).max() <= DIFFERENCE)


def _parts(group: list[Plane]) -> list[Candidate]:
    """One candidate, or one for each series of several slices where they do not make up one stack together."""
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


def _choose(folder: Path, candidates: list[Candidate]) -> Candidate:
    usable = [candidate for candidate in candidates if not candidate.first.phase]
    if not usable:
        raise CineError(folder, "phase or velocity images only", "the magnitude images of a cine", ONLY)
    if len(usable) == 1:
        return usable[0]
    cines = [candidate for candidate in usable if candidate.is_cine]
    best = [one for one in cines if not any(_beats(other, one) for other in cines)]
    if len(best) == 1:
        return best[0]
    if cines:
        found = f"{len(best)} stacks that may each be the short-axis cine: {_listed(folder, best)}"
        raise CineError(folder, found, "one", CHOOSE)
    found = f"no stack of several slices and times among {_listed(folder, usable)}"
    raise CineError(folder, found, "a short-axis cine, or a single series", CHOOSE)


def _listed(folder: Path, candidates: list[Candidate]) -> str:
    more = [f"{len(candidates) - MAX_LISTED} more"] * (len(candidates) > MAX_LISTED)
    return "; ".join([one.at(folder) for one in candidates[:MAX_LISTED]] + more)


def _beats(one: Candidate, other: Candidate) -> bool:
    """Whether one stack is clearly more of a short-axis cine: twice the slices, or a whole beat rather than few frames.

    A stack along an axis of the body is no short-axis stack, however many slices it has, but it may be one's only.
    """
    along_the_body = np.abs(normal_of(one.first)).max() > PARALLEL
    more_slices = one.positions >= 2 * other.positions and one.frames >= min(other.frames, MIN_FRAMES)
    whole_beat = 2 * one.positions > other.positions and one.frames >= MIN_FRAMES > 2 * other.frames
    return (more_slices and not along_the_body) or whole_beat


def _check_left_out(folder: Path, chosen: Candidate, other: Candidate) -> None:
    """CineError where what is left out may hold slices of the stack: at one of its positions, or next to its ends."""
    normal = normal_of(chosen.first)
    grid = _same_grid(chosen.first, other.first) and not other.first.phase
    if chosen.positions < 2 or 2 * other.frames <= chosen.frames or abs(normal_of(other.first) @ normal) < PARALLEL:
        return
    expected, action = "one stack", "Remove the series, or put it in the stack's place."
    if chosen.first.frame_of_reference != other.first.frame_of_reference:
        if grid:
            found = f"one orientation in two frames of reference, in {chosen} and {other.at(folder)}"
            raise CineError(folder, found, expected, CHOOSE)
        return
    levels = chosen.slices[1]
    gap = (levels[-1] - levels[0]) / (len(levels) - 1)
    middle = np.array(chosen.first.size) * chosen.first.spacing_mm / 2 @ chosen.first.orientation
    heights = np.array([_centre(images[0]) @ normal for images in other.slices[0]]) - middle @ normal
    beyond = np.maximum(levels[0] - heights, heights - levels[-1]) / gap
    if np.any((beyond > 0.5) & (beyond < 1.5)):
        found = f"{other.at(folder)}, parallel to {chosen} and next to its end"
        raise CineError(folder, found, "the slices of the stack in one geometry", f"{action} {ONLY}")
    if grid and np.abs(heights[:, None] - levels).min() < gap / 4:
        found = f"{other.at(folder)}, at slices that {chosen} holds too"
        raise CineError(folder, found, "each slice once", action)


def _centre(image: Plane) -> np.ndarray:
    return image.position_mm + np.array(image.size) * image.spacing_mm / 2 @ image.orientation
