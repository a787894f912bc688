"""Log lines about a peer that cannot fill the disk: at most one a second, with the number of those left out."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)
PAUSE_S = 1.0


class Complaints:
    """Warns about what a peer does wrong, and counts it. Use it from one thread."""

    def __init__(self) -> None:
        self.count = 0
        self._left_out = 0
        self._last_s = float("-inf")

    def __call__(self, text: str) -> None:
        """Log a warning, or only count it if the last one is less than ``PAUSE_S`` ago."""
        self.count += 1
        now_s = time.perf_counter()
        if now_s - self._last_s < PAUSE_S:
            self._left_out += 1
            return
        logger.warning("%s%s", text, f" ({self._left_out} lines left out)" if self._left_out else "")
        self._left_out, self._last_s = 0, now_s
