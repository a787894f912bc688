"""Sort parallel DICOM images into slices and frames, with tolerance for rounding and for slices placed by hand.

Source: DICOM PS3.3, C.7.6.2.1.1 (positions and directions), C.7.6.18.1 (cardiac
synchronisation). Positions are LPS, in mm.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.core.errors import CineError
from scripts.dicom.files import EXPORT
from scripts.dicom.tags import ONLY, Plane

logger = logging.getLogger(__name__)

POSITION_TOLERANCE_MM = 0.1
"""Smaller differences of positions cause no warning."""
MAX_SHIFT_PIXELS = 1.0
"""In-plane shifts of slices below this are accepted with a warning; the voxels are not moved."""
MAX_UNEVEN = 0.1
"""Largest relative difference between a slice distance and the mean distance: slices may be set by hand."""
GAP = 1.5
"""A step between frames longer than this many usual steps means that a frame is missing."""
ADD = "Add the missing images."
_DECIMALS = range(1, 7)


@dataclass(frozen=True)
class Stack:
    """Slices along the normal; the frames of each are in the order of time.

    Attributes:
        slices: the images, slice by slice.
        normal: unit vector from slice to slice (LPS).
        origin_mm: centre of the first voxel of the first slice (LPS).
        gap_mm: distance between slices.
        frame_ms: usual time between frames; 0 if unknown.
    """

    slices: list[list[Plane]]
    normal: np.ndarray
    origin_mm: np.ndarray
    gap_mm: float
    frame_ms: float


def series_names(images: Iterable[Plane]) -> str:
    """The series of some images by number: descriptions are free text and may contain a patient's name."""
    numbers = {image.series: image.series_number for image in images}
    known = sorted({number for number in numbers.values() if number is not None})
    names = ", ".join(f"{number:g}" for number in known)
    unknown = sum(number is None for number in numbers.values())
    parts = [f"series {names}"] * bool(known) + [f"{unknown} series without a number"] * bool(unknown)
    return " and ".join(parts)


def normal_of(image: Plane) -> np.ndarray:
    """The unit vector perpendicular to an image (LPS)."""
    normal = np.cross(*image.orientation)
    return normal / np.linalg.norm(normal)


def by_position(images: Sequence[Plane]) -> tuple[list[list[Plane]], np.ndarray]:
    """The images of each slice, and the slices' positions along the normal (mm), in ascending order."""
    heights = np.array([image.position_mm for image in images]) @ normal_of(images[0])
    order = np.argsort(heights, kind="stable")
    tolerance = max(POSITION_TOLERANCE_MM, 2 * _rounding_mm(images))
    groups = np.split(order, np.flatnonzero(np.diff(heights[order]) > tolerance) + 1)
    return [[images[index] for index in group] for group in groups], np.array([heights[g].mean() for g in groups])


def unevenness(levels_mm: np.ndarray) -> float:
    """The largest difference between a slice distance and the mean distance, as a share of the mean."""
    gaps = np.diff(levels_mm)
    return float(np.abs(gaps / gaps.mean() - 1).max()) if len(gaps) > 1 else 0.0


def build_stack(folder: Path, images: Sequence[Plane]) -> Stack:
    """Sort images of one orientation into slices and frames.

    Raises:
        CineError: slices or frames are missing, doubled, or shifted by at least a pixel.
    """
    slices, levels = by_position(images)
    normal = normal_of(images[0])
    gap_mm = _gap(folder, slices, levels)
    origin_mm = _origin(folder, slices, levels, normal)
    if unplaced := len({image.path for image in images if not image.placed}):
        logger.warning(
            "%d files of several frames have one position, without functional groups: their frames are used as times",
            unplaced,
        )
    return Stack(slices, normal, origin_mm, gap_mm, _by_time(folder, slices))


def _rounding_mm(images: Sequence[Plane]) -> float:
    """The largest error of a position, in any direction, due to its number of decimals.

    Positions in whole mm count as having one decimal, since an exam along the scanner's axes has exact whole values.
    """
    positions = np.array([image.position_mm for image in images])
    decimals = next((d for d in _DECIMALS if np.allclose(positions, positions.round(d), rtol=0, atol=1e-7)), None)
    return 0.0 if decimals is None else float(np.sqrt(3) / 2 * 10.0**-decimals)


def _gap(folder: Path, slices: list[list[Plane]], levels: np.ndarray) -> float:
    if len(slices) == 1:
        first = slices[0][0]
        if first.thickness_mm is None or first.thickness_mm <= 0:
            raise CineError(first.path, "one slice without a SliceThickness", "its thickness in mm", EXPORT)
        return first.thickness_mm
    gaps = np.diff(levels)
    mean = float(gaps.mean())
    off = float(np.abs(gaps - mean).max())
    spread = f"{len(slices)} slices that lie {gaps.min():.4g} to {gaps.max():.4g} mm apart"
    # a distance has two positions, and the mean distance has an error too
    rounding = min(4 * _rounding_mm([image for frames in slices for image in frames]), MAX_UNEVEN * mean)
    if off > max(POSITION_TOLERANCE_MM, MAX_UNEVEN * mean):
        expected = f"distances within {MAX_UNEVEN:.0%} of their mean, {mean:.4g} mm"
        raise CineError(folder, spread, expected, f"Add the missing slice. {ONLY}")
    if off > max(POSITION_TOLERANCE_MM, rounding):
        misplaced = np.abs(levels - levels[0] - mean * np.arange(len(levels))).max()
        message = "%s: the mean, %.4g mm, is used for all; this shifts a slice by up to %.2g mm"
        logger.warning(message, spread, mean, misplaced)
    return mean


