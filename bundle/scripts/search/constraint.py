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
        budget_ms: L_ub, the limit for the 95th percentile of the latency. "auto": 0.6 of the measured latency of the
            8 best paths (Dijkstra), so that it matters on any device. The search uses the cells before the search,
            the derivation uses the searched cells.
        volumes_per_second: the minimum throughput, when volumes are processed one after the other.
        enforced: whether a network that misses the constraint is refused. Otherwise it is measured and accepted, and
            the log says that it misses (for searches without a constraint).
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
        """The factor by which the latency (p95) or the throughput (mean) misses; at most 1 if both are met."""
        assert self.budget_ms != "auto", "call Judge.resolved first"
        return max(timing.p95_ms / self.budget_ms, timing.mean_ms * self.volumes_per_second / 1000)


class BudgetMissed(CineError):
    """No candidate meets the constraint; ``excess`` is the factor by which the best one misses it."""

    excess: float = 1.0
