"""Pack the bundle as one zip for MONAI's model zoo: the same files always give the same bytes.

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
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest date in a zip
_PLAIN_FILE = 0o100644 << 16


def pack(folder: str | Path, bundle: Path = BUNDLE_ROOT) -> Path:
    """Write the zip into ``folder`` and return its path.

    Its only top folder is NAME without the version, where MONAI's ``download`` and ``load`` look for it. It contains
    every file of the bundle except caches and hidden files.

    Args:
        folder: created if it is missing; an existing zip of that version is replaced.
        bundle: the bundle's root.

    Raises:
        CineError: there is a link, whose target would not be in the zip; or models differ from their manifest.
    """
    _check_models(bundle / "models")
    version = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    path = Path(folder) / f"{NAME}_v{version}.zip"
    # stored: compressed bytes depend on the build of zlib, and weights hardly shrink
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for file in files_of(bundle):
            entry = zipfile.ZipInfo(f"{NAME}/{file.relative_to(bundle).as_posix()}", _EARLIEST)
            entry.create_system, entry.external_attr = 3, _PLAIN_FILE  # marked as Unix on every system
            archive.writestr(entry, file.read_bytes())
    return path


def files_of(bundle: Path) -> list[Path]:
    """The files of a bundle to pack, in an order that does not depend on the locale; CineError if one is a link."""
    files = []
    for path in sorted(bundle.rglob("*"), key=lambda path: path.relative_to(bundle).as_posix()):
        if any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(bundle).parts):
            continue
        if path.is_symlink():
            raise CineError(path, "a link", "files and folders", "Replace it by the file that it leads to.")
        if path.is_file():
            files.append(path)
    return files


def _check_models(models: Path) -> None:
    """Refuse to pack models without their manifest, or that differ from it."""
    if any((models / name).exists() for name in manifest.MODEL_FILES) and not (models / manifest.NAME).exists():
        raise CineError(models / manifest.NAME, "no such file", "the manifest of the models", "Run make manifest.")
    manifest.verify(models)


if __name__ == "__main__":
    sys.excepthook = report
    sys.stdout.write(f"{pack(sys.argv[1])}\n")
