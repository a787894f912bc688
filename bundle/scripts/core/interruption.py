"""Turn Ctrl-C and SIGTERM into a request that a long run serves between two steps."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


def interrupted(path: str | Path) -> str:
    """The message of a run that was interrupted after it saved its state."""
    return f"The state is saved in {path}. The same command continues from there."


class Interruption:
    """Context manager: the first signal only sets ``wanted``; a second one interrupts at once.

    Only the main thread gets signals. In another thread ``wanted`` stays false.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        self.wanted = False
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        self.__exit__()
        logger.warning("Interrupted: this step is finished and saved first. Interrupt again to stop at once.")
