"""What a search logs of its budget and its end: a budget that cannot bind, L_t off the budget, collapsed cells."""

from __future__ import annotations

import logging

import torch

from scripts.latency.expectation import LatencyExpectation
from scripts.search.relaxation import JointSoftmax
from scripts.space.mixing import Mixing
from scripts.space.registry import PARAMETER_FREE
from scripts.space.space import Space

logger = logging.getLogger(__name__)

NEAR = 0.9
"""A share of the budget above which the penalty is felt."""
ENDS = (0.9, 1.05)
"""L_t over the budget at the end of a search that moved to its budget."""
STEPS, RATE = 150, 0.3


def extreme_expectations(expectation: LatencyExpectation) -> tuple[float, float]:
    """L_t in ms of mixing weights that follow its gradient down, and up, from nearly uniform ones."""
    return _extreme(expectation, False), _extreme(expectation, True)


def _extreme(expectation: LatencyExpectation, largest: bool) -> float:
    relaxation = JointSoftmax(expectation.space)
    generator = torch.Generator().manual_seed(0)
    for parameter in relaxation.parameters():  # uniform weights may lie on a saddle
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    optimizer = torch.optim.Adam(relaxation.parameters(), RATE, maximize=largest)
    for _ in range(STEPS):
        optimizer.zero_grad()
        expectation(relaxation()).backward()
        optimizer.step()
    with torch.no_grad():
        return float(expectation(relaxation()))


def warn_of_a_budget_that_cannot_bind(expectation: LatencyExpectation, aim_ms: float) -> None:
    """Warn where the whole space is below the budget, or above it."""
    min_ms, largest_ms = extreme_expectations(expectation)
    if largest_ms < aim_ms:
        logger.warning(
            "The whole space is below the budget: its largest networks of %d paths take about %.1f ms, the budget "
            "is %.1f ms. Raise space#channels or paths, or lower budget_ms",
            *(expectation.count, largest_ms, aim_ms),
        )
    if min_ms > aim_ms:
        logger.warning(
            "The whole space is above the budget: its fastest networks take about %.1f ms, the budget is %.1f ms. "
            "Raise budget_ms, or lower space#channels or space#layers",
            *(min_ms, aim_ms),
        )


def log_how_it_ended(latency_ms: float, aim_ms: float, must_bind: bool) -> None:
    """Log L_t and its share of the budget; warn where it had to end at the budget and did not."""
    share = latency_ms / aim_ms
    level = logging.INFO if ENDS[0] <= share <= ENDS[1] or not must_bind else logging.WARNING
    logger.log(level, "L_t ended at %.1f ms, %.2f of the budget of %.1f ms", latency_ms, share, aim_ms)


def warn_of_collapse(mixing: Mixing, space: Space, latency_ms: float, aim_ms: float, penalty_weight: float) -> None:
    """Warn of each group of cells whose nodes all favour an operation without parameters, and of the likely cause."""
    if latency_ms > NEAR * aim_ms:
        cause = f"The budget of {aim_ms} ms (latency weighs {penalty_weight:.2g}) outweighs accuracy. Raise the budget"
    else:
        cause = (
            f"L_t, {latency_ms:.1f} ms, leaves room in the budget of {aim_ms} ms. So operations that work without "
            "learning lead. Raise warm_up_epochs, or leave some of them out of space#operations"
        )
    for group, nodes in mixing.nodes.items():
        # before decode_cells replaces repeated nodes, which would hide a collapse
        if all(space.operations[int(p.argmax()) % len(space.operations)] in PARAMETER_FREE for p in nodes):
            logger.warning("Every node of the %s cells favours an operation without parameters. %s.", group, cause)
