"""Ctrl-C and SIGTERM as a wish that a long run grants between two steps."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


def interrupted(path: str | Path) -> str:
    """What to say when a run ends by an interruption that it has saved."""
    return f"Saved in {path}. The same command goes on from there."


class Interruption:
    """Context manager under which the first signal only sets ``wanted``; a second one interrupts at once.

    Outside of the main thread, which alone gets signals, nothing is ever wanted.
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
        logger.warning("Interrupted: this step is finished and saved first; once more to stop at once")
