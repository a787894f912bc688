from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.latency.counts import keys_of
from scripts.latency.table import Entry, LatencyTable
from scripts.latency.timer import Timing
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing
from scripts.space.provenance import Provenance
from scripts.space.space import Space

PATHS = ((0, 0, 1, 0, 0), (0, 0, 1, 1, 0), (0, 1, 1, 1, 0))


@pytest.fixture
def space() -> Space:
    return Space(layers=4, scales=3, nodes=2, channels=8, deployment_size=(32, 32, 5))


@pytest.fixture
def architecture(space: Space) -> Architecture:
    cells: Any = {
        "contracting": ((0, "conv_3x3x3"), (0, "max_pool_3x3x3")),
        "non_scaling": ((0, "identity"), (1, "conv_3x3x3")),
        "expanding": ((0, "separable_conv_3x3x3"), (1, "dilated_conv_3x3x3")),
    }
    measured = {"median_ms": 43.21, "p95_ms": 45.67}
    return Architecture(space, cells, PATHS, Provenance(predicted_ms=41.5, measured_ms=measured, budget_ms=50.0))


@pytest.fixture
def mixing(space: Space) -> Mixing:
    """Random probabilities of a fixed seed, each softmax summing to 1."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda n: torch.softmax(2 * torch.randn(n, generator=generator), 0)  # noqa: E731
    operations = len(space.operations)
    nodes = {k: [draw(i * operations).view(i, -1) for i in range(1, space.nodes + 1)] for k in space.trellis.kinds}
    cells = {}
    for exits in space.trellis.exits.values():
        cells.update(zip(exits, draw(len(exits)), strict=True))
    return Mixing(nodes, cells)


@pytest.fixture
def table(space: Space) -> LatencyTable:
    """Different costs, so that no entry can be mistaken for another."""
    costs = {key: 0.25 + 0.5 * i for i, key in enumerate(sorted(keys_of(space)))}
    return LatencyTable({key: Entry(ms, Timing(ms, ms, ms, 0.0, 3)) for key, ms in costs.items()}, {}, {}, {})


@pytest.fixture
def history(mixing: Mixing, space: Space) -> dict[str, Any]:
    """Two epochs of warm-up, then three alternating ones."""
    shares = dict.fromkeys(space.trellis.kinds, 0.4)
    epochs = [
        {
            "epoch": number,
            "weight_loss": 1.0 / number,
            "accuracy_loss": None if number <= 2 else 1.2 / number,
            "latency_ms": 60.0 - number,
            "penalty_weight": 0.0 if number <= 2 else 0.1 * number,
            "entropy": {**shares, "beta": 0.9},
            "parameter_free_share": shares,
            "mixing": mixing.to_lists(),
        }
        for number in range(1, 6)
    ]
    return {"format": "rtdnas-search-1", "budget_ms": 50.0, "epochs": epochs}


@pytest.fixture
def pixels() -> Callable[[Figure], np.ndarray]:
    """Draws a figure: H W 3, as on the screen, row 0 at the top."""

    def draw(figure: Figure) -> np.ndarray:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)

    return draw
