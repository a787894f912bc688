"""How well shared weights rank architectures (HyperSegNAS Fig. 4), for both searches that train discrete networks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from scipy.stats import kendalltau, spearmanr

from scripts.core.errors import CineError
from scripts.core.json_files import write_json
from scripts.latency.table import LatencyTable
from scripts.search.candidates import Candidate, CandidateFile, LatencyCost, sample
from scripts.search.coarse_to_fine import fill
from scripts.search.descent import Batch
from scripts.search.one_shot import OneShotSearcher
from scripts.search.scratch import ScratchTraining
from scripts.search.searcher import Searcher
from scripts.search.shared_weights import SharedWeights

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-correlation-1"


def correlate(
    searcher: OneShotSearcher | Searcher,
    validation_loader: Iterable[Batch],
    table: LatencyTable,
    architectures: int = 25,
    fine_tune_steps: int = 500,
    scratch_steps: int = 2000,
) -> dict[str, Any]:
    """Rank correlations of the Dice with shared weights and the Dice after training from scratch.

    They are Kendall's tau and Spearman's rho, before and after fine-tuning, written to ``correlation.json``. An
    interrupted run resumes at the next architecture.

    Args:
        searcher: trains the shared weights if they are not trained yet; its work_dir gets the results.
        validation_loader: batches for evaluating architectures, always the same.
        table: predicts their latency, which has no limit here.
        architectures: the number of random architectures, at least three.
        fine_tune_steps, scratch_steps: steps of each.
    """
    if architectures < 3:
        raise CineError("architectures", str(architectures), "at least 3", "Raise it.")
    searcher.run_epochs()
    identity = {
        **{"count": architectures, "fine_tune_steps": fine_tune_steps, "scratch_steps": scratch_steps},
        **{"table": table.digest, "search": searcher.identity},
    }
    file = CandidateFile(searcher.folder / "correlated.json", identity)
    # a seed other than that of the search's own candidates
    cost, seed = LatencyCost(table, float("inf")), searcher.seed + 1
    found = file.load(searcher.space) or sample(searcher.space, architectures, cost, float("inf"), seed)
    shared = SharedWeights(searcher, validation_loader)
    every = range(len(found))
    fill(found, "dice", every, shared.dice, file)
    fill(found, "fine_tuned_dice", every, lambda a: shared.fine_tuned_dice(a, fine_tune_steps), file)
    weights = searcher.weights
    scratch = ScratchTraining(
        *(weights.loader, weights.loss, validation_loader),
        seed=searcher.seed,
        device=searcher.device,
        amp=searcher.amp,
    )
    fill(found, "scratch_dice", every, lambda a: scratch.dice(a, scratch_steps), file)
    ranks = rank(found)
    result = {"format": FORMAT, "architectures": [_row(candidate) for candidate in found], **ranks}
    write_json(searcher.folder.parent / "correlation.json", result)
    for field in ("dice", "fine_tuned_dice"):
        logger.info("%s and training from scratch: %s", field.replace("_", " "), text_of(ranks[field]))
    return result


def rank(found: list[Candidate]) -> dict[str, dict[str, float | None]]:
    """Rank correlations with ``scratch_dice``; None if one of the Dice values is the same for all architectures."""
    scratch = [candidate.scratch_dice for candidate in found]
    ranks: dict[str, dict[str, float | None]] = {}
    for field in ("dice", "fine_tuned_dice"):
        values = [getattr(candidate, field) for candidate in found]
        if len(set(values)) == 1 or len(set(scratch)) == 1:
            ranks[field] = {"kendall_tau": None, "spearman_rho": None}
            continue
        tau, rho = kendalltau(values, scratch).statistic, spearmanr(values, scratch).statistic
        ranks[field] = {"kendall_tau": float(tau), "spearman_rho": float(rho)}
    return ranks


def text_of(ranks: Mapping[str, float | None]) -> str:
    """Both correlations of one field, as text."""
    tau, rho = ranks["kendall_tau"], ranks["spearman_rho"]
    if tau is None or rho is None:
        return "no correlation, since one of the Dice values is the same for all"
    return f"Kendall's tau {tau:.2f}, Spearman's rho {rho:.2f}"


def _row(candidate: Candidate) -> dict[str, Any]:
    return {
        "cells": len(candidate.architecture.union),
        "predicted_ms": candidate.cost,
        "dice": candidate.dice,
        "fine_tuned_dice": candidate.fine_tuned_dice,
        "scratch_dice": candidate.scratch_dice,
    }
