"""Short visits that are spread over time, and the state of the machine at each visit.

A shared machine is in slower states for seconds to minutes, when neighbours fill its caches or lower its frequency.
Networks do not all slow down by the same factor, so timings from different states cannot be compared. A reference
network is timed in turn with the others and shows the state. Only visits in the fast state count. Within that state the
speed still drifts by several percent. The reference and the timed network change by the same factor, so each time is
divided by the reference's drift.
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
"""A visit is slow if its reference takes more than this many times its latency in the fast state."""
QUANTILE = 0.05
SECONDS, GROUPS = 0.2, 3
MIN_VISITS = 2
WARM_UP, MIN_CALLS = 1, 3


@dataclass(frozen=True, eq=False)
class Visit:
    """One visit.

    Attributes:
        times_ms: the time of each call.
        reference_ms: the median time of the reference during the visit.
        slowest_ms: the slowest time of the reference, since a state may begin or end during the visit.
    """

    times_ms: np.ndarray
    reference_ms: float
    slowest_ms: float


@dataclass(frozen=True)
class Measured:
    """The timings of a network from its visits.

    Attributes:
        fast: from visits in the fast state, each divided by the drift of its reference; None if there are none.
        met: from all visits, uncorrected: what a user experiences in this hour.
        visits, fast_visits: the number of visits.
        reference_ms: the latency of the reference network in the fast state.
    """

    fast: Timing | None
    met: Timing
    visits: int
    fast_visits: int
    reference_ms: float

    @property
    def timing(self) -> Timing:
        """The timing in the fast state; if the device was never in it, the timing of all visits."""
        return self.fast or self.met


class Visitor:
    """Visits callables on a device, and knows the latency of its reference in the fast state.

    Args:
        reference: a callable of similar kind and size as the timed ones.
        device: "cpu" or a CUDA device.
        known_ms: the earlier latency of the reference in the fast state, if known.
    """

    def __init__(self, reference: Call, device: str = "cpu", known_ms: float | None = None):
        self.reference, self.device, self.known_ms = reference, device, known_ms
        self.references_ms: list[tuple[float, float]] = []  # the median and the slowest time in each visit

    @property
    def fast_ms(self) -> float:
        """ms of the reference in the fast state.

        This is the median of the visits near the fastest ones. The known latency is used instead, unless the device is
        faster now.
        """
        seen_ms = np.array(self.references_ms)[:, 0]
        near = seen_ms <= SLOW * np.quantile(
            seen_ms, QUANTILE
        )  # a quantile, since a single visit may be fast by chance
        fast_ms = float(np.median(seen_ms[near]))
        return fast_ms if self.known_ms is None or SLOW * fast_ms < self.known_ms else self.known_ms

    def visit(self, *calls: Call, seconds: float = SECONDS) -> list[Visit]:
        """Time callables briefly, in turn with each other; returns one visit of each.

        Groups of calls alternate with the reference. The first call of a group does not count, since the caches still
        contain the data of the other callable.
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
        """Visit callables in rounds, until each has enough fast visits or the time is up.

        Args:
            calls: each with its visits so far, to which new ones are added.
            end: on the clock of ``time.perf_counter``; ``MIN_VISITS`` visits of each are made even after it.
            enough: the number of fast visits after which a callable is not visited again.
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
        """The timings of one network from its visits."""
        fast_ms = self.fast_ms
        fast = [visit.times_ms * (fast_ms / visit.reference_ms) for visit in visits if self.is_fast(visit)]
        met = Timing.of(np.concatenate([visit.times_ms for visit in visits]))
        return Measured(Timing.of(np.concatenate(fast)) if fast else None, met, len(visits), len(fast), fast_ms)

    def states(self) -> dict[str, float]:
        """The states of the device during the visits.

        Returns:
            reference_ms: the latency of the reference network in the fast state.
            fast_share: the share of visits in the fast state.
            slowdown: how many times as long the reference took in slower states; 1 if there were none.
        """
        ratios = np.array(self.references_ms)[:, 1] / self.fast_ms
        slow = ratios[ratios > SLOW]
        return {
            "reference_ms": self.fast_ms,
            "fast_share": float(np.mean(ratios <= SLOW)),
            "slowdown": float(np.median(slow)) if len(slow) else 1.0,
        }
