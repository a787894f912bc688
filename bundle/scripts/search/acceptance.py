"""Derive a network from a search, measure it, and write it with its provenance."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.core.distributed import on_main
from scripts.search.decoding import gene_pool, pool_overlap
from scripts.search.derive import Deriver
from scripts.search.history import load_history
from scripts.search.judge import Judge
from scripts.search.relaxation import uniform_mixing
from scripts.search.selection import Selection
from scripts.search.shared_weights import SharedWeights
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing
from scripts.space.trellis import text_of

logger = logging.getLogger(__name__)


def derive_within_budget(
    mixing: Mixing,
    deriver: Deriver,
    judge: Judge,
    shared: SharedWeights | None = None,
    fine_tune_steps: int = 100,
    last_resort: bool = True,
) -> Architecture:
    """The network of a search that is accepted by its measured latency and throughput; see ``Selection``.

    If the latency table is from another device, predictions are used instead, and the provenance says so.

    Raises:
        BudgetMissed: no network meets the constraint; the message names the fastest available network.
    """
    selection = Selection(mixing, deriver, judge, shared, fine_tune_steps)
    architecture, found = selection.take(last_resort)
    logger.info("Accepted: N=%d, %d cells", len(architecture.paths), len(architecture.union))
    space = judge.space
    pool = gene_pool(mixing, space, deriver.pool_size, deriver.score)
    uniform = gene_pool(uniform_mixing(space), space, deriver.pool_size, deriver.score)
    return judge.accepted(architecture, found).with_provenance(
        notes={
            "uniform_pool": [{"weight": weight, "path": list(path)} for weight, path in uniform],
            "uniform_pool_overlap": pool_overlap(pool, uniform),
        }
    )


@on_main
def derive_from_search(
    work_dir: str,
    deriver: Deriver,
    judge: Judge,
    shared: SharedWeights | None = None,
    fine_tune_steps: int = 100,
    last_resort: bool = True,
    keep: bool = False,
) -> Architecture:
    """Derive from the search in ``work_dir`` and write its ``architecture.json``.

    An "auto" budget is the budget of the search. If that was "auto" too, and the deriver looks for the fastest network,
    the budget is computed again for the searched cells.

    Args:
        work_dir: the folder of the search.
        deriver, judge, shared, fine_tune_steps, last_resort: see ``derive_within_budget``.
        keep: whether to keep a network that was accepted earlier for the same search, table and settings. Near the
            budget, a new measurement may accept another network, and a training of the first would be lost.
    """
    history = load_history(work_dir)
    mixing = Mixing.from_lists(history["epochs"][-1]["mixing"], judge.space)
    path = Path(work_dir) / "architecture.json"
    derived_from = _digest(
        *(mixing, asdict(deriver), asdict(judge.constraint), judge.table.digest, judge.table.foreign),
        *(asdict(judge.space), shared is None),
    )
    if keep and path.exists():
        before = Architecture.load(path)
        if before.provenance.derived_from == derived_from:
            logger.info("Keeping %s, which was accepted earlier. The step derive derives it again", path)
            return before
    if judge.constraint.budget_ms == "auto":
        if not history["auto_budget"] or deriver.fitness == "accuracy":
            judge = judge.under(history["budget_ms"])
        judge = judge.resolved(mixing, deriver)
    architecture = derive_within_budget(mixing, deriver, judge, shared, fine_tune_steps, last_resort)
    architecture = architecture.with_provenance(searched_exams=history.get("exams", []), derived_from=derived_from)
    architecture.save(path)
    overlap = architecture.provenance.notes["uniform_pool_overlap"]
    logger.info("%.0f %% of the pool's paths are also the best without learning (uniform beta)", 100 * overlap)
    logger.info("Cells: %s", architecture.cells)
    logger.info("Paths: %s; saved %s", " ".join(map(text_of, architecture.paths)), path)
    return architecture


def _digest(mixing: Mixing, *settings: Any) -> str:
    """SHA-256 of the values that a derivation depends on."""
    return hashlib.sha256(json.dumps([mixing.to_lists(), *settings]).encode()).hexdigest()
