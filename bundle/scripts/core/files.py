"""Files: replace them as a whole or not at all, hash them, find them, and explain why one is missing."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.core.errors import CineError

logger = logging.getLogger(__name__)
PARTIAL = ".partial-"
"""How the names of files begin while they are being written."""
# the errors that a disk or a folder can raise when a program writes to it
_REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST),
}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` that replaces it once the block ends without an error.

    The temporary name keeps the last suffixes of ``path``, since writers choose the format by suffix. Readers see
    either the old file or the new one, never half of one. This also holds after a crash, since the data are synced
    before the file is renamed.

    Raises:
        CineError: the disk is full or the folder cannot be written; an earlier file at ``path`` stays as it was.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL, suffix="".join(path.suffixes[-2:]))
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp sets 0600, which would hide results from the group
            _sync(temporary)
            os.replace(temporary, path)
            with suppress(OSError):  # Windows and some network folders cannot sync a folder; the file is intact anyway
                _sync(path.parent, os.O_RDONLY)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn the errors of a disk or a folder while ``path`` is written into a CineError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        found = f"a path that cannot be written ({error.strerror})"
        expected = "a folder with free space and permission to write"
        raise CineError(path, found, expected, "Free space or choose another folder; no data were lost.") from error


def _sync(path: Path, flags: int = os.O_RDWR) -> None:
    descriptor = os.open(path, flags)  # Windows syncs only files that are open for writing
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def missing(path: str | Path, action: str) -> tuple[str, str]:
    """What was found, and what to do, where a path has no file: DVC and git-annex leave links that lead nowhere."""
    if Path(path).is_symlink():
        return (
            "a link that leads nowhere",
            "Fetch the file that it links to (dvc pull, git annex get), or copy the file itself.",
        )
    return "no such file", action


def first_existing(paths: Sequence[str]) -> str:
    """The first of some paths that exists; CineError if none exists."""
    for path in paths:
        if Path(path).exists():
            _log_fallback(path, paths[0])
            return path
    raise CineError(" or ".join(paths), "no such file", "one of them", "Run the step that writes it: search, or train.")


def _log_fallback(found: str, wanted: str) -> None:
    if found != wanted:
        logger.info("Using %s, since %s does not exist", found, wanted)


def model_folder(folders: Sequence[str]) -> str:
    """The first folder with a trained network, ``model.pt``; else CineError."""
    for folder in folders:
        if (Path(folder) / "model.pt").exists():
            _log_fallback(f"{folder}/model.pt", f"{folders[0]}/model.pt")
            return folder
        if (Path(folder) / "model.pt").is_symlink():
            found, action = missing(Path(folder) / "model.pt", "")
            raise CineError(Path(folder) / "model.pt", found, "a trained network", action)
    raise CineError(
        " or ".join(folders),
        "no model.pt",
        "a trained network",
        "Run the steps search and train with this work_dir, or name the work_dir of an earlier training.",
    )
