from __future__ import annotations

import torch

from scripts.baselines.dints import build_dints


def test_cells_are_those_of_the_edges_and_all_are_convolutions(capsys):
    edges = [[[0, 0], [0, 1]], [[0, 0], [1, 1]], [[0, 0], [1, 0]]]
    network = build_dints(1, 4, edges, scales=2)
    space = network.dints_space
    built = [(int(key.strip("()").split(", ")[0]), int(key.strip("()").split(", ")[1])) for key in space.cell_tree]
    assert [
        [[space.arch_code2in[i], space.arch_code2out[i]] for b, i in built if b == block] for block in range(3)
    ] == edges
    assert all(cell.op.ops[0].conv.kernel_size == (3, 3, 3) for cell in space.cell_tree.values())
    assert [[bool(node) for node in row] for row in network.node_a] == [[1, 0], [1, 1], [1, 1], [1, 0]]
    assert capsys.readouterr().out == ""


def test_the_finest_multiple_is_enough():
    network = build_dints(1, 4, [[[0, 0], [0, 1]], [[0, 0], [1, 0]]], scales=2)
    assert network(torch.randn(1, 1, 12, 8, 4)).shape == (1, 4, 12, 8, 4)
