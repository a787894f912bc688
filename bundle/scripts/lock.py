"""One run a work_dir: a second one would overwrite the checkpoints of the first."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from scripts.files import CineError, writing

_HELD: dict[Path, IO[str]] = {}  # an open file keeps its lock; the system frees it however the process ends


def hold(work_dir: str | Path, step: str) -> None:
    """Hold ``work_dir`` until this process ends.

    Raises:
        CineError: another process holds it, and is named; or the folder cannot be written.
    """
    path = (Path(work_dir) / ".lock").resolve()
    if path in _HELD:
        return
    with writing(work_dir):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with handle:
            handle.seek(0)
            holder = handle.read().strip() or "one that is just starting"
        raise CineError(
            work_dir,
            f"another run in it: {holder}",
            "one run at a time",
            "Wait for its end, stop it, or choose another work_dir.",
        ) from None
    handle.truncate(0)
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    handle.write(f"{step}, process {os.getpid()} on {socket.gethostname()}, since {now}\n")
    handle.flush()
    _HELD[path] = handle
    atexit.register(_leave, path)


def _leave(path: Path) -> None:
    """Leave no folder behind that only holds its lock: a mistyped work_dir."""
    with contextlib.suppress(OSError):
        if [file.name for file in path.parent.iterdir()] == [path.name]:
            path.unlink()
            path.parent.rmdir()
