"""The bundle as one zip, as MONAI's model zoo hosts bundles: the same bytes from every checkout of the same files.

``python -m release.pack FOLDER`` writes ``FOLDER/cardiac_cine_mri_rtdnas_segmentation_v<version>.zip``.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

from scripts import BUNDLE_ROOT
from scripts.core import manifest
from scripts.core.errors import CineError
from scripts.core.files import replacing
from scripts.run.start import report

NAME = "cardiac_cine_mri_rtdnas_segmentation"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip can hold
_PLAIN_FILE = 0o100644 << 16


def pack(folder: str | Path, bundle: Path = BUNDLE_ROOT) -> Path:
    """Write the zip into ``folder`` and return its path.

    Its one top folder is called NAME without the version: there MONAI's ``download`` and ``load`` look for it. It holds
    every file of the bundle but caches and hidden ones.

    Args:
        folder: made where it is missing; a zip of that version in it is replaced.
        bundle: the bundle's root.

    Raises:
        CineError: a link, whose target the zip would not hold; models that are not those of their manifest.
    """
    _check_models(bundle / "models")
    version = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    path = Path(folder) / f"{NAME}_v{version}.zip"
    # stored: compressed bytes differ from one build of zlib to another, and weights hardly shrink
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for file in files_of(bundle):
            entry = zipfile.ZipInfo(f"{NAME}/{file.relative_to(bundle).as_posix()}", _EARLIEST)
            entry.create_system, entry.external_attr = 3, _PLAIN_FILE  # Unix, wherever it is packed
            archive.writestr(entry, file.read_bytes())
    return path


def files_of(bundle: Path) -> list[Path]:
    """What is packed of a bundle, in an order that no locale changes; CineError where a link is among it."""
    files = []
    for path in sorted(bundle.rglob("*"), key=lambda path: path.relative_to(bundle).as_posix()):
        if any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(bundle).parts):
            continue
        if path.is_symlink():
            raise CineError(path, "a link", "files and folders", "Put what it leads to in its place.")
        if path.is_file():
            files.append(path)
    return files


def _check_models(models: Path) -> None:
    """A model leaves with its manifest or not at all."""
    if any((models / name).exists() for name in manifest.MODEL_FILES) and not (models / manifest.NAME).exists():
        raise CineError(models / manifest.NAME, "no such file", "the manifest of the models", "Run make manifest.")
    manifest.verify(models)


if __name__ == "__main__":
    sys.excepthook = report
    sys.stdout.write(f"{pack(sys.argv[1])}\n")
