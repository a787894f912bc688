from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from conftest import table_of
from small_search import SPACE as SMALL_SPACE
from small_search import small_search

from scripts.core.errors import CineError
from scripts.latency.expectation import LatencyExpectation
from scripts.search.discrete import draw_network
from scripts.search.relaxation import JointSoftmax
from scripts.space.mixing import Mixing
from scripts.space.passing import drawn, passing
from scripts.space.space import Space
from scripts.space.supernet import Supernet
from scripts.space.trellis import union_of

SPACE = Space(layers=3, scales=2, nodes=2, channels=4, deployment_size=(8, 8, 2))
DRAWS = 1500


@pytest.fixture
def relaxation():
    torch.manual_seed(2)
    relaxation = JointSoftmax(SPACE)
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()
    return relaxation


def draws(mixing: Mixing, count: int, number: int = DRAWS):
    generator = torch.Generator().manual_seed(0)
    return [draw_network(mixing, SPACE, count, generator) for _ in range(number)]


def test_pairs_and_cells_occur_as_often_as_their_probabilities_say(relaxation):
    with torch.no_grad():
        mixing = relaxation()
        found = draws(mixing, 2)
    pairs, cells = Counter(), Counter()
    for one in found:
        for kind, nodes in one.architecture.cells.items():
            pairs.update((kind, i, *node) for i, node in enumerate(nodes))
        cells.update(union_of(one.architecture.paths))
    for kind, tables in mixing.nodes.items():
        for i, p_jO in enumerate(tables):
            for j, row in enumerate(p_jO.tolist()):
                for name, p in zip(SPACE.operations, row, strict=True):
                    assert pairs[kind, i, j, name] / DRAWS == pytest.approx(p, abs=0.05)
    passed = passing(mixing, SPACE.trellis).cells
    for cell, p in passed.items():
        assert cells[cell] / DRAWS == pytest.approx(float(drawn(p, 2)), abs=0.05)


def test_gates_change_nothing_in_the_forward_pass(relaxation):
    supernet = Supernet(SPACE, partial=1)
    image = torch.randn(2, 1, 8, 8, 2)
    one = draws(relaxation(), 2, 1)[0]
    torch.testing.assert_close(one.forward_of(supernet)(image), supernet.run_one(image, one.architecture))


def test_a_gate_has_the_gradient_of_its_probability(relaxation):
    mixing = relaxation()
    one = draws(mixing, 2, 1)[0]
    passed = passing(mixing, SPACE.trellis).cells
    weights = {cell: 1.0 + i for i, cell in enumerate(one.cells)}
    parameters = list(relaxation.parameters())
    of_gates = torch.autograd.grad(
        sum(weights[cell] * gate for cell, gate in one.cells.items())
        + sum(gate for gates in one.nodes.values() for gate in gates),
        parameters,
        retain_graph=True,
    )
    picked = [
        mixing.nodes[kind][i][j, SPACE.operations.index(name)]
        for kind, nodes in one.architecture.cells.items()
        for i, (j, name) in enumerate(nodes)
    ]
    by_hand = torch.autograd.grad(
        sum(weights[cell] * (1 - (1 - passed[cell]) ** 2) for cell in one.cells) + sum(picked), parameters
    )
    for ours, theirs in zip(of_gates, by_hand, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_loss_reaches_alpha_and_beta_through_the_gates(relaxation):
    supernet = Supernet(SPACE, partial=1)
    draws(relaxation(), 2, 1)[0].forward_of(supernet)(torch.randn(2, 1, 8, 8, 2)).square().sum().backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in relaxation.alpha.values())
    assert any(parameter.grad.abs().sum() > 0 for parameter in relaxation.beta.values())


def test_skip_edges_are_refused(tmp_path):
    space = replace(SMALL_SPACE, skip=True)
    parts = {"supernet": Supernet(space, partial=1), "relaxation": JointSoftmax(space)}
    with pytest.raises(CineError, match="skip True"):
        small_search(tmp_path, discrete=True, expectation=LatencyExpectation(table_of(space), space), **parts)


def test_partial_channels_are_refused(tmp_path):
    with pytest.raises(CineError, match="partial_channels 2"):
        small_search(tmp_path, discrete=True, supernet=Supernet(SMALL_SPACE, partial=2))
