"""Results out: which inputs there are, masks with their input's header geometry, and one handler that writes all."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from scripts.cine import STRUCTURES
from scripts.cine.containers import is_nifti, other_format
from scripts.cine.dicom_cine import CINE_SUFFIX
from scripts.cine.dicom_files import holds_dicom
from scripts.cine.folders import images_of_folder, outputs_of
from scripts.cine.frames import FramesGathered, write_frames
from scripts.cine.header import read_header
from scripts.files import CineError, missing, writing
from scripts.text import listed_paths

logger = logging.getLogger(__name__)

_INTENT_LABEL = 1002
_DESCRIPTION = ", ".join(f"{label} {name}" for name, label in STRUCTURES.items())


def write_mask(path: str | Path, labels: Any, like: str | Path) -> None:
    """Write labels as uint8 NIfTI whose geometry is the input's in every bit: forms, codes, pixdim, units.

    Args:
        path: .nii or .nii.gz; replaced whole or not at all.
        labels: H W D, or T H W D for a cine, in the input's axis order; whole numbers of any type.
        like: the input NIfTI.

    Raises:
        CineError: the shapes disagree, or a label is no whole number from 0 to 255.
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
            f"{expected} (T H W D), as the image",
            "Invert the spatial transforms before the mask is written.",
        )
    with np.errstate(invalid="ignore"):
        if not all(np.array_equal(labels_HWD.astype(np.uint8), labels_HWD) for labels_HWD in labels_THWD):
            allowed = "whole numbers from 0 to 255"
            raise CineError(header.path, "other labels", allowed, "Write labels, not probabilities.")
    raw = header.raw.copy()
    raw.set_data_dtype(np.uint8)
    raw["vox_offset"] = raw.single_vox_offset
    raw["scl_slope"], raw["scl_inter"], raw["cal_min"], raw["cal_max"] = 1, 0, 0, 0
    for name in ("intent_p1", "intent_p2", "intent_p3"):
        raw[name] = 0
    raw["intent_code"], raw["intent_name"] = _INTENT_LABEL, b"labels"
    raw["descrip"], raw["aux_file"] = _DESCRIPTION.encode(), b""
    for name in {"data_type", "db_name"} & set(raw.keys()):  # NIfTI-1's unused fields, where some write the patient
        raw[name] = b""
    no_extensions = bytes(4)
    frames = (labels_HWD.astype(np.uint8).tobytes(order="F") for labels_HWD in labels_THWD)
    write_frames(path, raw.binaryblock + no_extensions, frames)


def save_mask(item: Mapping[str, Any], path: str | Path) -> None:
    """Write ``item["pred"]`` with the geometry of the file ``item["source"]``."""
    write_mask(path, item["pred"], like=item["source"])


def find_inputs(
    input: str | Path | Sequence[str | Path],
    output_dir: str | Path,
    existing: str = "error",
    suffixes: Sequence[str] = ("_seg.nii.gz", "_function.json", "_overlay.png"),
) -> list[dict[str, str]]:
    """List the images to work on, and where their results go.

    Args:
        input: a NIfTI file; a folder of them, whose masks (_gt, _seg) are left out; a folder without any, but with the
        input: a NIfTI file; a folder of them, whose masks (_gt, _seg) are left out; a folder without any, but with the
            DICOM images of one exam in or below it, or with NIfTI files in the folders below it; a text file that
            lists one file or exam a line, relative to its own folder (``listed_paths``); or a list of these.
        output_dir: folder of the results. It mirrors the folders of the inputs, from the deepest one that holds them
            all: cohort/1/sa.nii.gz and cohort/2/sa.nii.gz give 1/sa and 2/sa.
        existing: what to do where results exist: "error" where there is any, "skip" the inputs that have them all, or
            "overwrite".
        suffixes: endings of an input's results, NAME + suffix.

    Returns:
        Dicts with image and source (the input's path) and output (the result's path, without a suffix).

    Raises:
        CineError: nothing found, a missing file, two inputs of one name, results that exist, or a folder that cannot
            be written. What is in the files is for the gate to judge, one by one: a bad one must not stop the others.
    """
    if existing not in ("error", "skip", "overwrite"):
        raise CineError("existing", repr(existing), "error, skip or overwrite", "Correct existing.")
    entries = [input] if isinstance(input, (str, Path)) else input
    if not isinstance(entries, Sequence) or not all(isinstance(entry, str | Path) and str(entry) for entry in entries):
        raise CineError("input", repr(input), "a path, or a list of them", "Check input.")
    try:
        found_images = [image for entry in entries for image in _expand(Path(entry), Path(output_dir))]
    except OSError as error:  # such as a name that is too long
        raise CineError("input", f"a path that cannot be ({error.strerror})", "a path", "Check input.") from error
    if not found_images:
        raise CineError("input", "nothing", "at least one image", "Check input.")
    images = list({os.path.abspath(image): image for image in found_images}.values())
    by_output = outputs_of(images, Path(output_dir))
    check_writable(Path(output_dir))
    present = {
        output: [suffix for suffix in _results(image, suffixes) if os.path.exists(f"{output}{suffix}")]
        for output, image in by_output.items()
    }
    begun = [f"{output}{found[0]}" for output, found in present.items() if found]
    if begun and existing == "error":
        found = f"{len(begun)} inputs with results" if len(begun) > 1 else "a result that exists"
        raise CineError(begun[0], found, "none", "Set existing to skip or overwrite, or choose another output_dir.")
    if existing == "skip":
        whole = [output for output, found in present.items() if set(suffixes) <= set(found)]
        done = [output for output in whole if not _is_newer(by_output[output], output, suffixes)]
        logger.info("%d of %d inputs skipped: their results exist", len(done), len(images))
        if len(done) < len(whole):
            logger.warning("%d inputs are newer than their results and are done again", len(whole) - len(done))
        by_output = {output: image for output, image in by_output.items() if output not in done}
    logger.info("results go to %s", output_dir)  # a folder below it may bear a patient's name
    return [{"image": str(image), "source": str(image), "output": str(output)} for output, image in by_output.items()]


