"""SHA256SUMS of a folder of models: written by its publisher, and verified before any file in the folder is opened.

The format is that of ``sha256sum``, so that anyone can check it without this code.
``python -m scripts.core.manifest FOLDER`` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from scripts import BUNDLE_ROOT
from scripts.core.errors import CineError
from scripts.core.files import missing, replacing, sha256

NAME = "SHA256SUMS"
SHIPPED = BUNDLE_ROOT / "models"
MODEL_FILES = ("architecture.json", "model.json", "model.pt")
ACTION = "Fetch the folder again. If you changed it yourself, delete or rewrite its SHA256SUMS."
_LINE = re.compile(r"([0-9a-f]{64})  ([\w-][\w.-]*)")
_MAX_LINES = 1000


def write(folder: str | Path, names: Collection[str] | None = None) -> Path:
    """List the files of a folder in its manifest, without hidden files and subfolders, and return the manifest's path.

    Args:
        folder: a folder of models.
        names: only these files are listed, if given.

    Raises:
        CineError: the folder has none of a model's files, or the format does not allow the name of a file.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.glob("[!.]*") if path.is_file() and path.name != NAME)
    files = [path for path in files if names is None or path.name in names]
    if not {path.name for path in files} & set(MODEL_FILES):
        raise CineError(folder, "no model", f"a folder with {', '.join(MODEL_FILES)}", "Name the folder of a model.")
    lines = [f"{sha256(path)}  {path.name}" for path in files]
    for line, path in zip(lines, files, strict=True):
        if not _LINE.fullmatch(line):
            raise CineError(
                path, "a name that the manifest does not allow", "letters, digits, . _ -", "Rename the file."
            )
    with replacing(folder / NAME) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / NAME


def renew(folder: str | Path) -> None:
    """Update the manifest of a folder, if it has one, after a training replaced the models in it."""
    folder = Path(folder)
    if (folder / NAME).exists():
        write(folder, {*_read(folder / NAME), *MODEL_FILES})


def verify(folder: str | Path) -> None:
    """Compare a folder's files with its manifest; a folder without one, such as a work_dir, passes.

    A link counts as the file that it leads to, since some stores consist of links.

    Raises:
        CineError: a listed file is missing or was changed; a model's file is not listed; or the bundle's own ``models``
            has no manifest.
    """
    folder = Path(folder)
    present = [name for name in MODEL_FILES if (folder / name).exists()]
    if not (folder / NAME).exists():
        if present and folder.resolve() == SHIPPED.resolve():
            raise CineError(folder / NAME, "no such file", "the manifest of the models that are shipped", ACTION)
        return
    listed = _read(folder / NAME)
    for name, digest in listed.items():
        path = folder / name
        if not path.is_file():
            found, action = missing(path, ACTION)
            raise CineError(path, found, f"the file that {NAME} lists", action)
        found = sha256(path)
        if found != digest:
            raise CineError(path, f"SHA-256 {found[:12]}...", f"{digest[:12]}..., as {NAME} lists", ACTION)
    unlisted = [name for name in present if name not in listed]
    if unlisted:
        raise CineError(
            folder / unlisted[0], f"a file that {NAME} does not list", "only model files that it lists", ACTION
        )


def _read(path: Path) -> dict[str, str]:
    """Name -> SHA-256."""
    if not path.is_file():
        raise CineError(path, "a folder, a pipe or a device", "a manifest", ACTION)
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(_MAX_LINES * 320).splitlines()
    matches = [_LINE.fullmatch(line) for line in lines]
    listed = {match[2]: match[1] for match in matches if match}
    if not 0 < len(lines) == len(listed) <= _MAX_LINES:
        raise CineError(
            path, "lines in another format", "one '<64 digits>  <file name>' per line, each file once", ACTION
        )
    return listed
