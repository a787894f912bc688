from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from scripts.space.architecture import Architecture, Space
from scripts.space.sampling import _random_path, random_architecture
from scripts.space.trellis import Tile


@pytest.fixture
def space():
    return Space(layers=5, scales=3, nodes=2, channels=4, deployment_size=(16, 16, 3))


def test_architectures_are_whole_and_differ(space, tmp_path):
    random = Random(0)
    architectures = [random_architecture(space, random) for _ in range(30)]
    for architecture in architectures:
        architecture.save(tmp_path / "a.json")
        assert Architecture.load(tmp_path / "a.json").digest == architecture.digest
        assert all(len(set(nodes)) == space.nodes for nodes in architecture.cells.values())
    assert {len(architecture.paths) for architecture in architectures} == set(range(1, 9))
    assert len(random_architecture(space, random, paths=3).paths) == 3


@pytest.mark.parametrize("through", [None, Tile(3, 1), Tile(2, 2)])
def test_every_path_is_as_likely_as_any_other(space, through):
    random = Random(0)
    expected = [p for p in space.trellis.paths() if through is None or p[through.layer] == through.scale]
    drawn = Counter(_random_path(space, random, through) for _ in range(300 * len(expected)))
    assert drawn.keys() == set(expected)
    assert all(230 < count < 370 for count in drawn.values())  # 300 each; the standard deviation is 17


def test_more_paths_than_there_are_are_not_asked_for():
    space = Space(layers=2, scales=2, nodes=1, channels=4, deployment_size=(16, 16, 3))
    assert len(random_architecture(space, Random(0), paths=8).paths) == space.trellis.path_count == 2
