"""Candidates are built, timed on the device, and accepted or not."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from scripts.distributed import on_main
from scripts.latency.table import LatencyTable
from scripts.latency.timer import Timing
from scripts.latency.visits import Measured
from scripts.runtime.deploy import Runtime
from scripts.search.constraint import BudgetMissed, Constraint, accepted, judge, warn_of_slower_states
from scripts.search.derive import FEWEST_PATHS, Deriver, gene_pool, pool_overlap
from scripts.search.history import load_history
from scripts.search.relaxation import uniform_mixing
from scripts.space.architecture import Architecture
from scripts.space.space import Space
from scripts.space.supernet import Mixing
from scripts.space.trellis import text_of

logger = logging.getLogger(__name__)


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
    """The first candidate whose measured latency and throughput keep the constraint, where that is enforced.

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
            found = judge(architecture, table, runtime)
            excess = constraint.excess(found.timing)
            least = min(least, excess)
            taken = excess <= 1 or not constraint.enforced
            verdict = "accepted" if taken else "refused"
            _log(architecture, found, f"{verdict}{', though it misses' * (taken and excess > 1)}", table.foreign)
            if not taken:
                continue
            if count < deriver.fewest(space):
                logger.warning("No network of %d paths or more keeps the budget; this one has %d", FEWEST_PATHS, count)
            warn_of_slower_states(found, constraint)
            pool = gene_pool(mixing, space, deriver.pool_size, deriver.score)
            uniform = gene_pool(uniform_mixing(space), space, deriver.pool_size, deriver.score)
            return accepted(architecture, found, constraint, table, runtime).with_provenance(
                uniform_pool=[{"weight": weight, "path": list(path)} for weight, path in uniform],
                uniform_pool_overlap=pool_overlap(pool, uniform),
            )
    fastest = replace(deriver, method="exhaustive").propose(mixing, table, space, 1)[0]
    found = judge(fastest, table, runtime)
    timing = found.timing
    _log(fastest, found, "the fastest that can be had", table.foreign)
    place = f"on {table.device.get('name')}, as predicted" if table.foreign else "on this device"
    error = BudgetMissed(
        "budget_ms and volumes_per_second",
        f"{constraint.budget_ms} ms and {constraint.volumes_per_second} volumes a second, which no derived network of "
        f"{' or '.join(map(str, counts))} paths keeps {place}",
        f"a budget that can be kept: the fastest network of this search is the single path "
        f"{text_of(fastest.paths[0])} with a p95 of {timing.p95_ms:.1f} ms "
        f"({1000 / timing.mean_ms:.1f} volumes a second)",
        "Raise budget_ms or lower volumes_per_second, lower paths, or search a smaller space (channels, layers).",
    )
    error.excess = least
    raise error


@on_main
def derive_from_search(
    work_dir: str,
    space: Space,
    deriver: Deriver,
    constraint: Constraint,
    table: LatencyTable,
    runtime: Runtime,
    last_resort: bool = True,
    keep: bool = False,
) -> Architecture:
    """Derive from the search in ``work_dir`` and write its ``architecture.json``; other arguments as of ``derive``.

    An "auto" budget is the search's own; where that was "auto" too, it is resolved anew for the searched cells.

    Args:
        keep: whether what was accepted before, of the same search, table and settings, stays: near the budget another
            measurement may accept another network, and the one that was trained since would be lost.
    """
    history = load_history(work_dir)
    mixing = Mixing.from_lists(history["epochs"][-1]["mixing"], space)
    path = Path(work_dir) / "architecture.json"
    before = Architecture.load(path) if keep and path.exists() else None
    if before and _stands(before, mixing, deriver, constraint, table, space):
        logger.info("%s was accepted before and stays. The step derive derives anew", path)
        return before
    if constraint.budget_ms == "auto":
        if not history["auto_budget"]:
            constraint = replace(constraint, budget_ms=history["budget_ms"])
        constraint = constraint.resolve(mixing, deriver, table, space, runtime)
    architecture = derive(mixing, deriver, constraint, table, space, runtime, last_resort=last_resort)
    architecture = architecture.with_provenance(searched_exams=history.get("exams", []))
    architecture.save(path)
    overlap = architecture.provenance["uniform_pool_overlap"]
    logger.info("%.0f %% of the pool's paths are also the best where nothing was learned (uniform beta)", 100 * overlap)
    logger.info("Cells: %s", architecture.cells)
    logger.info("Paths: %s; saved %s", " ".join(map(text_of, architecture.paths)), path)
    return architecture


def _stands(
    before: Architecture, mixing: Mixing, deriver: Deriver, constraint: Constraint, table: LatencyTable, space: Space
) -> bool:
    """Whether a derivation with these settings proposes this architecture, and accepted it when it was measured."""
    told, count = dict(before.provenance), len(before.paths)
    asked = {"volumes_per_second_required": constraint.volumes_per_second, "latency_table_sha256": table.digest}
    if constraint.budget_ms != "auto":
        asked["budget_ms"] = constraint.budget_ms
    proposed = deriver.propose(mixing, table, space, count) if count in deriver.counts(space) else []
    if not any(one.digest == before.digest and told == {**told, **one.provenance, **asked} for one in proposed):
        return False
    measured_ms = told.get("measured_ms")  # none where the table is of another device
    judged = replace(constraint, budget_ms=told["budget_ms"])
    return not constraint.enforced or measured_ms is None or judged.kept_by(Timing(**measured_ms))


def _log(architecture: Architecture, found: Measured, verdict: str, foreign: bool) -> None:
    timing = found.timing
    measured = f"measured {timing.median_ms:.2f} ms (p95 {timing.p95_ms:.2f}; met now {found.met.p95_ms:.2f})"
    logger.info(
        "N=%d, %d cells: predicted %.2f ms, %s, %.1f volumes a second: %s",
        len(architecture.paths),
        len(architecture.union),
        architecture.provenance["predicted_ms"],
        "not measured" if foreign else measured,
        1000 / timing.mean_ms,
        verdict,
    )
