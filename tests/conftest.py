"""Fixtures built in code; nothing is downloaded."""

from __future__ import annotations

import pytest
import torch

from scripts.latency.counts import keys_of
from scripts.latency.table import Entry, LatencyTable
from scripts.latency.timer import Timing
from scripts.space.architecture import Architecture
from scripts.space.space import Space

LONGEST = ("tests/test_commands.py", "tests/compare/", "tests/test_distributed.py", "tests/search/test_one_shot.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that the processes of pytest-xdist end together."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _logging_stays(monkeypatch):
    """MONAI's run() configures the root logger, which closes pytest's handlers and shows INFO to all later tests."""
    monkeypatch.setattr("monai.bundle.workflows.fileConfig", lambda *_, **__: None)


@pytest.fixture
def space() -> Space:
    """Small enough to enumerate, large enough to have every kind of cell."""
    return Space(layers=4, scales=3, nodes=2, channels=4, stem_stride=2, deployment_size=(16, 16, 3))


@pytest.fixture
def architecture(space: Space) -> Architecture:
    return Architecture(
        space,
        {
            "contracting": ((0, "conv_3x3x3"), (1, "max_pool_3x3x3")),
            "non_scaling": ((0, "separable_conv_3x3x3"), (0, "identity")),
            "expanding": ((0, "dilated_conv_3x3x3"), (1, "conv_3x3x3")),
        },
        ((0, 1, 2, 1, 0), (0, 0, 0, 0, 0)),
    )


def table_of(space: Space, ms=lambda name, scale: 1.0) -> LatencyTable:
    """A table with chosen latencies."""
    entries = {key: Entry(ms(*key), Timing(ms(*key), ms(*key), ms(*key), 0.0, 1)) for key in keys_of(space)}
    return LatencyTable(entries, {}, {}, {})


@pytest.fixture
def make_table():
    return table_of
