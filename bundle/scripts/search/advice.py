"""Warnings about a search: a budget with no effect, a final L_t off the budget, collapsed cells."""

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
"""Latencies above this share of the budget are noticeably penalised."""
ENDS = (0.9, 1.05)
"""The range of L_t divided by the budget, for a search that should end at its budget."""
STEPS, RATE = 150, 0.3


def extreme_expectations(expectation: LatencyExpectation) -> tuple[float, float]:
    """L_t in ms after following its gradient down, and up, from nearly uniform mixing weights."""
    return _extreme(expectation, False), _extreme(expectation, True)


def _extreme(expectation: LatencyExpectation, largest: bool) -> float:
    relaxation = JointSoftmax(expectation.space)
    generator = torch.Generator().manual_seed(0)
    for parameter in relaxation.parameters():  # uniform weights may lie on a saddle point
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    optimizer = torch.optim.Adam(relaxation.parameters(), RATE, maximize=largest)
    for _ in range(STEPS):
        optimizer.zero_grad()
        expectation(relaxation()).backward()
        optimizer.step()
    with torch.no_grad():
        return float(expectation(relaxation()))


def warn_of_a_budget_that_cannot_bind(expectation: LatencyExpectation, aim_ms: float) -> None:
    """Warn if all networks of the space are below the budget, or all are above it."""
    min_ms, largest_ms = extreme_expectations(expectation)
    if largest_ms < aim_ms:
        logger.warning(
            "All networks are below the budget: the largest networks of %d paths take about %.1f ms, the budget "
            "is %.1f ms. Raise space#channels or paths, or lower budget_ms",
            *(expectation.count, largest_ms, aim_ms),
        )
    if min_ms > aim_ms:
        logger.warning(
            "All networks are above the budget: the fastest networks take about %.1f ms, the budget is %.1f ms. "
            "Raise budget_ms, or lower space#channels or space#layers",
            *(min_ms, aim_ms),
        )


def log_how_it_ended(latency_ms: float, aim_ms: float, must_bind: bool) -> None:
    """Log L_t and its share of the budget; warn if it had to end at the budget but did not."""
    share = latency_ms / aim_ms
    level = logging.INFO if ENDS[0] <= share <= ENDS[1] or not must_bind else logging.WARNING
    logger.log(level, "L_t ended at %.1f ms, %.2f of the budget of %.1f ms", latency_ms, share, aim_ms)


def warn_of_collapse(mixing: Mixing, space: Space, latency_ms: float, aim_ms: float, penalty_weight: float) -> None:
    """Warn about groups of cells whose nodes all prefer an operation without parameters, and name the likely cause."""
    if latency_ms > NEAR * aim_ms and penalty_weight <= 0:
        cause = f"Accuracy itself prefers them (latency weighs {penalty_weight:.2g}). Raise warm_up_epochs"
    elif latency_ms > NEAR * aim_ms:
        cause = f"The budget of {aim_ms} ms (latency weighs {penalty_weight:.2g}) outweighs accuracy. Raise the budget"
    else:
        cause = (
            f"L_t, {latency_ms:.1f} ms, leaves room in the budget of {aim_ms} ms. So operations without weights "
            "lead, since they work without training. Raise warm_up_epochs, or remove some of them from space#operations"
        )
    for group, nodes in mixing.nodes.items():
        # decode_cells would replace repeated nodes and so hide a collapse
        if all(space.operations[int(p.argmax()) % len(space.operations)] in PARAMETER_FREE for p in nodes):
            logger.warning("Every node of the %s cells prefers an operation without parameters. %s.", group, cause)
