"""The constraint is judged by measurement: candidates are built, timed on the device, and accepted or not."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from scripts.files import CineError
from scripts.latency.network import measure_network
from scripts.latency.table import LatencyTable
from scripts.latency.timer import Timing
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.search.derive import FEWEST_PATHS, Deriver, gene_pool, pool_overlap
from scripts.search.history import load_history
from scripts.search.relaxation import uniform_mixing
from scripts.space.architecture import Architecture, Space
from scripts.space.supernet import Mixing

logger = logging.getLogger(__name__)
PREDICTED = "predicted, not measured"


@dataclass(frozen=True)
class Constraint:
    """The real-time constraint.

    Args:
        budget_ms: L_ub, which the 95th percentile of the latency must keep; "auto": 0.6 of the measured latency
            of the 8 best paths (Dijkstra), so that it binds on any device: with the cells before the search while
            searching, with the searched cells when deriving.
        volumes_per_second: the least throughput, when volumes stream one after the other.
    """

    budget_ms: float | Literal["auto"] = 50.0
    volumes_per_second: float = 22.0

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
        reference = replace(deriver, method="dijkstra", paths=count).propose(mixing, table, space, count)[0]
        budget_ms = round(0.6 * judge(reference, table, runtime).median_ms, 2)
        logger.info("Budget: %.2f ms, 0.6 of the latency of the %d best paths", budget_ms, count)
        return replace(self, budget_ms=budget_ms)


class BudgetMissed(CineError):
    """No candidate keeps the constraint; ``excess`` is the factor by which the best of them misses it."""

    excess: float = 1.0


def judge(architecture: Architecture, table: LatencyTable, runtime: Runtime) -> Timing:
    """What a network takes: measured here, or as predicted where the table is of another device."""
    if table.foreign:
        predicted_ms = architecture.provenance["predicted_ms"]
        return Timing(predicted_ms, predicted_ms, predicted_ms, 0.0, 0)
    return measure_network(architecture, runtime, reference_ms=table.calibration.get("reference_ms"))


def derive(
    mixing: Mixing,
    deriver: Deriver,
    constraint: Constraint,
    table: LatencyTable,
    space: Space,
    runtime: Runtime,
    candidates: int = 3,
    last_resort: bool = True,
) -> Architecture:
    """The first candidate whose measured latency and throughput keep the constraint.

    Numbers of paths are tried from the largest down (one, unless the deriver's is "auto"), for each the
    ``candidates`` predicted fastest. With a table of another device, predictions judge, and the result says so.

    Args:
        last_resort: whether "auto" may go below three paths.

    Raises:
        BudgetMissed: none keeps it; names the fastest network that can be had.
    """
    counts = [count for count in deriver.counts(space) if last_resort or count >= deriver.fewest(space)]
    least = float("inf")
    for count in counts:
        for architecture in deriver.propose(mixing, table, space, count)[:candidates]:
            timing = judge(architecture, table, runtime)
            excess = constraint.excess(timing)
            least = min(least, excess)
            _log(architecture, timing, "accepted" if excess <= 1 else "refused", table.foreign)
            if excess > 1:
                continue
            if count < deriver.fewest(space):
                logger.warning("No network of %d paths or more keeps the budget; this one has %d", FEWEST_PATHS, count)
            pool = gene_pool(mixing, space, deriver.pool_size, deriver.score)
            uniform = gene_pool(uniform_mixing(space), space, deriver.pool_size, deriver.score)
            return architecture.with_provenance(
                budget_ms=constraint.budget_ms,
                volumes_per_second_required=constraint.volumes_per_second,
                latency_table_sha256=table.digest,
                uniform_pool=[{"weight": weight, "path": list(path)} for weight, path in uniform],
                uniform_pool_overlap=pool_overlap(pool, uniform),
                **(predicted(table) if table.foreign else measured(timing, runtime)),
            )
    fastest = replace(deriver, method="exhaustive").propose(mixing, table, space, 1)[0]
    timing = judge(fastest, table, runtime)
    _log(fastest, timing, "the fastest that can be had", table.foreign)
    error = BudgetMissed(
        "budget_ms and volumes_per_second",
        f"{constraint.budget_ms} ms and {constraint.volumes_per_second} volumes a second, which no derived network of "
        f"{' or '.join(map(str, counts))} paths keeps on this device",
        f"a budget that can be kept: the fastest network of this search is the single path "
        f"{''.join(map(str, fastest.paths[0]))} with a p95 of {timing.p95_ms:.1f} ms "
        f"({1000 / timing.mean_ms:.1f} volumes a second)",
        "Raise budget_ms or lower volumes_per_second, lower paths, or search a smaller space (channels, layers).",
    )
    error.excess = least
    raise error


def measured(timing: Timing, runtime: Runtime) -> dict[str, Any]:
    """What an architecture's provenance says of a measurement."""
    return {
        "measured_ms": asdict(timing),
        "volumes_per_second": 1000 / timing.mean_ms,
        "device": describe_device(runtime.device),
        "runtime": runtime.describe(),
        "verdict": "measured",
    }


def predicted(table: LatencyTable) -> dict[str, Any]:
    """What an architecture's provenance says where nothing was measured."""
    unknown = {"measured_ms": None, "volumes_per_second": None}
    return {**unknown, "device": table.device, "runtime": table.runtime, "verdict": PREDICTED}


def derive_from_search(
    work_dir: str,
    space: Space,
    deriver: Deriver,
    constraint: Constraint,
    table: LatencyTable,
    runtime: Runtime,
    last_resort: bool = True,
) -> Architecture:
    """Derive from the search in ``work_dir`` and write its ``architecture.json``; arguments as of ``derive``.

    An "auto" budget is the search's own; where that was "auto" too, it is resolved anew for the searched cells.
    """
    history = load_history(work_dir)
    mixing = Mixing.from_lists(history["epochs"][-1]["mixing"], space)
    if constraint.budget_ms == "auto":
        if not history["auto_budget"]:
            constraint = replace(constraint, budget_ms=history["budget_ms"])
        constraint = constraint.resolve(mixing, deriver, table, space, runtime)
    architecture = derive(mixing, deriver, constraint, table, space, runtime, last_resort=last_resort)
    path = Path(work_dir) / "architecture.json"
    architecture.save(path)
    overlap = architecture.provenance["uniform_pool_overlap"]
    logger.info("%.0f %% of the pool's paths are also the best where nothing was learned (uniform beta)", 100 * overlap)
    logger.info("Cells: %s", architecture.cells)
    logger.info("Paths: %s; saved %s", " ".join("".join(map(str, p)) for p in architecture.paths), path)
    return architecture


def verify(
    architecture_file: str, runtime: Runtime, budget_ms: float | None = None, volumes_per_second: float | None = None
) -> Architecture:
    """Judge a network by measurement on this device, and write the measurement into its file.

    Args:
        architecture_file: the network.
        runtime: how it runs here.
        budget_ms, volumes_per_second: what to keep; None, what it was derived for.

    Raises:
        BudgetMissed: it does not keep them here; the file stays as it was.
    """
    architecture = Architecture.load(architecture_file)
    provenance = architecture.provenance
    budget_ms = budget_ms or provenance.get("budget_ms")
    volumes_per_second = volumes_per_second or provenance.get("volumes_per_second_required")
    if not budget_ms or not volumes_per_second:
        action = "Give them: --budget_ms 50 --volumes_per_second 22."
        raise CineError(architecture_file, "no budget", "budget_ms and volumes_per_second", action)
    constraint = Constraint(budget_ms, volumes_per_second)
    timing = measure_network(architecture, runtime, seconds=3.0)
    kept = constraint.kept_by(timing)
    logger.info(
        "Measured %.2f ms (p95 %.2f), %.1f volumes a second; predicted %s ms; allowed %s ms, %s a second: %s",
        *(timing.median_ms, timing.p95_ms, 1000 / timing.mean_ms, _rounded(provenance.get("predicted_ms"))),
        *(constraint.budget_ms, constraint.volumes_per_second, "kept" if kept else "missed"),
    )
    if not kept:
        raise BudgetMissed(
            architecture_file,
            f"a p95 of {timing.p95_ms:.1f} ms and {1000 / timing.mean_ms:.1f} volumes a second on this device",
            f"at most {constraint.budget_ms} ms and at least {constraint.volumes_per_second} volumes a second",
            f"Derive again with a budget_ms about {constraint.excess(timing):.2f} times lower, or profile this device.",
        )
    allowed = {
        "budget_ms": constraint.budget_ms,
        "volumes_per_second_required": constraint.volumes_per_second,
    }
    architecture = architecture.with_provenance(**allowed, **measured(timing, runtime))
    architecture.save(architecture_file)
    return architecture


def _rounded(ms: float | None) -> str:
    return "nothing" if ms is None else f"{ms:.2f}"


def _log(architecture: Architecture, timing: Timing, verdict: str, foreign: bool) -> None:
    found = PREDICTED if foreign else f"measured {timing.median_ms:.2f} ms (p95 {timing.p95_ms:.2f})"
    logger.info(
        "N=%d, %d cells: predicted %.2f ms, %s, %.1f volumes a second: %s",
        len(architecture.paths),
        len(architecture.union),
        architecture.provenance["predicted_ms"],
        found,
        1000 / timing.mean_ms,
        verdict,
    )
