"""Only one run at a time in a work_dir: a second one would overwrite the checkpoints of the first."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from scripts.core.errors import CineError
from scripts.core.files import writing

LOCK, HOLDER = ".lock", ".holder"
"""The locked file, and the file that names the process: on Windows no other process can read a locked file."""
_HELD: dict[Path, FileLock] = {}  # the system frees a lock when its process ends, even after a crash


def hold(work_dir: str | Path, step: str) -> None:
    """Lock ``work_dir`` until ``release`` is called or this process ends.

    Raises:
        CineError: another process has locked it, which the message names; or the folder cannot be written.
    """
    folder = Path(work_dir).resolve()
    if folder in _HELD:
        return
    with writing(work_dir):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            holder = "it is just starting"
            with contextlib.suppress(OSError):
                holder = (folder / HOLDER).read_text(encoding="utf-8").strip()
            raise CineError(
                work_dir,
                f"another run in this folder: {holder}",
                "only one run at a time",
                "Wait until it ends, stop it, or choose another work_dir.",
            ) from None
        _HELD[folder] = lock
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        text = f"{step}, process {os.getpid()} on {socket.gethostname()}, since {now}\n"
        (folder / HOLDER).write_text(text, encoding="utf-8")
    atexit.register(release, folder)


def release(work_dir: str | Path) -> None:
    """Unlock a folder that this process has locked, and remove the folder if it contains only the lock.

    Such an empty folder comes from a mistyped work_dir.
    """
    folder = Path(work_dir).resolve()
    lock = _HELD.pop(folder, None)
    if lock is None:
        return
    with contextlib.suppress(OSError):
        (folder / HOLDER).unlink()
        if [file.name for file in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()
    lock.release()
