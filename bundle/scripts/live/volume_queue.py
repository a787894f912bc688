"""The bounded queue between a source of volumes and the segmenter, and a source that replays a cine."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scripts.core.errors import CineError

Late = Literal["newest", "wait"]


@dataclass(frozen=True, eq=False)
class Arrival:
    """A volume H W D, its number in the stream (from 0), and when it arrived (s, of time.perf_counter).

    The arrival is None for a source that waits for the segmenter: its volumes arrive when they are taken. ``source`` is
    what the source needs to answer, if it wants an answer.
    """

    number: int
    volume_HWD: Any
    at: float | None
    source: Any = None


class VolumeQueue:
    """A thread-safe queue: a source puts volumes in, the segmenter takes them out.

    Args:
        size: the maximum number of waiting volumes.
        late: what to do when it is full. "newest": drop the oldest waiting volume, so that the segmenter always works
            on the newest; "wait": the source waits, and nothing is dropped.

    Attributes:
        dropped: the number of volumes that were dropped; only a number, since a stream may run for days.
    """

    def __init__(self, size: int = 1, late: Late = "newest"):
        if late not in ("newest", "wait"):
            raise CineError("late", repr(late), "newest or wait", "Change the key.")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise CineError("queue_size", repr(size), "a whole number of at least 1", "Change the key.")
        self.size, self.late = size, late
        self.dropped = 0
        self._waiting: deque[Arrival] = deque()
        self._closed = self._working = False
        self._changed = threading.Condition()

    def put(self, arrival: Arrival) -> None:
        """Add a volume; blocks only if late volumes wait. After ``close`` it does nothing."""
        with self._changed:
            if self.late == "wait":
                self._changed.wait_for(lambda: len(self._waiting) < self.size or self._closed)
            if self._closed:
                return
            if len(self._waiting) >= self.size:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(arrival)
            self._changed.notify_all()

    def get(self) -> Arrival | None:
        """The oldest waiting volume, or None if the source has closed and no volume waits."""
        with self._changed:
            self._working = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._closed)
            arrival = self._waiting.popleft() if self._waiting else None
            self._working = arrival is not None
            self._changed.notify_all()
            return arrival

    def wait_until_idle(self) -> None:
        """Block until no volume waits and the last one that was taken is done: its taker asks for another."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not (self._waiting or self._working))

    def close(self) -> None:
        """Mark the end: no more volumes come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Replay(threading.Thread):
    """Puts the frames of a cine into an inbox at a scanner's rate, repeatedly.

    Args:
        inbox: receives the frames; closed at the end.
        frames_THWD: the cine.
        volumes: the number of volumes; None: limited by time.
        per_second: the rate; None: as fast as the inbox takes them.
        seconds: the maximum time.
    """

    def __init__(
        self,
        inbox: VolumeQueue,
        frames_THWD: np.ndarray,
        volumes: int | None,
        per_second: float | None,
        seconds: float | None = None,
    ):
        super().__init__(daemon=True)
        self.inbox, self.frames_THWD, self.volumes, self.per_second = inbox, frames_THWD, volumes, per_second
        self.seconds = seconds

    def run(self) -> None:
        start = time.perf_counter()
        for number in itertools.count() if self.volumes is None else range(self.volumes):
            if self.volumes is None and time.perf_counter() - start >= (self.seconds or 0):
                break
            at = None
            if self.per_second is not None:
                at = start + number / self.per_second  # the nominal time, since this thread may wake later
                time.sleep(max(0.0, at - time.perf_counter()))
            self.inbox.put(Arrival(number, self.frames_THWD[number % len(self.frames_THWD)], at))
        self.inbox.close()
