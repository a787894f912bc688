"""Doubts about an exam: they appear as ``flags`` in function.json, in the log and on the picture."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.cine.header import Header
from scripts.cine.label_maps import refuse_labels
from scripts.quality.coverage import COVERAGE
from scripts.quality.direction import DOUBT, DOUBTFUL
from scripts.quality.fragments import find_parts
from scripts.quality.image_check import IMAGE_DOUBTS, image_doubts
from scripts.quality.plausibility import field_doubt

logger = logging.getLogger(__name__)
Flag = dict[str, Any]

FEW_SLICES, FIELD, SPACING = "few slices", "field of view doubtful", "spacing doubtful"
IMPLAUSIBLE, SUDDEN = "implausible", "sudden change"
EXPLAINED: Mapping[str, str] = {
    DOUBTFUL: DOUBT,
    FEW_SLICES: "the stack is too short for a ventricle",
    FIELD: "an image of this size cannot show a heart: correct spacing, units or order of axes in the header",
    SPACING: "the header's spacing may be wrong, and with it volumes and mask: correct pixdim and affine",
    IMPLAUSIBLE: "a ventricle or the myocardium has a size or an ejection fraction that is impossible for a heart",
    SUDDEN: "a volume jumps from frame to frame: some frames are badly segmented",
    **IMAGE_DOUBTS,
    **COVERAGE,
}
"""Flag -> its meaning; the other flags name a frame and need no explanation."""


def image_flags(frames_THWD: np.ndarray, header: Header) -> list[str]:
    """The doubts of header and image about an image before it is segmented.

    Raises:
        CineError: it is a label map.
    """
    for frame_HWD in frames_THWD:
        refuse_labels(frame_HWD, str(header.path))
    flags = [SPACING] if header.spacing_doubt else []
    flags += [FIELD] if field_doubt(header.shape, header.spacing_mm) else []
    return flags + image_doubts(frames_THWD, np.asarray(header.spacing_mm))


def spatial_flags(labels_THWD: np.ndarray, volumes_ml: Mapping[str, Sequence[float]]) -> list[Flag]:
    """Structures that are "missing" in a frame, or in "fragments" there."""
    flags = []
    for frame, labels_HWD in enumerate(labels_THWD, start=1):
        parts = find_parts(labels_HWD)
        for name in volumes_ml:
            where = {"structure": name, "frame": frame}
            if not volumes_ml[name][frame - 1]:
                flags.append({"flag": "missing", **where})
            elif parts.fragmented(name):
                flags.append({"flag": "fragments", **where})
    return flags


def of_exam(flags: Iterable[Flag]) -> list[str]:
    """The flags that are about the whole exam, not about a frame or a structure."""
    return [flag["flag"] for flag in flags if set(flag) == {"flag"}]


def log_flags(flags: Iterable[Flag], path: Path) -> None:
    """Warn about each kind of flag once. The file's name may be a patient's, so it is logged only at debug level."""
    kinds = dict.fromkeys(flag["flag"] for flag in flags)
    for kind in kinds:
        logger.warning("%s: %s", kind, EXPLAINED.get(kind, "function.json lists the frames"))
    if kinds:
        logger.debug("%s has these flags: %s", path, ", ".join(kinds))
