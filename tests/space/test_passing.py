from __future__ import annotations

from collections import Counter

import pytest
import torch
from small_search import random_mixing

from scripts.search.relaxation import uniform_mixing
from scripts.space.passing import drawn, passing
from scripts.space.space import Space
from scripts.space.trellis import Tile, cells_of


@pytest.mark.parametrize("skip", [False, True])
def test_the_passing_probability_of_a_cell_is_the_sum_over_its_paths(skip):
    """Compared with the enumeration of all paths; a path's probability is the product of its cells' probabilities."""
    space = Space(5, 3, 1, 4, deployment_size=(16, 16, 3), skip=skip)
    mixing = random_mixing(space)
    expected: Counter = Counter()
    for path in space.trellis.paths():
        p = torch.stack([mixing.cells[cell] for cell in cells_of(path)]).prod()
        for cell in cells_of(path):
            expected[cell] += float(p)
    found = passing(mixing, space.trellis).cells
    assert set(found) == set(space.trellis.cells)
    assert all(float(found[cell]) == pytest.approx(expected[cell], rel=1e-5) for cell in found)


def test_every_layer_is_passed_exactly_once():
    space = Space(6, 4, 1, 4, deployment_size=(16, 16, 3))
    tiles = passing(random_mixing(space), space.trellis).tiles
    for layer in range(space.layers + 1):
        of_layer = [float(p) for tile, p in tiles.items() if tile.layer == layer]
        assert sum(of_layer) == pytest.approx(1)


def test_several_starts_are_equally_likely():
    space = Space(2, 2, 1, 4, 2, ("conv_3x3x3",), (16, 16, 3), start="any", end="any")
    tiles = passing(uniform_mixing(space), space.trellis).tiles
    assert [float(tiles[Tile(0, s)]) for s in (0, 1)] == [0.5, 0.5]


def test_drawn_is_one_minus_the_chance_that_every_path_misses():
    assert float(drawn(torch.tensor(0.25), 1)) == 0.25
    assert float(drawn(torch.tensor(0.25), 3)) == 1 - 0.75**3
    assert float(drawn(torch.tensor(1 + 1e-7), 2)) == 1
