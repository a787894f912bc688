"""Read the attributes of one frame of a DICOM object: from functional groups (enhanced MR) or from its root.

Source: DICOM PS3.3, C.7.6.16 (multi-frame functional groups), C.8.13.5 (functional groups of MR).
"""

from __future__ import annotations

from typing import Any

_TIME_INDEX = 0x00209128  # TemporalPositionIndex
_NOT_MAGNITUDE = {"PHASE", "REAL", "IMAGINARY"}
"""Values of ComplexImageComponent."""
_PHASE_TYPES = {"P", "PHASE", "PHASE MAP", "VELOCITY", "VELOCITY MAP", "R", "REAL", "I", "IMAGINARY"}
"""Third and later values of ImageType that scanners write for images other than magnitude."""


def macro(header: Any, frame: int, sequence: str) -> Any:
    """The item of a functional group that applies to a frame; the data set itself if no group does."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for item in (*per_frame[frame : frame + 1], *shared[:1]):
        if item.get(sequence):
            return item[sequence].value[0]
    return header


def time_index(header: Any, frame: int) -> float | None:
    """The position of a frame in time, counted by the scanner (FrameContentSequence); None if it is missing."""
    content = macro(header, frame, "FrameContentSequence")
    if content is header:
        return None
    pointers = [item.get("DimensionIndexPointer") for item in header.get("DimensionIndexSequence") or []]
    index = content.get("TemporalPositionIndex")
    if index is None and _TIME_INDEX in pointers:
        values = content.get("DimensionIndexValues")
        index = values[pointers.index(_TIME_INDEX)] if len(pointers) > 1 else values
    return None if index is None else float(index)


def is_phase(header: Any, frame: int) -> bool:
    """Whether a frame shows phase, velocity, or the real or imaginary part, rather than magnitude."""
    kind = macro(header, frame, "MRImageFrameTypeSequence")
    values = kind.get("FrameType") or kind.get("ImageType") or []
    names = {str(value).strip().upper() for value in ([values] if isinstance(values, str) else values)[2:]}
    component = kind.get("ComplexImageComponent") or header.get("ComplexImageComponent")
    return str(component).upper() in _NOT_MAGNITUDE or bool(names & _PHASE_TYPES)
