"""The real-time constraint, and how a network is judged against it: by measurement."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from scripts.distributed import on_main
from scripts.files import CineError
from scripts.latency.network import measure_network
from scripts.latency.table import LatencyTable
from scripts.latency.timer import Timing
from scripts.latency.visits import SLOW, Measured
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.search.derive import Deriver
from scripts.space.architecture import PREDICTED, Architecture
from scripts.space.network import CineNet
from scripts.space.space import Space
from scripts.space.supernet import Mixing

logger = logging.getLogger(__name__)


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
        assert self.budget_ms != "auto", "resolve() comes first"
        return max(timing.p95_ms / self.budget_ms, timing.mean_ms * self.volumes_per_second / 1000)

    def resolve(
        self, mixing: Mixing, deriver: Deriver, table: LatencyTable, space: Space, runtime: Runtime
    ) -> Constraint:
        """This constraint with a budget in ms."""
        if self.budget_ms != "auto":
            return self
        count = min(8, space.trellis.path_count, deriver.pool_size)
        reference = replace(deriver, method="dijkstra").propose(mixing, table, space, (count, count))[0]
        budget_ms = round(0.6 * judge(reference, table, runtime).timing.median_ms, 2)
        logger.info("Budget: %.2f ms, 0.6 of the latency of the %d best paths with the present cells", budget_ms, count)
        return replace(self, budget_ms=budget_ms)


class BudgetMissed(CineError):
    """No candidate keeps the constraint; ``excess`` is the factor by which the best of them misses it."""

    excess: float = 1.0


@on_main
def judge(architecture: Architecture, table: LatencyTable, runtime: Runtime) -> Measured:
    """What a network takes: measured here, or as predicted where the table is of another device."""
    if table.foreign:
        predicted_ms = architecture.provenance["predicted_ms"]
        timing = Timing(predicted_ms, predicted_ms, predicted_ms, 0.0, 0)
        return Measured(timing, timing, 0, 0, 0.0)
    profiled_ms = table.calibration.get("reference_ms")
    found = measure_network(CineNet(architecture), runtime, reference_ms=profiled_ms)
    if profiled_ms and SLOW * found.reference_ms < profiled_ms:
        logger.warning(
            "The device is %.2f times as fast as when it was profiled: the latency table was measured while the device "
            "was slow. Run profile again",
            profiled_ms / found.reference_ms,
        )
    if not found.fast_visits:
        logger.warning("The device was never in its fast state during the measurement: all visits are judged")
    return found


def warn_of_slower_states(found: Measured, constraint: Constraint) -> None:
    """Say so where a network keeps its constraint in the device's fast state, and not over all states of this hour."""
    if constraint.kept_by(found.timing) and not constraint.kept_by(found.met):
        logger.warning(
            "In its fast state the device keeps the budget. Over all visits of this measurement it does not, because "
            "it is slower now (p50 %.1f ms, p95 %.1f, %d of %d visits in the fast state)",
            *(found.met.median_ms, found.met.p95_ms, found.fast_visits, found.visits),
        )


def measured(found: Measured, runtime: Runtime) -> dict[str, Any]:
    """What an architecture's provenance says of a measurement."""
    return {
        "measured_ms": asdict(found.timing),
        "met_ms": asdict(found.met),
        "fast_visits": found.fast_visits,
        "visits": found.visits,
        "fast_reference_ms": found.reference_ms,
        "volumes_per_second": 1000 / found.timing.mean_ms,
        "device": describe_device(runtime.device),
        "runtime": runtime.describe(),
        "verdict": "measured",
    }


def accepted(
    architecture: Architecture, found: Measured, constraint: Constraint, table: LatencyTable, runtime: Runtime
) -> Architecture:
    """The architecture with what was asked of it and what it takes."""
    return architecture.with_provenance(
        budget_ms=constraint.budget_ms,
        volumes_per_second_required=constraint.volumes_per_second,
        latency_table_sha256=table.digest,
        **(predicted(table) if table.foreign else measured(found, runtime)),
    )


def predicted(table: LatencyTable) -> dict[str, Any]:
    """What an architecture's provenance says where nothing was measured."""
    unknown = {"measured_ms": None, "met_ms": None, "fast_reference_ms": None, "volumes_per_second": None}
    return {**unknown, "device": table.device, "runtime": table.runtime, "verdict": PREDICTED}
