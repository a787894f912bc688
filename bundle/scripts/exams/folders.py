"""Folders of images: which images they hold, and where the results of each go."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from scripts.cine.formats import is_nifti, other_format, stem
from scripts.core.errors import CineError
from scripts.dicom.files import dicom_files, holds_dicom

logger = logging.getLogger(__name__)


def outputs_of(images: Sequence[Path], output_dir: Path) -> dict[Path, Path]:
    """Result, without a suffix -> its image. Folders below the deepest one that holds all images are mirrored.

    Raises:
        CineError: two images whose results would have one name.
    """
    folders = [Path(os.path.abspath(image)).parent for image in images]
    root = Path(os.path.commonpath(folders))
    by_output: dict[Path, Path] = {}
    for image, folder in zip(images, folders, strict=True):
        output = output_dir / folder.relative_to(root) / _stem(image)
        if output in by_output:
            found = f"{by_output[output]} and {image}, whose results have one name"
            raise CineError("input", found, "inputs of different names in a folder", "Rename one of them.")
        by_output[output] = image
    return by_output


def images_of_folder(folder: Path, output_dir: Path) -> list[Path]:
    """The images in a folder; where there are none, the folder as an exam in DICOM, else the images below it.

    Args:
        folder: it and what it holds.
        output_dir: results in it, or below it, are no images.

    Raises:
        CineError: the folder cannot be listed, or holds no image.
    """
    try:
        images = sorted(entry for entry in folder.iterdir() if _is_image(entry))
    except OSError as error:
        found = f"a folder that cannot be listed ({error.strerror})"
        raise CineError(folder, found, "a folder that can be read", "Check input.") from None
    below = [entry for entry in _files_below(folder, output_dir) if _is_image(entry)]
    if images:
        _warn_of_dicom(folder)
        if below:
            logger.warning("%d images in folders below are left out: name these folders too", len(below))
        return images
    if holds_dicom(folder):
        return [folder]
    if not below:
        others = (other_format(entry) for entry in sorted(folder.iterdir()) if entry.is_file())
        what, action = next(filter(None, others), (None, "Check input."))
        masks = [entry for entry in folder.iterdir() if is_nifti(entry)]
        what = "only label maps (NAME_gt, NAME_seg)" if masks else what
        found = f"no NIfTI image, but {what}" if what else "no NIfTI image"
        raise CineError(folder, found, "at least one .nii or .nii.gz, or DICOM images", action)
    return below


def _files_below(folder: Path, output_dir: Path) -> list[Path]:
    """The files in folders below a folder, also behind links; none in results that have a folder of their own."""
    results = os.path.realpath(output_dir)
    visited, files = {os.path.realpath(folder), *([] if results == os.path.realpath(folder) else [results])}, []
    for place, folders, names in os.walk(folder, followlinks=True):
        known = [(name, os.path.realpath(os.path.join(place, name))) for name in sorted(folders)]
        folders[:] = [name for name, real in known if real not in visited]  # each once: links may lead in a circle
        visited.update(real for _, real in known)
        if Path(place) != folder:
            files += [Path(place) / name for name in sorted(names)]
    return files


def _is_image(entry: Path) -> bool:
    named = is_nifti(entry) and not entry.name.startswith(".")
    return named and not stem(entry).lower().endswith(("_gt", "_seg")) and not entry.is_dir()


def _warn_of_dicom(folder: Path) -> None:
    """A folder of NIfTI images, such as a converter leaves them among the DICOM files that it read."""
    try:
        files, _ = dicom_files(folder)
    except CineError:  # what cannot be read is no matter of the images
        return
    if files:
        logger.warning("%d DICOM files are left out, since their folder holds NIfTI images", len(files))


def _stem(path: Path) -> str:
    """The file's name without .nii or .nii.gz; the folder's."""
    return Path(os.path.abspath(path)).name if path.is_dir() else stem(path)
