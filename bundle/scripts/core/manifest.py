"""SHA256SUMS of a folder of models: written by who ships it, verified before anything in the folder is opened.

The format is that of ``sha256sum``, so that anyone can check it without this code:
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
ACTION = "Fetch the folder anew; where you changed it yourself, delete or rewrite its SHA256SUMS."
_LINE = re.compile(r"([0-9a-f]{64})  ([\w-][\w.-]*)")
_MAX_LINES = 1000


def write(folder: str | Path, names: Collection[str] | None = None) -> Path:
    """List the files of a folder (hidden ones and folders apart) in its manifest, and return that.

    Args:
        folder: of models.
        names: where given, other files are left out.

    Raises:
        CineError: there is none of a model's files, or a name that the format does not hold.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.glob("[!.]*") if path.is_file() and path.name != NAME)
    files = [path for path in files if names is None or path.name in names]
    if not {path.name for path in files} & set(MODEL_FILES):
        raise CineError(folder, "no model", f"a folder with {', '.join(MODEL_FILES)}", "Name the folder of a model.")
    lines = [f"{sha256(path)}  {path.name}" for path in files]
    for line, path in zip(lines, files, strict=True):
        if not _LINE.fullmatch(line):
            raise CineError(path, "a name that the manifest cannot hold", "letters, digits, . _ -", "Rename the file.")
    with replacing(folder / NAME) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / NAME


def renew(folder: str | Path) -> None:
    """Where a folder has a manifest, list its models anew, once a training put its own in their place."""
    folder = Path(folder)
    if (folder / NAME).exists():
        write(folder, {*_read(folder / NAME), *MODEL_FILES})


def verify(folder: str | Path) -> None:
    """Hold a folder's files against its manifest; a folder without one, such as a work_dir, passes.

    Raises:
        CineError: a listed file is missing or another than listed; a model's file is not listed; the bundle's own
            ``models`` has none. Links count as what they lead to: stores of blobs consist of them.
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
        raise CineError(folder / unlisted[0], f"a file that {NAME} does not list", "no model file beyond it", ACTION)


def _read(path: Path) -> dict[str, str]:
    """Name -> SHA-256."""
    if not path.is_file():
        raise CineError(path, "no plain file", "a manifest", ACTION)
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(_MAX_LINES * 320).splitlines()
    matches = [_LINE.fullmatch(line) for line in lines]
    listed = {match[2]: match[1] for match in matches if match}
    if not 0 < len(lines) == len(listed) <= _MAX_LINES:
        raise CineError(path, "lines that do not fit", "'<64 digits>  <file name>' a line, each file once", ACTION)
    return listed