def _is_newer(image: Path, output: Path, suffixes: Sequence[str]) -> bool:
    """Whether an input changed after its results were written; of a folder of DICOM images, any file of it."""
    files = [file for file in image.rglob("*") if file.is_file()] if image.is_dir() else [image]
    written = min(os.stat(f"{output}{suffix}").st_mtime for suffix in suffixes)
    return any(file.stat().st_mtime > written for file in files if file.exists())


class ResultWriter:
    """Ignite handler that writes the results of each cine once its last frame is done.

    Args:
        writers: suffix -> writer; each item of the engine's decollated batch, with its output, goes as
            ``writer(item, item["output"] + suffix)``; of items that are frames, the item of all (``FramesGathered``).
    """

    def __init__(self, writers: Mapping[str, Callable[[dict[str, Any], str], None]]):
        self.writers = dict(writers)
        self.written: list[str] = []
        self._frames = FramesGathered()

    @property
    def files(self) -> list[str]:
        """The absolute paths of all that was written, also the cines of DICOM exams."""
        named = (f"{os.path.abspath(output)}{suffix}" for output in self.written for suffix in self._suffixes)
        return [path for path in named if os.path.exists(path)]

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return (*self.writers, CINE_SUFFIX)

    def attach(self, engine: Engine) -> None:
        """Listen to the end of every iteration."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._summarise)

    def __call__(self, engine: Engine) -> None:
        # MONAI's evaluator leaves what is no tensor, such as paths, to the batch
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
    """Make the folder where there is none; CineError where it cannot be written."""
    if folder.exists() and not folder.is_dir():
        raise CineError(folder, "a file", "a folder for the results", "Name a folder, or another place.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def _expand(path: Path, output_dir: Path) -> list[Path]:
    action = "Check input."
    if path.is_dir():
        return images_of_folder(path, output_dir)
    if path.suffix.lower() == ".json":
        action = "Name the images, or a text file with one path a line; train and evaluate take datalists."
        raise CineError(path, "a JSON file, such as a datalist", "a NIfTI file, a folder or a list of paths", action)
    if not path.is_file():
        found, action = missing(path, action)
        raise CineError(path, found, "a NIfTI file, a folder or a list of paths", action)
    if is_nifti(path):
        return [path]
    if other := other_format(path):
        raise CineError(path, other[0], "a NIfTI file (.nii, .nii.gz), a folder or a list of paths", other[1])
    images = []
    for where, image in listed_paths(path):
        exam = holds_dicom(image) if image.is_dir() else is_nifti(image) and image.is_file()
        if not exam:
            other = other_format(image) if image.is_file() else None
            what, action = other or ("no NIfTI file", "Correct the list.")
            expected = "the path of a .nii or .nii.gz, or of a folder of DICOM images"
            raise CineError(where, f"{str(image)!r}, which is {what}", expected, action)
        images.append(image)
    if not images:
        raise CineError(path, "no paths", "a NIfTI file's path a line", action)
    return images


def _results(image: Path, suffixes: Sequence[str]) -> tuple[str, ...]:
    """The endings of all that is written for an input."""
    return (*suffixes, CINE_SUFFIX) if image.is_dir() else tuple(suffixes)
