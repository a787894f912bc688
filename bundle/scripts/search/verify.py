"""The step verify: check on this device a network that was derived on another one."""

from __future__ import annotations

import logging
from pathlib import Path

from scripts.core import manifest
from scripts.core.errors import CineError
from scripts.latency.network import known_reference_ms, measure_network
from scripts.runtime.deploy import Runtime
from scripts.search.constraint import BudgetMissed, Constraint
from scripts.search.judge import measured, warn_of_slower_states
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet

logger = logging.getLogger(__name__)


def verify(
    architecture_file: str, runtime: Runtime, budget_ms: float | None = None, volumes_per_second: float | None = None
) -> Architecture:
    """Check a network by measurement on this device, and write the measurement into its file.

    Args:
        architecture_file: the network.
        runtime: how it runs here.
        budget_ms, volumes_per_second: the constraint; None: the constraint for which it was derived.

    Raises:
        BudgetMissed: it does not meet them here; the file stays as it was.
    """
    architecture = Architecture.load(architecture_file)
    provenance = architecture.provenance
    budget: float | str | None = provenance.budget_ms if budget_ms is None else budget_ms
    if volumes_per_second is None:
        volumes_per_second = provenance.volumes_per_second_required
    if budget is None or isinstance(budget, str) or volumes_per_second is None:
        found = f"budget_ms {budget} and volumes_per_second {volumes_per_second}"
        action = "Set them: --budget_ms 50 --volumes_per_second 22."
        raise CineError(architecture_file, found, "two numbers", action)
    constraint = Constraint(budget, volumes_per_second)
    result = measure_network(CineNet(architecture), runtime, known_reference_ms(provenance, runtime))
    timing = result.timing
    kept = constraint.kept_by(timing)
    warn_of_slower_states(result, constraint)
    logger.info(
        "Measured %.2f ms (p95 %.2f), %.1f volumes a second; predicted %s ms; allowed %s ms, %s a second: %s",
        *(timing.median_ms, timing.p95_ms, 1000 / timing.mean_ms, _rounded(provenance.predicted_ms)),
        *(constraint.budget_ms, constraint.volumes_per_second, "met" if kept else "missed"),
    )
    if not kept:
        raise BudgetMissed(
            architecture_file,
            f"a p95 of {timing.p95_ms:.1f} ms and {1000 / timing.mean_ms:.1f} volumes a second on this device",
            f"at most {constraint.budget_ms} ms and at least {constraint.volumes_per_second} volumes a second",
            f"It misses by a factor of {constraint.excess(timing):.2f}: run profile and derive on this device, or "
            "raise the budget.",
        )
    allowed = {
        "budget_ms": constraint.budget_ms,
        "volumes_per_second_required": constraint.volumes_per_second,
    }
    architecture = architecture.with_provenance(**allowed, **measured(result, runtime))
    architecture.save(architecture_file)
    manifest.renew(Path(architecture_file).parent)
    return architecture


def _rounded(ms: float | None) -> str:
    return "nothing" if ms is None else f"{ms:.2f}"
