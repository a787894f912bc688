"""Where what can be made again is kept: the user's cache, or a folder that goes with the process."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)


def cached(name: str) -> Path:
    """Where something of the cache is, or can be written: in $XDG_CACHE_HOME/rtdnas or ~/.cache/rtdnas.

    Where that cannot be written, as in a container without a home, it is a folder that this process removes at its end;
    the log says so once.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rtdnas"
        if not (folder / name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except (OSError, RuntimeError) as error:  # an unknown user has no home
        folder = _temporary(str(error))
    return folder / name


@functools.cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="rtdnas-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _temporary(reason: str) -> Path:
    if not _folder.cache_info().currsize:
        logger.warning("No cache can be kept here (%s): a temporary one serves this run. Set XDG_CACHE_HOME.", reason)
    return _folder()
