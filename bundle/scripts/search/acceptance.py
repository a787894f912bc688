"""The constraint is judged by measurement: candidates are built, timed on the device, and accepted or not."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from scripts.files import CineError
from scripts.latency.network import measure_network
from scripts.latency.table import LatencyTable
from scripts.latency.timer import Timing
from scripts.runtime.deploy import Runtime, describe_device
from scripts.search.derive import FEWEST_PATHS, Deriver, gene_pool, pool_overlap
from scripts.search.history import load_history
from scripts.search.relaxation import uniform_mixing
from scripts.space.architecture import Architecture, Space
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
        assert self.budget_ms != "auto", "resolve() comes first"
        return timing.p95_ms <= self.budget_ms and 1000 / timing.mean_ms >= self.volumes_per_second

    def resolve(
        self, mixing: Mixing, deriver: Deriver, table: LatencyTable, space: Space, runtime: Runtime
    ) -> Constraint:
        """This constraint with a budget in ms."""
        if self.budget_ms != "auto":
            return self
        count = min(8, space.trellis.path_count, deriver.pool_size)
        reference = replace(deriver, method="dijkstra", paths=count).propose(mixing, table, space, count)
        budget_ms = round(0.6 * measure_network(reference[0], runtime).median_ms, 2)
        logger.info("Budget: %.2f ms, 0.6 of the measured latency of the %d best paths", budget_ms, count)
        return replace(self, budget_ms=budget_ms)


def derive(
    mixing: Mixing,
    deriver: Deriver,
    constraint: Constraint,
    table: LatencyTable,
    space: Space,
    runtime: Runtime,
    candidates: int = 3,
) -> Architecture:
    """The first candidate whose measured latency and throughput keep the constraint.

    Numbers of paths are tried from the largest down (one, unless the deriver's is "auto"), for each the
    ``candidates`` predicted fastest.

    Raises:
        CineError: none keeps it; names the fastest network that can be had.
    """
    for count in deriver.counts(space):
        for architecture in deriver.propose(mixing, table, space, count)[:candidates]:
            timing = measure_network(architecture, runtime)
            kept = constraint.kept_by(timing)
            _log(architecture, timing, "accepted" if kept else "refused")
            if kept and count < deriver.fewest(space):
                logger.warning("No network of %d paths or more keeps the budget; this one has %d", FEWEST_PATHS, count)
            if kept:
                pool = gene_pool(mixing, space, deriver.pool_size, deriver.score)
                uniform = gene_pool(uniform_mixing(space), space, deriver.pool_size, deriver.score)
                return architecture.with_provenance(
                    budget_ms=constraint.budget_ms,
                    volumes_per_second_required=constraint.volumes_per_second,
                    measured_ms=asdict(timing),
                    volumes_per_second=1000 / timing.mean_ms,
                    latency_table_sha256=table.digest,
                    device=describe_device(runtime.device),
                    runtime=runtime.describe(),
                    uniform_pool=[{"weight": weight, "path": list(path)} for weight, path in uniform],
                    uniform_pool_overlap=pool_overlap(pool, uniform),
                )
    fastest = min(
        (replace(deriver, method="exhaustive").propose(mixing, table, space, 1)),
        key=lambda architecture: architecture.provenance["predicted_ms"],
    )
    timing = measure_network(fastest, runtime)
    _log(fastest, timing, "the fastest that can be had")
    raise CineError(
        "budget_ms and volumes_per_second",
        f"{constraint.budget_ms} ms and {constraint.volumes_per_second} volumes a second, which no derived network of "
        f"{' or '.join(map(str, deriver.counts(space)))} paths keeps on this device",
        f"a budget that can be kept: the fastest network of this search is the single path "
        f"{''.join(map(str, fastest.paths[0]))} with a p95 of {timing.p95_ms:.1f} ms "
        f"({1000 / timing.mean_ms:.1f} volumes a second)",
        "Raise budget_ms or lower volumes_per_second, lower paths, or search a smaller space (channels, layers).",
    )


def derive_from_search(
    work_dir: str, space: Space, deriver: Deriver, constraint: Constraint, table: LatencyTable, runtime: Runtime
) -> Architecture:
    """Derive from the search in ``work_dir`` and write its ``architecture.json``.

    An "auto" budget is the search's own; where that was "auto" too, it is resolved anew for the searched cells.
    """
    history = load_history(work_dir)
    mixing = Mixing.from_lists(history["epochs"][-1]["mixing"], space)
    if constraint.budget_ms == "auto":
        if not history["auto_budget"]:
            constraint = replace(constraint, budget_ms=history["budget_ms"])
        constraint = constraint.resolve(mixing, deriver, table, space, runtime)
    architecture = derive(mixing, deriver, constraint, table, space, runtime)
    path = Path(work_dir) / "architecture.json"
    architecture.save(path)
    overlap = architecture.provenance["uniform_pool_overlap"]
    logger.info("%.0f %% of the pool's paths are also the best where nothing was learned (uniform beta)", 100 * overlap)
    logger.info("Cells: %s", architecture.cells)
    logger.info("Paths: %s; saved %s", " ".join("".join(map(str, p)) for p in architecture.paths), path)
    return architecture


def _log(architecture: Architecture, timing: Timing, verdict: str) -> None:
    logger.info(
        "N=%d, %d cells: predicted %.2f ms, measured %.2f ms (p95 %.2f), %.1f volumes a second: %s",
        len(architecture.paths),
        len(architecture.union),
        architecture.provenance["predicted_ms"],
        timing.median_ms,
        timing.p95_ms,
        1000 / timing.mean_ms,
        verdict,
    )