def _origin(folder: Path, slices: list[list[Plane]], levels: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """The position of the first voxel of the first slice, from the in-plane position of most slices."""
    images = [image for frames in slices for image in frames]
    positions = np.array([image.position_mm for image in images])
    flat = positions - np.outer(positions @ normal - levels[0], normal)
    origin: np.ndarray = np.median(flat, axis=0)
    pixels = np.ptp(flat @ images[0].orientation.T / images[0].spacing_mm, axis=0).max()
    shifts = np.linalg.norm(flat - origin, axis=1)
    if pixels >= MAX_SHIFT_PIXELS:
        found = f"slices that are shifted relative to each other by up to {np.ptp(flat, axis=0).max():.3g} mm in plane"
        raise CineError(folder, found, f"shifts below {MAX_SHIFT_PIXELS:g} pixel", ONLY)
    explained = max(POSITION_TOLERANCE_MM, 2 * _rounding_mm(images))
    ends = np.cumsum([len(frames) for frames in slices])
    for number, frames in enumerate(np.split(shifts, ends[:-1]), start=1):
        if frames.max() > explained:
            message = "slice %d of %d (counted along the normal) is shifted in plane by %.2g mm, which is not corrected"
            logger.warning(message, number, len(slices), frames.max())
    return origin


def _by_time(folder: Path, slices: list[list[Plane]]) -> float:
    """Sort the frames of each slice, in place; returns their usual time step in ms, 0 if it is unknown."""
    counts = [len(frames) for frames in slices]
    if max(counts) == 1:  # a single volume
        return 0.0
    if min(counts) < max(counts):
        odd = counts.index(min(counts)) + 1
        found = f"{min(counts)} frames of slice {odd} of {len(slices)} (counted along the normal)"
        raise CineError(folder, found, f"{max(counts)} in each slice", f"{ADD} Remove phase images and repeats.")
    timed = _timed(folder, slices)
    usual = []
    for number, frames in enumerate(slices, start=1):
        times = np.array([image.trigger_ms if timed else image.order for image in frames], dtype=np.float64)
        order = np.argsort(times, kind="stable")  # None became NaN
        frames[:] = [frames[index] for index in order]
        steps = np.diff(times[order])
        where = f"slice {number} of {len(slices)}"
        if not np.all(steps > 0):
            found = f"two images of {where} ({series_names(frames)}) with the same time, or without an instance number"
            expected = "one image for each slice and time"
            raise CineError(folder, found, expected, "Remove copies, phase images and repeated series.")
        median = float(np.median(steps))
        if timed and steps.max() > GAP * median:
            found = f"{steps.max():.4g} ms between two frames of {where}, but usually {median:.4g}"
            raise CineError(folder, found, "even steps", ADD)
        if steps.max() > GAP * median:
            logger.warning("the instance numbers of %s have gaps: frames may be missing", where)
        usual.append(median)
    _check_count(folder, slices, timed)
    return float(np.median(usual)) if timed else 0.0


def _timed(folder: Path, slices: list[list[Plane]]) -> bool:
    """Whether trigger times give the order: they exist, and are not all equal within every slice."""
    triggers = [[image.trigger_ms for image in frames] for frames in slices]
    total, without = sum(map(len, triggers)), sum(times.count(None) for times in triggers)
    if 0 < without < total:
        raise CineError(folder, f"{without} of {total} images without a TriggerTime", "one in each", EXPORT)
    if without:
        logger.warning("no image has a trigger time: the frames are sorted by instance number")
    elif dummy := all(len(set(times)) == 1 for times in triggers):
        logger.warning("the trigger times of all frames are equal: the frames are sorted by instance number")
        return not dummy
    return not without


def _check_count(folder: Path, slices: list[list[Plane]], timed: bool) -> None:
    """Compare the number of frames with CardiacNumberOfImages, which is wrong in many archives."""
    count = len(slices[0])
    promised = max((image.frames or 0 for frames in slices for image in frames), default=0)
    if promised in (0, count):
        return
    found = f"{count} frames in each slice, but CardiacNumberOfImages is {promised:g}"
    if not timed and (promised > count or (promised > 1 and count % promised == 0)):
        raise CineError(
            folder, f"{found}, and no trigger times", "the same number", f"{ADD} Remove phase images and repeats."
        )
    lost = "; perhaps the last frames of all slices, the end of the beat, were lost" if promised > count else ""
    logger.warning("%s: these frames are used%s", found, lost)
