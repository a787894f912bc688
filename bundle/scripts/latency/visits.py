"""Short visits spread over time, and the state in which the machine was at each of them.

A shared machine runs in slower states for seconds to minutes: neighbours fill its caches or take its frequency.
Networks do not slow alike across states, so timings of different states do not compare. A reference network takes
turns with what is timed and shows the state. Only visits in the fast state count. Within that state the speed
still drifts by several percent. The reference and the timed network change by the same factor, so each time is divided
by the reference's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.latency.timer import Timing, time_in_turn

Call = Callable[[], Any]
SLOW = 1.15
"""A visit is slow where its reference takes more than this many times its ms in the fast state."""
QUANTILE = 0.05
SECONDS, GROUPS = 0.2, 3
MIN_VISITS = 2
WARM_UP, MIN_CALLS = 1, 3


@dataclass(frozen=True, eq=False)
class Visit:
    """One visit.

    Attributes:
        times_ms: of each call.
        reference_ms: of the reference, the median over the visit.
        slowest_ms: of the reference where it was slowest, since a state may begin or end during the visit.
    """

    times_ms: np.ndarray
    reference_ms: float
    slowest_ms: float


@dataclass(frozen=True)
class Measured:
    """What visits say of a network.

    Attributes:
        fast: of its visits in the fast state, each divided by the drift of its reference; None where it had none.
        met: of all visits as they were: what a user meets in this hour.
        visits, fast_visits: how many.
        reference_ms: of the reference network in the fast state.
    """

    fast: Timing | None
    met: Timing
    visits: int
    fast_visits: int
    reference_ms: float

    @property
    def timing(self) -> Timing:
        """What the device can do: in the fast state; of all visits where it was never in it."""
        return self.fast or self.met


class Visitor:
    """Visits callables on a device, and knows what its reference takes in the fast state.

    Args:
        reference: a callable of the kind and size of what is timed.
        device: "cpu" or a CUDA device.
        known_ms: what the reference took in the fast state before, where that is known.
    """

    def __init__(self, reference: Call, device: str = "cpu", known_ms: float | None = None):
        self.reference, self.device, self.known_ms = reference, device, known_ms
        self.references_ms: list[tuple[float, float]] = []  # of each visit, the median and the slowest

    @property
    def fast_ms(self) -> float:
        """ms of the reference in the fast state.

        This is the median of the visits near the quickest ones. What was known before counts instead, unless the
        device is faster now.
        """
        seen_ms = np.array(self.references_ms)[:, 0]
        near = seen_ms <= SLOW * np.quantile(seen_ms, QUANTILE)  # a quantile, since single visits are lucky
        fast_ms = float(np.median(seen_ms[near]))
        return fast_ms if self.known_ms is None or SLOW * fast_ms < self.known_ms else self.known_ms

    def visit(self, *calls: Call, seconds: float = SECONDS) -> list[Visit]:
        """Time callables for a moment, in turn with each other; a visit of each.

        They take turns with the reference in groups of calls. The first call of a group does not count: it finds the
        other's data in the caches.
        """
        references_ms, groups_ms = [self._time([self.reference], 0.0)], []
        for _ in range(GROUPS):
            groups_ms.append(self._time(calls, seconds / GROUPS))
            references_ms.append(self._time([self.reference], 0.0))
        reference_ms = float(np.median(np.concatenate(references_ms)))
        slowest_ms = float(max(map(np.median, references_ms)))
        self.references_ms.append((reference_ms, slowest_ms))
        return [Visit(of_one, reference_ms, slowest_ms) for of_one in np.concatenate(groups_ms).T]

    @property
    def overhead_s(self) -> float:
        """Seconds that the reference takes during a visit."""
        return (GROUPS + 1) * (WARM_UP + MIN_CALLS) * self.fast_ms / 1000

    def _time(self, calls: Sequence[Call], seconds: float) -> np.ndarray:
        return time_in_turn(calls, self.device, seconds, WARM_UP, MIN_CALLS)

    def visit_in_rounds(
        self,
        calls: Sequence[tuple[Call, list[Visit]]],
        end: float,
        enough: int,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Visit callables round after round, until each has enough fast visits or the time is up.

        Args:
            calls: each with its visits so far, to which new ones are added.
            end: on the clock of ``time.perf_counter``; ``MIN_VISITS`` each are made even after it.
            enough: fast visits of a callable after which it needs no more.
            tick: called after each visit.
        """

        def lacks(visits: list[Visit]) -> bool:
            has_time = time.perf_counter() < end and sum(map(self.is_fast, visits)) < enough
            return len(visits) < MIN_VISITS or has_time

        while lacking := [pair for pair in calls if lacks(pair[1])]:
            for call, visits in lacking:
                if lacks(visits):
                    visits += self.visit(call)
                    tick()

    def is_fast(self, visit: Visit) -> bool:
        return visit.slowest_ms <= SLOW * self.fast_ms

    def summarise(self, visits: Sequence[Visit]) -> Measured:
        """What the visits of one network say."""
        fast_ms = self.fast_ms
        fast = [visit.times_ms * (fast_ms / visit.reference_ms) for visit in visits if self.is_fast(visit)]
        met = Timing.of(np.concatenate([visit.times_ms for visit in visits]))
        return Measured(Timing.of(np.concatenate(fast)) if fast else None, met, len(visits), len(fast), fast_ms)

    def states(self) -> dict[str, float]:
        """The states that the device was in.

        Returns:
            reference_ms: of the reference network in the fast state.
            fast_share: of the visits.
            slowdown: how many times as long the reference took in slower states; 1 where there were none.
        """
        ratios = np.array(self.references_ms)[:, 1] / self.fast_ms
        slow = ratios[ratios > SLOW]
        return {
            "reference_ms": self.fast_ms,
            "fast_share": float(np.mean(ratios <= SLOW)),
            "slowdown": float(np.median(slow)) if len(slow) else 1.0,
        }
