from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from scripts.space.architecture import Architecture
from scripts.space.sampling import _random_path, random_architecture
from scripts.space.space import Space
from scripts.space.trellis import Tile


@pytest.fixture
def space():
    return Space(layers=5, scales=3, nodes=2, channels=4, deployment_size=(16, 16, 3))


def test_architectures_are_valid_and_differ(space, tmp_path):
    random = Random(0)
    architectures = [random_architecture(space, random) for _ in range(30)]
    for architecture in architectures:
        architecture.save(tmp_path / "a.json")
        assert Architecture.load(tmp_path / "a.json").digest == architecture.digest
        assert all(len(set(nodes)) == space.nodes for nodes in architecture.cells.values())
    assert {len(architecture.paths) for architecture in architectures} == set(range(1, 9))
    assert len(random_architecture(space, random, paths=3).paths) == 3


def test_cells_that_share_operations_by_scale_are_drawn_by_scale(tmp_path):
    space = Space(layers=5, scales=3, nodes=2, channels=4, deployment_size=(16, 16, 3), share_cells="scale")
    groups = {f"contracting_{s}" for s in (0, 1)} | {f"expanding_{s}" for s in (1, 2)}
    groups |= {f"non_scaling_{s}" for s in (0, 1, 2)}
    assert set(space.groups) == groups
    architecture = random_architecture(space, Random(1), paths=4)
    assert architecture.cells.keys() == groups
    for cell in architecture.union:
        assert architecture.nodes_of(cell) == architecture.cells[f"{cell.kind}_{cell.source}"]
    architecture.save(tmp_path / "a.json")
    assert Architecture.load(tmp_path / "a.json") == architecture


@pytest.mark.parametrize("through", [None, Tile(3, 1), Tile(2, 2)])
def test_every_path_is_as_likely_as_any_other(space, through):
    random = Random(0)
    expected = [p for p in space.trellis.paths() if through is None or p[through.layer] == through.scale]
    drawn = Counter(_random_path(space, random, through) for _ in range(300 * len(expected)))
    assert drawn.keys() == set(expected)
    assert all(230 < count < 370 for count in drawn.values())  # 300 each; the standard deviation is 17


def test_at_most_all_existing_paths_are_requested():
    space = Space(layers=2, scales=2, nodes=1, channels=4, deployment_size=(16, 16, 3))
    assert len(random_architecture(space, Random(0), paths=8).paths) == space.trellis.path_count == 2


@pytest.mark.parametrize("ends", [{"start": "any", "end": "any"}, {}, {"skip": True}])
def test_sampled_subgraphs_are_feasible(ends, tmp_path):
    """Every edge is on a way from a start to an end within the sample, checked by walking it, not by its paths."""
    space = Space(4, 3, 1, 4, operations=("identity", "conv_3x3x3"), share_cells=False, join="mean", **ends)
    random, sizes, seen = Random(0), set(), set()
    for _ in range(300):
        architecture = random_architecture(space, random)
        cells = set(architecture.union)
        fore = {(0, s) for s in space.trellis.starts}
        for layer in range(1, 5):
            leaving = [c for c in cells if c.layer == layer]
            assert leaving and all(tuple(c.source_tile) in fore for c in leaving)
            fore = {tuple(c.target_tile) for c in leaving}
        assert {s for _, s in fore} <= set(space.trellis.ends)
        assert all(any(d.source_tile == c.target_tile for d in cells) for c in cells if c.layer < 4)
        assert architecture.cells.keys() == {c.name for c in cells if not c.skip}
        architecture.save(tmp_path / "a.json")
        assert Architecture.load(tmp_path / "a.json").digest == architecture.digest
        sizes.add(len(cells))
        seen |= cells
    assert seen == set(space.trellis.cells)  # every edge is drawn at least once
    assert min(sizes) == 4  # single paths, and all of it
    assert max(sizes) == len(space.trellis.cells)
