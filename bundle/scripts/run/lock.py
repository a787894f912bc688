"""One run a work_dir: a second one would overwrite the checkpoints of the first."""

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
"""The file that is locked, and the one that says by whom: Windows lets nobody else read a locked file."""
_HELD: dict[Path, FileLock] = {}  # the system frees a lock however its process ends


def hold(work_dir: str | Path, step: str) -> None:
    """Hold ``work_dir`` until ``release``, or until this process ends.

    Raises:
        CineError: another process holds it, and is named; or the folder cannot be written.
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
            holder = "one that is just starting"
            with contextlib.suppress(OSError):
                holder = (folder / HOLDER).read_text(encoding="utf-8").strip()
            raise CineError(
                work_dir,
                f"another run in it: {holder}",
                "one run at a time",
                "Wait for its end, stop it, or choose another work_dir.",
            ) from None
        _HELD[folder] = lock
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        text = f"{step}, process {os.getpid()} on {socket.gethostname()}, since {now}\n"
        (folder / HOLDER).write_text(text, encoding="utf-8")
    atexit.register(release, folder)


def release(work_dir: str | Path) -> None:
    """Let others run in a folder, where this process holds it; a folder with nothing but its lock goes with it.

    Such a folder is a mistyped work_dir.
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
