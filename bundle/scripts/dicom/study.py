"""Choose the short-axis cine of a study. Every ignored file is logged, and unclear cases are refused."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.core.errors import CineError
from scripts.dicom.groups import MIN_FRAMES, Candidate, candidates_of, same_grid, without_copies
from scripts.dicom.stack import normal_of
from scripts.dicom.tags import ONLY, Content, Plane

logger = logging.getLogger(__name__)

MIN_COSINE = np.cos(np.radians(10))
"""Planes with normals closer than 10 degrees count as parallel when images may belong together."""
MAX_LISTED = 6
ONE_EXAM = "Leave only one exam in the folder, and name each exam separately."
CHOOSE = "Name the folder of one of them, or move the others elsewhere."


def short_axis(folder: Path, contents: Sequence[Content]) -> list[Plane]:
    """The images of the only stack with several slices and times, or of the only stack.

    Raises:
        CineError: there is no image; there are several patients or studies; copies differ; two stacks are equally good;
            other series may contain slices of the stack.
    """
    images = without_copies([plane for content in contents for plane in content.planes])
    for reason, count in Counter(content.left_out for content in contents if content.left_out).items():
        level = logging.INFO if reason == "without an image" else logging.WARNING
        logger.log(level, "ignored %d DICOM files %s", count, reason)
    if not images:
        raise CineError(folder, f"{len(contents)} DICOM files and no image in them", "MR images", "Check input.")
    for name, words in {"patient": "patients", "study": "studies"}.items():
        count = len({getattr(image, name) for image in images})
        if count > 1:
            raise CineError(folder, f"{count} {words} in {len(images)} images", "one", ONE_EXAM)
    candidates = candidates_of(images)
    chosen = _choose(folder, candidates)
    if chosen.repeated:
        found = f"{len(chosen.repeated)} slices that were acquired more than once: {'; '.join(chosen.repeated[:5])}"
        raise CineError(folder, found, "one series per slice", "Keep the better series of each slice.")
    series = {image.series for image in chosen.images}
    for content in contents:
        if content.left_out and content.left_out != "without an image" and content.series in series:
            raise CineError(content.path, f"a picture {content.left_out}, in a series of the cine", "grey values", ONLY)
    others = [candidate for candidate in candidates if candidate is not chosen]
    logger.info("the cine is %s", chosen)
    for other in others:
        _check_left_out(folder, chosen, other)
        mixed = not other.first.phase and not series.isdisjoint(image.series for image in other.images)
        logger.log(logging.WARNING if mixed else logging.INFO, "ignored: %s", other)
    return chosen.images


def _choose(folder: Path, candidates: list[Candidate]) -> Candidate:
    usable = [candidate for candidate in candidates if not candidate.first.phase]
    if not usable:
        raise CineError(folder, "only phase or velocity images", "the magnitude images of a cine", "Add them.")
    if len(usable) == 1:
        return usable[0]
    cines = [candidate for candidate in usable if candidate.is_cine]
    best = [one for one in cines if not any(_beats(other, one) for other in cines)]
    if len(best) == 1:
        if best[0].frames < MIN_FRAMES or _along_the_body(best[0]):
            few = best[0].frames < MIN_FRAMES
            doubt = f"it has {best[0].frames} frames" if few else "it is parallel to an axis of the body"
            logger.warning("check that the chosen stack is the short-axis cine: %s", doubt)
        return best[0]
    if cines:
        found = f"{len(best)} stacks that may each be the short-axis cine: {_listed(folder, best)}"
        raise CineError(folder, found, "one", CHOOSE)
    found = f"no stack of several slices and times among {_listed(folder, usable)}"
    raise CineError(folder, found, "a short-axis cine, or only one series", CHOOSE)


def _listed(folder: Path, candidates: list[Candidate]) -> str:
    more = [f"{len(candidates) - MAX_LISTED} more"] * (len(candidates) > MAX_LISTED)
    return "; ".join([one.at(folder) for one in candidates[:MAX_LISTED]] + more)


def _beats(one: Candidate, other: Candidate) -> bool:
    """Whether one stack is clearly a better short-axis cine: twice the slices, or a whole beat instead of few frames.

    A stack along an axis of the body is worse, with any number of slices; it is chosen only if it is the only one.
    """
    more_slices = one.positions >= 2 * other.positions and one.frames >= min(other.frames, MIN_FRAMES)
    whole_beat = 2 * one.positions > other.positions and one.frames >= MIN_FRAMES > 2 * other.frames
    return (more_slices and not _along_the_body(one)) or whole_beat


def _along_the_body(candidate: Candidate) -> bool:
    return bool(np.abs(normal_of(candidate.first)).max() > MIN_COSINE)


def _check_left_out(folder: Path, chosen: Candidate, other: Candidate) -> None:
    """CineError if an ignored stack may contain slices of the cine: at one of its positions, or next to its ends."""
    normal = normal_of(chosen.first)
    grid = same_grid(chosen.first, other.first) and not other.first.phase
    if chosen.positions < 2 or 2 * other.frames <= chosen.frames or abs(normal_of(other.first) @ normal) < MIN_COSINE:
        return
    if chosen.first.frame_of_reference != other.first.frame_of_reference:
        if grid:
            found = f"one orientation in two frames of reference, in {chosen} and {other.at(folder)}"
            raise CineError(folder, found, "one", CHOOSE)
        return
    levels = chosen.slices[1]
    gap = (levels[-1] - levels[0]) / (len(levels) - 1)
    half = np.array(other.first.size) * other.first.spacing_mm / 2 @ other.first.orientation
    heights = np.array([(images[0].position_mm + half) @ normal for images in other.slices[0]])
    beyond = np.maximum(levels[0] - heights, heights - levels[-1]) / gap
    if np.any((beyond > 0.5) & (beyond < 1.5)):
        found = f"{other.at(folder)}, parallel to {chosen} and next to its end"
        raise CineError(
            folder,
            found,
            "the slices of the stack in one geometry",
            "Move it elsewhere if it is not a slice of the stack.",
        )
    if grid and np.abs(heights[:, None] - levels).min() < gap / 4:
        found = f"{other.at(folder)}, at slices that {chosen} also has"
        raise CineError(folder, found, "each slice once", "Keep the better series of each slice.")
    if grid and np.any(beyond < 0):
        logger.warning("%s lies between the slices of the cine and is ignored", other)
