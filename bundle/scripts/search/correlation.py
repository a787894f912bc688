"""How well shared weights rank architectures (HyperSegNAS Fig. 4), of either search that trains discrete networks."""

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
from scripts.search.loop import Batch
from scripts.search.one_shot import OneShotSearcher
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
    """Kendall's tau and Spearman's rho of the Dice with shared weights, before and after fine-tuning, with the Dice
    after training from scratch; written to ``correlation.json``. It resumes architecture by architecture.

    Args:
        searcher: trains the shared weights where they are not trained yet; its work_dir is written to.
        validation_loader: batches by which architectures are judged, always the same.
        table: predicts their latency, which bounds nothing here.
        architectures: how many random ones, at least three.
        fine_tune_steps, scratch_steps: steps of each.
    """
    if architectures < 3:
        raise CineError("architectures", str(architectures), "3 at least", "Raise it.")
    searcher.run_epochs()
    identity = {
        **{"count": architectures, "fine_tune_steps": fine_tune_steps, "scratch_steps": scratch_steps},
        **{"table": table.digest, "search": searcher.identity},
    }
    file = CandidateFile(searcher.folder / "correlated.json", identity)
    # seeded apart from the search's own candidates
    cost, seed = LatencyCost(table, float("inf")), searcher.seed + 1
    found = file.load(searcher.space) or sample(searcher.space, architectures, cost, float("inf"), seed)
    shared = SharedWeights(searcher, validation_loader)
    every = range(len(found))
    fill(found, "dice", every, shared.dice, file)
    fill(found, "fine_tuned_dice", every, lambda a: shared.fine_tuned_dice(a, fine_tune_steps), file)
    fill(found, "scratch_dice", every, lambda a: shared.scratch_dice(a, scratch_steps), file)
    ranks = rank(found)
    result = {"format": FORMAT, "architectures": [_row(candidate) for candidate in found], **ranks}
    write_json(searcher.folder.parent / "correlation.json", result)
    for field in ("dice", "fine_tuned_dice"):
        logger.info("%s and training from scratch: %s", field.replace("_", " "), text_of(ranks[field]))
    return result


def rank(found: list[Candidate]) -> dict[str, dict[str, float | None]]:
    """Rank correlations with ``scratch_dice``; None where either Dice is the same for all, which ranks nothing."""
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
    """Both correlations of one field, for a person."""
    tau, rho = ranks["kendall_tau"], ranks["spearman_rho"]
    if tau is None or rho is None:
        return "no correlation, since one Dice is the same for all"
    return f"Kendall's tau {tau:.2f}, Spearman's rho {rho:.2f}"


def _row(candidate: Candidate) -> dict[str, Any]:
    return {
        "cells": len(candidate.architecture.union),
        "predicted_ms": candidate.cost,
        "dice": candidate.dice,
        "fine_tuned_dice": candidate.fine_tuned_dice,
        "scratch_dice": candidate.scratch_dice,
    }
