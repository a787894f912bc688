"""Reference labels on disk: they must be on their image's grid, with only values in ``label_map``; frame by frame."""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.cine import STRUCTURES
from scripts.cine.header import Header, read_header
from scripts.cine.reader import read_frames, read_volume
from scripts.core.errors import CineError

logger = logging.getLogger(__name__)
Exam = dict[str, Any]
"""Keys: image, label (paths), patient, group, phase; structures, the names that the whole data set labels (text);
frame, from 0, in 4D files; lv_voxels in its label; fold (number) or part (training, validation) from a datalist."""

PHASES = ("ED", "ES")
UNKNOWN = "unknown"
GRID_TOLERANCE = 0.05
"""The largest distance between the same voxel of image and label, in voxels: headers are rounded to few decimals."""
VALUE_TOLERANCE = 1e-3
"""The largest distance of a label's value from a whole number: resampling and scaling leave rounding errors."""
Mapped = dict[int, int]


def check_label_map(label_map: Mapping[int | str, int] | None) -> Mapped:
    """Value in the label files -> 1 RV, 2 MYO, 3 LV or 0; CineError if it is invalid. Default: ACDC's own values."""
    mapping = {1: 1, 2: 2, 3: 3} if label_map is None else label_map
    try:
        mapped, targets = {int(key): value for key, value in mapping.items()}, set(mapping.values())
    except (TypeError, ValueError, AttributeError):
        mapped, targets = {}, set()
    if not mapped or not targets <= {0, 1, 2, 3}:
        expected = "numbers mapped to 1 RV, 2 MYO, 3 LV or 0"
        raise CineError("label_map", repr(label_map), expected, 'Write it as {"500": 3, "200": 2, "600": 1}.')
    return {0: 0} | mapped


def labelled_frames(exam: Exam, mapped: Mapped) -> list[Exam]:
    """An exam, or one for each labelled frame of a 4D label; each with the structures in its label.

    Phases are known if frames have an LV label: ED is the frame with the largest LV, ES the one with the smallest, as
    in ``function_of_volumes``. If only one frame is labelled, it keeps the phase of the exam.

    Raises:
        CineError: image and label differ in their grid or number of frames; a value is not a whole number or not in
            ``mapped``; or several frames have one phase.
    """
    image, label = read_header(exam["image"]), read_header(exam["label"])
    _check_frames(image, label)
    _check_grid(image, label)
    counts = _count_voxels(label, mapped)
    if label.frames == 1:
        return [{**exam, "structures": _names(counts), "lv_voxels": counts[0].get(STRUCTURES["LV"], 0)}]
    frames = [frame for frame, count in enumerate(counts) if count]
    if not frames:
        logger.warning("A 4D label without a labelled frame gives no exam")
        logger.debug("%s is the label without a labelled frame", label.path)
    if len(frames) > 1 and exam["phase"] != UNKNOWN:
        found = f"{len(frames)} labelled frames in an item with the phase {exam['phase']}"
        raise CineError(label.path, found, "one", "Leave out the phase: it follows from the labels.")
    phases = _phases(counts) if len(frames) > 1 else dict.fromkeys(frames, exam["phase"])
    return [
        {
            **exam,
            "frame": frame,
            "phase": phases.get(frame, UNKNOWN),
            "structures": _names([counts[frame]]),
            "lv_voxels": counts[frame].get(STRUCTURES["LV"], 0),
        }
        for frame in frames
    ]


def with_structures(exams: Sequence[Exam]) -> list[Exam]:
    """The exams, each with the structures that the whole data set labels; logs how many labels lack a structure."""
    named = _ordered(itertools.chain.from_iterable(exam["structures"].split() for exam in exams))
    for name in STRUCTURES:
        lacking = sum(name not in exam["structures"].split() for exam in exams)
        if name not in named:
            logger.warning("No label has %s: it is not in the results, and a training cannot learn it", name)
        elif lacking:
            text = "%d of %d labels have no %s: it is not scored there, and training treats it as background"
            logger.warning(text, lacking, len(exams), name)
    return [{**exam, "structures": " ".join(named)} for exam in exams]


def warn_of_spacing(exams: Sequence[Exam]) -> None:
    """Log how many images have a spacing that may be wrong: networks would see hearts of another size."""
    doubts = [header.spacing_doubt for exam in exams if (header := read_header(exam["image"])).spacing_doubt]
    if doubts:
        text = "The spacing of %d of %d images may be wrong, and with it the size of hearts and all ml: %s"
        logger.warning(text, len(doubts), len(exams), doubts[0])


def without_repeats(exams: Sequence[Exam]) -> list[Exam]:
    """The exams without repeats: the first one of each frame of a file is kept; logs the number of repeats."""
    once = {(exam["patient"], os.path.realpath(exam["image"]), exam.get("frame")): exam for exam in reversed(exams)}
    if len(once) < len(exams):
        logger.warning(
            "%d of %d exams are listed more than once: each counts only once", len(exams) - len(once), len(exams)
        )
    return list(reversed(once.values()))


