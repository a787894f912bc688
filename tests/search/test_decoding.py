from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small_search import random_mixing

from scripts.search.decoding import cell_pool, decode_cells, gene_pool, pool_overlap
from scripts.search.relaxation import JointSoftmax, uniform_mixing
from scripts.space.mixing import Mixing
from scripts.space.space import Space
from scripts.space.trellis import cells_of


@pytest.fixture
def space():
    return Space(layers=6, scales=4, nodes=2, channels=4, deployment_size=(16, 16, 3))


def test_cells_decode_to_the_most_probable_pair(space):
    relaxation = JointSoftmax(space)
    with torch.no_grad():
        relaxation.alpha["contracting_2"][1, 3] = 1
        cells = decode_cells(relaxation(), space)
    assert cells["contracting"] == ((0, "conv_3x3x3"), (1, "max_pool_3x3x3"))
    assert cells["expanding"] == ((0, "conv_3x3x3"), (0, "conv_3x3x3"))  # all equal: the first


def test_a_node_that_repeats_another_decodes_to_the_next_best(space):
    """Identity is the first choice of both nodes, then pooling: X_1 = X_0 is a shortcut, X_2 = X_0 would be a copy."""
    relaxation = JointSoftmax(space)
    identity, pool = space.operations.index("identity"), space.operations.index("max_pool_3x3x3")
    with torch.no_grad():
        for table in relaxation.alpha.values():
            table[:, identity], table[:, pool] = 2, 1
        cells = decode_cells(relaxation(), space)
    assert cells["contracting"] == ((0, "identity"), (0, "max_pool_3x3x3"))


def test_edge_first_chooses_the_likelier_edge_and_then_its_operation(space):
    """gamma .6 and .4, alpha .3 and .9: the best pair is on the less likely edge."""
    p = torch.tensor([[0.6 * 0.3, 0.6 * 0.25, 0.6 * 0.2, 0.6 * 0.15, 0.6 * 0.1], [0.4 * 0.9, 0.01, 0.01, 0.01, 0.01]])
    first = torch.tensor([[0.1, 0.1, 0.1, 0.1, 0.6]])
    mixing = Mixing({"contracting": [first, p]}, {})
    assert decode_cells(mixing, space)["contracting"] == ((0, "identity"), (1, "conv_3x3x3"))
    assert decode_cells(mixing, space, "edge_first")["contracting"] == ((0, "identity"), (0, "conv_3x3x3"))


def test_zero_is_never_decoded(space):
    with_zero = replace(space, operations=("zero", "max_pool_3x3x3", "conv_3x3x3"))
    mixing = Mixing(
        {"expanding": [torch.tensor([[0.8, 0.15, 0.05]]), torch.tensor([[0.5, 0.2, 0.1], [0.2, 0, 0]])]}, {}
    )
    cells = decode_cells(mixing, with_zero)
    assert cells["expanding"] == ((0, "max_pool_3x3x3"), (0, "conv_3x3x3"))  # pooled X_0 is already computed


@pytest.mark.parametrize("score", ["sum", "product", "lift"])
@pytest.mark.parametrize("skip", [False, True])
def test_the_pool_equals_brute_force(space, score, skip):
    space = replace(space, skip=skip)
    mixing = random_mixing(space)
    exits = {cell: len(cells) for cells in space.trellis.exits.values() for cell in cells}

    def weight(path):
        p = [float(mixing.cells[cell]) for cell in cells_of(path)]
        if score == "sum":
            return sum(p)
        if score == "product":
            return math.log(math.prod(p))
        return sum(math.log(value * exits[cell]) for value, cell in zip(p, cells_of(path), strict=True))

    ranked = sorted(space.trellis.paths(), key=weight, reverse=True)[:10]
    pool = gene_pool(mixing, space, 10, score)
    assert [path for _, path in pool] == ranked
    assert [w for w, _ in pool] == pytest.approx([weight(path) for path in ranked])


def test_overlap_of_pools(space):
    uniform = gene_pool(uniform_mixing(space), space, 10)
    assert pool_overlap(uniform, uniform) == 1
    assert pool_overlap(uniform[:4], uniform[2:]) == 0.5


def test_the_cell_pool_starts_with_decoded_cells_and_continues_by_probability(space):
    mixing = random_mixing(space, 3)
    decoded = decode_cells(mixing, space)
    for group, pool in cell_pool(mixing, space, 12).items():
        assert pool[0] == decoded[group]
        assert len(set(pool)) == 12
        chances = []
        for nodes in pool[1:]:
            chances.append(
                math.prod(
                    float(p[j, space.operations.index(name)])
                    for p, (j, name) in zip(mixing.nodes[group], nodes, strict=True)
                )
            )
        assert chances == sorted(chances, reverse=True)
    assert cell_pool(mixing, space, 1) == {group: [nodes] for group, nodes in decoded.items()}


def test_candidates_of_the_cell_pool_compute_different_results():
    """Two operations and two nodes give 2 x 4 pairs; identity of X_0 twice, directly or through X_1, is left out."""
    space = Space(2, 2, 2, 4, 2, ("identity", "conv_3x3x3"), (16, 16, 3))
    pool = cell_pool(uniform_mixing(space), space, 99)["contracting"]
    same = {((0, "identity"), (0, "identity")), ((0, "identity"), (1, "identity"))}
    same |= {((0, "conv_3x3x3"), (1, "identity"))}
    every = {((0, a), (j, b)) for a in space.operations for j in (0, 1) for b in space.operations}
    assert set(pool) == every - same
