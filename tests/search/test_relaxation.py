from __future__ import annotations

import math

import pytest
import torch

from scripts.search.relaxation import JointSoftmax, entropies, parameter_free_share, uniform_mixing
from scripts.space.trellis import Cell


def test_one_softmax_over_all_pairs_of_a_node(space):
    relaxation = JointSoftmax(space)
    with torch.no_grad():
        relaxation.alpha["expanding_2"][1, 3] = math.log(2)
        node = relaxation().nodes["expanding"][1]
    assert node.shape == (2, 5)
    assert node.sum() == pytest.approx(1)
    assert float(node[1, 3]) == pytest.approx(2 / 11)
    assert float(node[0, 0]) == pytest.approx(1 / 11)


def test_beta_is_a_softmax_over_the_cells_that_leave_a_tile(space):
    relaxation = JointSoftmax(space)
    with torch.no_grad():
        relaxation.beta["tile0_0"][1] = math.log(3)
        cells = relaxation().cells
    assert set(cells) == set(space.trellis.cells)
    assert float(cells[Cell(1, 0, 1)]) == pytest.approx(3 / 4)
    assert float(cells[Cell(2, 1, 2)]) == pytest.approx(1 / 3)
    assert float(cells[Cell(4, 1, 0)]) == 1  # its only exit
    for exits in space.trellis.exits.values():
        assert sum(float(cells[c]) for c in exits) == pytest.approx(1)


def test_entropy_falls_from_1_to_0_as_the_search_decides(space):
    assert entropies(uniform_mixing(space), space) == pytest.approx(
        {"contracting": 1, "non_scaling": 1, "expanding": 1, "beta": 1}
    )
    relaxation = JointSoftmax(space)
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.flatten()[0] = 100
        assert max(entropies(relaxation(), space).values()) < 1e-6


def test_parameter_free_share_by_hand(space):
    """Two of five operations have no parameters; node 1 of contracting is pushed to identity, index 4."""
    relaxation = JointSoftmax(space)
    with torch.no_grad():
        relaxation.alpha["contracting_1"][0, 4] = math.log(4)
        shares = parameter_free_share(relaxation(), space)
    assert shares["expanding"] == pytest.approx(2 / 5)
    assert shares["contracting"] == pytest.approx((5 / 8 + 2 / 5) / 2)
