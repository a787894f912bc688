from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scripts.core.errors import CineError
from scripts.search.relaxation import JointSoftmax, SeparateSoftmax, entropies, parameter_free_share, uniform_mixing
from scripts.space.space import Space
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


def test_separate_softmaxes_for_edge_and_operation(space):
    """Hardware-aware NAS Eq. 2 and 3, by hand: gamma over the inputs, alpha over the operations of each input."""
    relaxation = SeparateSoftmax(space)
    with torch.no_grad():
        relaxation.gamma["expanding_2"][1] = math.log(3)
        relaxation.alpha["expanding_2"][1, 3] = math.log(2)
        node = relaxation().nodes["expanding"][1]
    assert node[1].sum() == pytest.approx(3 / 4)
    assert float(node[1, 3]) == pytest.approx(3 / 4 * 2 / 6)
    assert float(node[0, 0]) == pytest.approx(1 / 4 * 1 / 5)


def test_separate_and_joint_softmax_start_equal(space):
    for name, nodes in SeparateSoftmax(space)().nodes.items():
        for separate, joint in zip(nodes, uniform_mixing(space).nodes[name], strict=True):
            torch.testing.assert_close(separate, joint)


def test_without_gumbel_the_latency_sees_the_probabilities(space):
    for relaxation in (JointSoftmax(space), SeparateSoftmax(space)):
        torch.testing.assert_close(relaxation.for_latency(0.5).to_lists(), relaxation().to_lists())


@pytest.mark.parametrize(("progress", "temperature"), [(0.0, 2.0), (0.5, 1.0), (1.0, 0.5)])
def test_gumbel_softmax_has_the_mean_of_the_integral(progress, temperature):
    """A choice between two: the difference of two Gumbel variables is logistic, so the first share is
    sigmoid((a - b + logistic) / temperature), and its mean is a one-dimensional integral."""
    space = Space(layers=2, scales=2, nodes=1, channels=4, deployment_size=(8, 8, 2))
    relaxation = SeparateSoftmax(space, gumbel=True, temperature=(2.0, 0.5))
    with torch.no_grad():
        relaxation.beta["tile0_0"][0] = 1.0
    u = np.linspace(0, 1, 200_001)[1:-1]
    expected = np.mean(1 / (1 + np.exp(-(1.0 + np.log(u / (1 - u))) / temperature)))
    torch.manual_seed(1)
    with torch.no_grad():
        drawn = np.array([float(relaxation.for_latency(progress).cells[Cell(1, 0, 0)]) for _ in range(4000)])
    assert drawn.mean() == pytest.approx(expected, abs=4 * drawn.std() / math.sqrt(len(drawn)))
    assert drawn.std() > 0.05


@pytest.mark.parametrize("temperature", [(0.0, 1.0), (1.0,), (1.0, float("nan"))])
def test_an_invalid_temperature_is_refused(space, temperature):
    with pytest.raises(CineError, match="temperature"):
        SeparateSoftmax(space, True, temperature)


@pytest.mark.parametrize("change", [{"share_cells": False}, {"join": "mean"}])
def test_a_space_that_cannot_be_relaxed_is_refused(space, change):
    with pytest.raises(CineError, match="hypersegnas"):
        JointSoftmax(replace(space, **change))
