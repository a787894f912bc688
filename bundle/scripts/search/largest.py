"""The largest L_t that a space allows: whether a budget can bind."""

from __future__ import annotations

import torch

from scripts.latency.expectation import LatencyExpectation
from scripts.search.relaxation import JointSoftmax

STEPS, RATE = 150, 0.3


def largest_expectation(expectation: LatencyExpectation) -> float:
    """L_t in ms of mixing weights that follow its gradient upwards, from uniform ones."""
    relaxation = JointSoftmax(expectation.space)
    optimizer = torch.optim.Adam(relaxation.parameters(), RATE, maximize=True)
    for _ in range(STEPS):
        optimizer.zero_grad()
        latency_ms = expectation(relaxation())
        latency_ms.backward()
        optimizer.step()
    with torch.no_grad():
        return float(expectation(relaxation()))
