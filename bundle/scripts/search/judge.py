"""Decide whether a network meets the constraint: by measurement, or by prediction for another device."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

from scripts.core.distributed import on_main
from scripts.latency.network import measure_network
from scripts.latency.table import LatencyTable
from scripts.latency.timer import Timing
from scripts.latency.visits import SLOW, Measured
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.search.constraint import Constraint
from scripts.search.derive import Deriver
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing
from scripts.space.network import CineNet
from scripts.space.provenance import PREDICTED
from scripts.space.space import Space

logger = logging.getLogger(__name__)
AUTO_SHARE = 0.6
"""An "auto" budget, as a share of the latency of its reference network."""


@dataclass(frozen=True)
class Judge:
    """Judges the networks of a space.

    Args:
        space: the search space.
        table: predicts latency; if it is of another device, its predictions replace measurements.
        constraint: latency and throughput.
        runtime: how networks run when they are measured.
    """

    space: Space
    table: LatencyTable
    constraint: Constraint
    runtime: Runtime

    @on_main
    def measure(self, architecture: Architecture) -> Measured:
        """The latency of a network: measured here, or predicted if the table is of another device."""
        if self.table.foreign:
            predicted_ms = architecture.provenance.number("predicted_ms")
            timing = Timing(predicted_ms, predicted_ms, predicted_ms, 0.0, 0)
            return Measured(timing, timing, 0, 0, 0.0)
        profiled_ms = self.table.calibration.get("reference_ms")
        found = measure_network(CineNet(architecture), self.runtime, reference_ms=profiled_ms)
        if profiled_ms and SLOW * found.reference_ms < profiled_ms:
            logger.warning(
                "The device is now %.2f times as fast as when it was profiled: it was slow when the latency table was "
                "measured. Run the step profile again",
                profiled_ms / found.reference_ms,
            )
        if not found.fast_visits:
            logger.warning("The device was never in its fast state during the measurement: all visits are used")
        return found

    def keeps(self, found: Measured) -> bool:
        """Whether a network is accepted: it meets the constraint, or the constraint is not enforced."""
        return self.constraint.kept_by(found.timing) or not self.constraint.enforced

    def excess(self, found: Measured) -> float:
        """The factor by which a network misses the constraint; see ``Constraint.excess``."""
        return self.constraint.excess(found.timing)

    def resolved(self, mixing: Mixing, deriver: Deriver) -> Judge:
        """This judge with a budget in ms. "auto" becomes a share of the latency of the best paths' network."""
        if self.constraint.budget_ms != "auto":
            return self
        count = min(8, self.space.trellis.path_count, deriver.pool_size)
        dijkstra = replace(deriver, method="dijkstra")
        reference = dijkstra.propose(mixing, self.table, self.space, (count, count))[0]
        budget_ms = round(AUTO_SHARE * self.measure(reference).timing.median_ms, 2)
        logger.info(
            "Budget: %.2f ms, %g of the latency of the %d best paths with the present cells",
            *(budget_ms, AUTO_SHARE, count),
        )
        return self.under(budget_ms)

    def under(self, budget_ms: float) -> Judge:
        """This judge with another budget."""
        return replace(self, constraint=replace(self.constraint, budget_ms=budget_ms))

    def accepted(self, architecture: Architecture, found: Measured) -> Architecture:
        """The architecture, with its constraint and its latency in its provenance."""
        warn_of_slower_states(found, self.constraint)
        return architecture.with_provenance(
            budget_ms=self.constraint.budget_ms,
            volumes_per_second_required=self.constraint.volumes_per_second,
            latency_table_sha256=self.table.digest,
            **(predicted(self.table) if self.table.foreign else measured(found, self.runtime)),
        )


def warn_of_slower_states(found: Measured, constraint: Constraint) -> None:
    """Log that a network meets its constraint in the device's fast state, but not over all visits of the last hour."""
    if constraint.kept_by(found.timing) and not constraint.kept_by(found.met):
        logger.warning(
            "The network meets the budget in the device's fast state, but not over all visits of this measurement, "
            "because the device is slower now (p50 %.1f ms, p95 %.1f, %d of %d visits in the fast state)",
            *(found.met.median_ms, found.met.p95_ms, found.fast_visits, found.visits),
        )


def measured(found: Measured, runtime: Runtime) -> dict[str, Any]:
    """The values of a measurement for an architecture's provenance."""
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


def predicted(table: LatencyTable) -> dict[str, Any]:
    """The values for an architecture's provenance if nothing was measured."""
    unknown = {"measured_ms": None, "met_ms": None, "fast_reference_ms": None, "volumes_per_second": None}
    return {**unknown, "device": table.device, "runtime": table.runtime, "verdict": PREDICTED}
