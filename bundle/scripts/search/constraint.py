"""The real-time constraint: a budget of latency, and a throughput."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scripts.core.errors import CineError
from scripts.latency.timer import Timing


@dataclass(frozen=True)
class Constraint:
    """The real-time constraint.

    Args:
        budget_ms: L_ub, which the 95th percentile of the latency must keep; "auto": 0.6 of the measured latency
            of the 8 best paths (Dijkstra), so that it binds on any device: with the cells before the search while
            searching, with the searched cells when deriving.
        volumes_per_second: the least throughput, when volumes stream one after the other.
        enforced: whether a network that misses it is refused; otherwise it is measured, accepted and said to miss
            (searches that know no constraint).
    """

    budget_ms: float | Literal["auto"] = 50.0
    volumes_per_second: float = 22.0
    enforced: bool = True

    def __post_init__(self) -> None:
        for name, value in (("budget_ms", self.budget_ms), ("volumes_per_second", self.volumes_per_second)):
            allowed = "auto, or ms above 0" if name == "budget_ms" else "a number above 0"
            if name == "budget_ms" and value == "auto":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise CineError(name, repr(value), allowed, "Change the key.")

    def kept_by(self, timing: Timing) -> bool:
        return self.excess(timing) <= 1

    def excess(self, timing: Timing) -> float:
        """By which factor the latency (p95) or the throughput (mean) misses; 1 and less keeps both."""
        assert self.budget_ms != "auto", "Judge.resolved comes first"
        return max(timing.p95_ms / self.budget_ms, timing.mean_ms * self.volumes_per_second / 1000)


class BudgetMissed(CineError):
    """No candidate keeps the constraint; ``excess`` is the factor by which the best of them misses it."""

    excess: float = 1.0
