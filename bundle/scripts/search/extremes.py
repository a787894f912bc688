"""The least and the largest L_t that a space allows: whether a budget can bind, and whether it can be kept."""

from __future__ import annotations

import torch

from scripts.latency.expectation import LatencyExpectation
from scripts.search.relaxation import JointSoftmax

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
