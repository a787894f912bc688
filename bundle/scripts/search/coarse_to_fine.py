"""Coarse to fine (HyperSegNAS): rank many candidates by shared weights, fine-tune the best, and measure those."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tqdm import tqdm

from scripts.core.distributed import is_main, on_main
from scripts.search.candidates import Candidate, CandidateFile, LatencyCost, MemoryCost, sample
from scripts.search.constraint import BudgetMissed
from scripts.search.descent import Batch
from scripts.search.judge import Judge
from scripts.search.one_shot import OneShotSearcher
from scripts.search.shared_weights import SharedWeights
from scripts.space.architecture import Architecture

logger = logging.getLogger(__name__)


def search_coarse_to_fine(
    searcher: OneShotSearcher,
    validation_loader: Iterable[Batch],
    cost: LatencyCost | MemoryCost,
    judge: Judge,
    candidates: int = 2000,
    fine_tuned: int = 10,
    fine_tune_steps: int = 500,
) -> Architecture:
    """Train the shared weights, choose an architecture by them, and write ``architecture.json``.

    Under another constraint it samples and evaluates again, but does not train the shared weights again.
    Args:
        searcher: trains the shared weights; its work_dir is written to.
        validation_loader: batches for evaluating candidates, always the same.
        cost: the cost of a candidate and its limit.
        judge: measures networks; an "auto" budget is the cost's limit, if that is in ms.
        candidates: how many to sample.
        fine_tuned: how many of the best candidates to fine-tune.
        fine_tune_steps: steps of each fine-tuning.

    Raises:
        BudgetMissed: no fine-tuned candidate meets the constraint when measured.
    """
    searcher.run_epochs()
    space, seed = searcher.space, searcher.seed
    most = on_main(cost.resolved)(space, seed)
    if judge.constraint.budget_ms == "auto":
        judge = judge.under(
            most if isinstance(cost, LatencyCost) else LatencyCost(judge.table, "auto").resolved(space, seed)
        )
    identity = {
        **{"cost": cost.unit, "most": most, "count": candidates, "table": judge.table.digest},
        **{"fine_tune_steps": fine_tune_steps, "search": searcher.identity},
    }
    file = CandidateFile(searcher.folder / "candidates.json", identity)
    found = on_main(lambda: file.load(space) or sample(space, candidates, cost, most, seed))()
    file.save(found, now=True)
    shared = SharedWeights(searcher, validation_loader)
    fill(found, "dice", range(len(found)), shared.dice, file)
    best = sorted(range(len(found)), key=lambda i: -(found[i].dice or 0.0))[:fine_tuned]
    fill(found, "fine_tuned_dice", best, lambda a: shared.fine_tuned_dice(a, fine_tune_steps), file)
    ranked = sorted((found[i] for i in best), key=lambda candidate: -(candidate.fine_tuned_dice or 0.0))
    architecture = _first_that_keeps(ranked, judge).with_provenance(
        notes={
            "assistance": searcher.assistance,
            "cost": {"unit": cost.unit, "most": most},
            "candidates": len(found),
        },
        method="coarse_to_fine",
        seed=seed,
        searched_exams=searcher.identity.get("exams", []),
    )
    on_main(architecture.save)(searcher.folder.parent / "architecture.json")
    logger.info("%d cells; saved %s", len(architecture.union), searcher.folder.parent / "architecture.json")
    return architecture


def fill(
    found: list[Candidate],
    field: str,
    which: Sequence[int],
    evaluate: Callable[[Architecture], float],
    file: CandidateFile,
) -> None:
    """Evaluate the candidates that lack a value in this field."""
    unknown = [i for i in which if getattr(found[i], field) is None]
    for i in tqdm(unknown, desc=field.replace("_", " "), unit="architecture", disable=not is_main()):
        found[i] = replace(found[i], **{field: evaluate(found[i].architecture)})
        file.save(found)
    file.save(found, now=True)


def _first_that_keeps(ranked: Sequence[Candidate], judge: Judge) -> Architecture:
    """The best candidate whose measured latency and throughput meet the constraint, if that is enforced."""
    constraint, smallest = judge.constraint, float("inf")
    for candidate in ranked:
        architecture = candidate.architecture.with_provenance(predicted_ms=judge.table.predict(candidate.architecture))
        found = judge.measure(architecture)
        excess = judge.excess(found)
        smallest = min(smallest, excess)
        logger.info(
            "Dice %.3f with shared weights, %.3f fine-tuned; predicted %.2f ms, measured %.2f (p95 %.2f): %s",
            *(candidate.dice, candidate.fine_tuned_dice, architecture.provenance.predicted_ms),
            *(found.timing.median_ms, found.timing.p95_ms, "kept" if excess <= 1 else "missed"),
        )
        if judge.keeps(found):
            return judge.accepted(architecture, found).with_provenance(
                shared_dice=candidate.dice, fine_tuned_dice=candidate.fine_tuned_dice
            )
    error = BudgetMissed(
        "budget_ms and volumes_per_second",
        f"{constraint.budget_ms} ms and {constraint.volumes_per_second} volumes a second, which none of the "
        f"{len(ranked)} fine-tuned candidates meets on this device",
        f"a budget {smallest:.2f} times as large",
        "Raise budget_ms, or fine-tune more candidates (fine_tuned).",
    )
    error.excess = smallest
    raise error
