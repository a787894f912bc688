"""Write masks with the geometry of their input's header, and a handler that writes all results."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from scripts.cine import STRUCTURES
from scripts.cine.frames import FramesGathered, write_frames
from scripts.cine.header import read_header
from scripts.core.errors import CineError
from scripts.core.files import writing

logger = logging.getLogger(__name__)
CINE_SUFFIX = "_cine.nii.gz"
"""The suffix of the NIfTI cine that is written for a DICOM exam."""

_INTENT_LABEL = 1002
_DESCRIPTION = ", ".join(f"{label} {name}" for name, label in STRUCTURES.items())


def write_mask(path: str | Path, labels: Any, like: str | Path) -> None:
    """Write labels as uint8 NIfTI with exactly the input's geometry, bit for bit: forms, codes, pixdim, units.

    Args:
        path: .nii or .nii.gz; written as a whole or not at all.
        labels: H W D, or T H W D for a cine, in the input's axis order; whole numbers of any type.
        like: the input NIfTI.

    Raises:
        CineError: the shapes differ, or a label is not a whole number from 0 to 255.
    """
    header = read_header(like)
    labels_THWD = np.asarray(labels)
    if labels_THWD.ndim == 3:
        labels_THWD = labels_THWD[np.newaxis]
    expected = (header.frames, *header.shape)
    if labels_THWD.shape != expected:
        raise CineError(
            header.path,
            f"labels of shape {np.shape(labels)}",
            f"{expected} (T H W D), like the image",
            "Invert the spatial transforms before the mask is written.",
        )
    with np.errstate(invalid="ignore"):
        if not all(np.array_equal(labels_HWD.astype(np.uint8), labels_HWD) for labels_HWD in labels_THWD):
            allowed = "whole numbers from 0 to 255"
            raise CineError(header.path, "labels of other values", allowed, "Write labels, not probabilities.")
    raw = header.raw.copy()
    raw.set_data_dtype(np.uint8)
    raw["vox_offset"] = raw.single_vox_offset
    raw["scl_slope"], raw["scl_inter"], raw["cal_min"], raw["cal_max"] = 1, 0, 0, 0
    for name in ("intent_p1", "intent_p2", "intent_p3"):
        raw[name] = 0
    raw["intent_code"], raw["intent_name"] = _INTENT_LABEL, b"labels"
    raw["descrip"], raw["aux_file"] = _DESCRIPTION.encode(), b""
    for name in {"data_type", "db_name"} & set(
        raw.keys()
    ):  # unused fields of NIfTI-1, where some programs write the patient's name
        raw[name] = b""
    no_extensions = bytes(4)
    frames = (labels_HWD.astype(np.uint8).tobytes(order="F") for labels_HWD in labels_THWD)
    write_frames(path, raw.binaryblock + no_extensions, frames)


def save_mask(item: Mapping[str, Any], path: str | Path) -> None:
    """Write ``item["pred"]`` with the geometry of the file ``item["source"]``."""
    write_mask(path, item["pred"], like=item["source"])


class ResultWriter:
    """Ignite handler that writes the results of each cine after its last frame.

    Args:
        writers: suffix -> writer. Each item of the engine's decollated batch, with its output, is written by
            ``writer(item, item["output"] + suffix)``. Items that are frames are first joined to one item of the cine
            (``FramesGathered``).
    """

    def __init__(self, writers: Mapping[str, Callable[[dict[str, Any], str], None]]):
        self.writers = dict(writers)
        self.written: list[str] = []
        self._frames = FramesGathered()

    @property
    def files(self) -> list[str]:
        """The absolute paths of all written files, including the cines of DICOM exams."""
        named = (f"{os.path.abspath(output)}{suffix}" for output in self.written for suffix in self._suffixes)
        return [path for path in named if os.path.exists(path)]

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return (*self.writers, CINE_SUFFIX)

    def attach(self, engine: Engine) -> None:
        """Register for the end of every iteration."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._summarise)

    def __call__(self, engine: Engine) -> None:
        # MONAI's evaluator keeps values that are not tensors, such as paths, only in the batch
        for given, made in zip(engine.state.batch, engine.state.output, strict=True):  # type: ignore[call-overload]
            item = self._frames.add({**given, **made})
            if item is None:
                continue
            for suffix, writer in self.writers.items():
                writer(item, item["output"] + suffix)
            self.written.append(item["output"])

    def _summarise(self, engine: Engine) -> None:
        logger.info("%d results (%s) written", len(self.written), ", ".join(self.writers))


def check_writable(folder: Path) -> None:
    """Make the folder if it does not exist; CineError if it cannot be written."""
    if folder.exists() and not folder.is_dir():
        raise CineError(folder, "a file", "a folder for the results", "Name a folder, or another place.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
