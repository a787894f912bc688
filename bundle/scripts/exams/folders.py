"""Folders of images: which images they contain, and where the results of each image go."""

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
    """Result, without a suffix -> its image. Subfolders of the deepest folder above all images are mirrored.

    Raises:
        CineError: the results of two images would have the same name.
    """
    folders = [Path(os.path.abspath(image)).parent for image in images]
    root = Path(os.path.commonpath(folders))
    by_output: dict[Path, Path] = {}
    for image, folder in zip(images, folders, strict=True):
        output = output_dir / folder.relative_to(root) / _stem(image)
        if output in by_output:
            found = f"{by_output[output]} and {image}, whose results have the same name"
            raise CineError("input", found, "inputs of different names in a folder", "Rename one of them.")
        by_output[output] = image
    return by_output


def images_of_folder(folder: Path, output_dir: Path) -> list[Path]:
    """The images in a folder; if there are none, the folder as a DICOM exam, or else the images in its subfolders.

    Args:
        folder: the folder.
        output_dir: files in it or below it are results, not images.

    Raises:
        CineError: the folder cannot be listed, or it contains no image.
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
            logger.warning("%d images in subfolders are ignored: add these folders to the input", len(below))
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
    """The files in the subfolders of a folder, also behind links, except in folders of results."""
    results = os.path.realpath(output_dir)
    visited, files = {os.path.realpath(folder), *([] if results == os.path.realpath(folder) else [results])}, []
    for place, folders, names in os.walk(folder, followlinks=True):
        known = [(name, os.path.realpath(os.path.join(place, name))) for name in sorted(folders)]
        folders[:] = [
            name for name, real in known if real not in visited
        ]  # each folder once, since links may form a circle
        visited.update(real for _, real in known)
        if Path(place) != folder:
            files += [Path(place) / name for name in sorted(names)]
    return files


def _is_image(entry: Path) -> bool:
    named = is_nifti(entry) and not entry.name.startswith(".")
    return named and not stem(entry).lower().endswith(("_gt", "_seg")) and not entry.is_dir()


def _warn_of_dicom(folder: Path) -> None:
    """Warn about a folder of NIfTI images that also contains DICOM files, as converters may leave it."""
    try:
        files, _ = dicom_files(folder)
    except CineError:  # unreadable files do not concern the images
        return
    if files:
        logger.warning("%d DICOM files are ignored, since their folder contains NIfTI images", len(files))


def _stem(path: Path) -> str:
    """A file's name without .nii or .nii.gz, or a folder's name."""
    return Path(os.path.abspath(path)).name if path.is_dir() else stem(path)
