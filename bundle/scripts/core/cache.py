"""The folder for files that can be made again: the user's cache, or a temporary folder of this process."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)


def cached(name: str) -> Path:
    """The path of a file in the cache, whether or not it exists: $XDG_CACHE_HOME/rtdnas or ~/.cache/rtdnas.

    Where that folder cannot be written, as in a container without a home, the path is in a temporary folder. The
    process removes that folder when it ends. The log reports it once.
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
        logger.warning(
            "The cache folder cannot be used (%s). This run uses a temporary one; set XDG_CACHE_HOME to keep it.",
            reason,
        )
    return _folder()