def warn_of_phases(exams: Sequence[Exam]) -> None:
    """Log how many patients have no EF, because a phase occurs twice or the LV is larger at ES than at ED."""
    of_patients: dict[str, list[Exam]] = {}
    for exam in exams:
        of_patients.setdefault(exam["patient"], []).append(exam)
    twice = grown = 0
    for listed in of_patients.values():
        lv = {exam["phase"]: exam["lv_voxels"] for exam in listed}
        twice += any(count > 1 for phase, count in Counter(exam["phase"] for exam in listed).items() if phase in PHASES)
        grown += set(PHASES) <= set(lv) and 0 < lv["ED"] < lv["ES"]
    if twice:
        logger.warning("%d of %d patients have a phase twice: they get no EF and no volumes", twice, len(of_patients))
    if grown:
        text = "In %d of %d patients the labelled LV is larger at ES than at ED: are the phases swapped?"
        logger.warning(text, grown, len(of_patients))


def read_structures(exam: Exam, mapped: Mapped) -> np.ndarray:
    """The label of an exam as structures, H W D; a value that ``mapped`` does not name is 0."""
    voxels_1HWD, _ = read_volume(exam["label"], exam.get("frame"))
    whole_HWD = np.round(voxels_1HWD[0])
    structures_HWD = np.zeros(whole_HWD.shape, int)
    for value, target in mapped.items():
        structures_HWD[whole_HWD == value] = target
    return structures_HWD


def exam_names(exams: Sequence[Exam]) -> list[str]:
    """Names that identify exams in any folder: patient, phase, file name and, for a 4D file, the frame."""
    return [
        f"{exam['patient']} {exam['phase']} {Path(exam['image']).name}"
        + (f" frame {exam['frame'] + 1}" if "frame" in exam else "")
        for exam in exams
    ]


def _names(counts: Iterable[Mapping[int, int]]) -> str:
    return " ".join(_ordered(name for name, index in STRUCTURES.items() for count in counts if index in count))


def _ordered(names: Iterable[str]) -> list[str]:
    there = set(names)
    return [name for name in STRUCTURES if name in there]


def _phases(counts: Sequence[Mapping[int, int]]) -> dict[int, str]:
    lv = {frame: count[STRUCTURES["LV"]] for frame, count in enumerate(counts) if STRUCTURES["LV"] in count}
    if len(set(lv.values())) < 2:
        return {}
    return dict(zip((max(lv, key=lv.__getitem__), min(lv, key=lv.__getitem__)), PHASES, strict=True))


def _count_voxels(label: Header, mapped: Mapped) -> list[dict[int, int]]:
    """For each frame, the number of voxels of each structure in it."""
    counts = []
    for frame_HWD in read_frames(label, of_any_contrast=True):
        found, voxels = np.unique(frame_HWD, return_counts=True)
        whole = np.round(found)
        _refuse(
            label,
            found[np.abs(found - whole) > VALUE_TOLERANCE],
            "whole numbers",
            "Resample labels without interpolation.",
        )
        named = ", ".join(map(str, sorted(mapped)))
        _refuse(label, found[~np.isin(whole, list(mapped))], named, "Name them in label_map.")
        count: dict[int, int] = {}
        for value, number in zip(whole.astype(int).tolist(), voxels.tolist(), strict=True):
            if mapped[value]:
                count[mapped[value]] = count.get(mapped[value], 0) + number
        counts.append(count)
    return counts


def _refuse(label: Header, wrong: np.ndarray, expected: str, action: str) -> None:
    if len(wrong):
        values = ", ".join(map(_shown, wrong[:8]))
        raise CineError(label.path, f"the label values {values}", expected, action)


def _shown(value: np.float32) -> str:
    """Six digits, or as many as necessary to identify the number."""
    short = f"{value:g}"
    return short if np.float32(short) == value else f"{value:.9g}"


def _check_frames(image: Header, label: Header) -> None:
    if label.frames == image.frames:
        return
    found, action = f"{label.frames} frames", "Label the frames of the image itself."
    if label.frames == 1:
        found = "the label of one frame"
        action = "Save that frame as a separate image, or save a 4D label: its other frames may be empty."
    elif image.frames == 1:
        action = "Save one label map. If the frames are one-hot channels, save their argmax."
    expected = f"{image.frames} frames, like {image.path.name}" if image.frames > 1 else f"one, like {image.path.name}"
    raise CineError(label.path, found, expected, action)


def _check_grid(image: Header, label: Header) -> None:
    name, action = image.path.name, "Label the image's own grid, or resample the label to it."
    if label.shape != image.shape:
        raise CineError(label.path, f"shape {label.shape}", f"{image.shape}, like {name}", action)
    corners = np.array([*itertools.product(*((0, n - 1) for n in image.shape), [1])])
    apart_mm = np.abs(corners @ (label.affine - image.affine).T).max()
    tolerance_mm = GRID_TOLERANCE * min(image.spacing_mm)
    if apart_mm <= tolerance_mm:
        return
    if not np.allclose(label.spacing_mm, image.spacing_mm, rtol=1e-3):
        raise CineError(label.path, f"spacing {label.spacing_mm} mm", f"{image.spacing_mm} mm, like {name}", action)
    found = f"an affine that shifts voxels by up to {apart_mm:.3g} mm"
    expected = f"at most {tolerance_mm:.2g} mm from {name}"
    raise CineError(label.path, found, expected, action)
