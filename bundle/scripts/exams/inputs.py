"""The inputs of a step: the images, and where their results go."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from scripts.cine.formats import is_nifti, other_format
from scripts.cine.writer import CINE_SUFFIX, check_writable
from scripts.core.errors import CineError
from scripts.core.files import missing
from scripts.core.text_files import listed_paths
from scripts.dicom.files import holds_dicom
from scripts.exams.folders import images_of_folder, outputs_of

logger = logging.getLogger(__name__)


def find_inputs(
    input: str | Path | Sequence[str | Path],
    output_dir: str | Path,
    existing: str = "error",
    suffixes: Sequence[str] = ("_seg.nii.gz", "_function.json", "_overlay.png"),
) -> list[dict[str, str]]:
    """List the images to process, and where their results go.

    Args:
        input: a NIfTI file, or a folder of NIfTI files, without masks (_gt, _seg). Or a folder without NIfTI files, but
            with the DICOM images of one exam in or below it, or with NIfTI files in its subfolders. Or a text file that
            lists one file or exam per line, relative to its own folder (``listed_paths``). Or a list of these.
        output_dir: the folder of the results. It mirrors the folders of the inputs below their common folder:
            cohort/1/sa.nii.gz and cohort/2/sa.nii.gz give 1/sa and 2/sa.
        existing: what to do with existing results: "error" if there are any, "skip" inputs that have all their results,
            or "overwrite".
        suffixes: endings of an input's results, NAME + suffix.

    Returns:
        Dicts with image and source (the input's path) and output (the result's path, without a suffix).

    Raises:
        CineError: nothing was found, a file is missing, two inputs have the same name, results exist, or a folder
            cannot be written. The content of files is checked later, file by file, so that a bad one does not stop the
            others.
    """
    if existing not in ("error", "skip", "overwrite"):
        raise CineError("existing", repr(existing), "error, skip or overwrite", "Correct existing.")
    entries = [input] if isinstance(input, (str, Path)) else input
    if not isinstance(entries, Sequence) or not all(isinstance(entry, str | Path) and str(entry) for entry in entries):
        raise CineError("input", repr(input), "a path, or a list of them", "Check input.")
    try:
        found_images = [image for entry in entries for image in _expand(Path(entry), Path(output_dir))]
    except OSError as error:  # such as a name that is too long
        raise CineError("input", f"an impossible path ({error.strerror})", "a path", "Check input.") from error
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
        found = f"{len(begun)} inputs with results" if len(begun) > 1 else "an existing result"
        raise CineError(begun[0], found, "none", "Set existing to skip or overwrite, or choose another output_dir.")
    if existing == "skip":
        whole = [output for output, found in present.items() if set(suffixes) <= set(found)]
        done = [output for output in whole if not _is_newer(by_output[output], output, suffixes)]
        logger.info("%d of %d inputs skipped: their results exist", len(done), len(images))
        if len(done) < len(whole):
            logger.warning("%d inputs are newer than their results and are processed again", len(whole) - len(done))
        by_output = {output: image for output, image in by_output.items() if output not in done}
    logger.info("results go to %s", output_dir)  # a subfolder may have a patient's name
    return [{"image": str(image), "source": str(image), "output": str(output)} for output, image in by_output.items()]


def _is_newer(image: Path, output: Path, suffixes: Sequence[str]) -> bool:
    """Whether an input (for a DICOM folder, any of its files) changed after its results were written."""
    files = [file for file in image.rglob("*") if file.is_file()] if image.is_dir() else [image]
    written = min(os.stat(f"{output}{suffix}").st_mtime for suffix in suffixes)
    return any(file.stat().st_mtime > written for file in files if file.exists())


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
        raise CineError(path, "no paths", "one path of a NIfTI file per line", action)
    return images


def _results(image: Path, suffixes: Sequence[str]) -> tuple[str, ...]:
    """The endings of all files that are written for an input."""
    return (*suffixes, CINE_SUFFIX) if image.is_dir() else tuple(suffixes)
