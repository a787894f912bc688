"""Decode mixing weights (RT-DNAS 2.3): the most probable pairs give the cells, and the best paths form a pool."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from typing import Literal

from scripts.space.architecture import Node
from scripts.space.mixing import Mixing
from scripts.space.registry import PARAMETER_FREE, ZERO
from scripts.space.space import Space
from scripts.space.trellis import Path

Score = Literal["sum", "product", "lift"]
Decoding = Literal["joint", "edge_first"]
Pool = Sequence[tuple[float, Path]]


def decode_cells(mixing: Mixing, space: Space, decoding: Decoding = "joint") -> dict[str, tuple[Node, ...]]:
    """For each node the most probable (input, operation) that computes something new; the first one wins a tie.

    A node that repeats an earlier one (such as identity of X_0 again) or computes nothing would add nothing to the
    concatenation. The next most probable pair replaces it.

    Args:
        mixing: mixing weights.
        space: the search space.
        decoding: "joint": by p[j, o]. "edge_first": first by the probability of the edge, which is the sum of p[j, o]
            over o, then by that of the operation on this edge (hardware-aware NAS 3.5).
    """
    return {group: _decode_nodes([p.tolist() for p in nodes], space, decoding) for group, nodes in mixing.nodes.items()}


def _decode_nodes(tables: list[list[list[float]]], space: Space, decoding: Decoding) -> tuple[Node, ...]:
    nodes: list[Node] = []
    computed: list[tuple] = [()]  # what X_0, X_1, ... compute; two operations with weights never compute the same
    for table in tables:
        pairs = [
            (sum(row) if decoding == "edge_first" else 0.0, p, j, name)
            for j, row in enumerate(table)
            for p, name in zip(row, space.operations, strict=True)
            if name != ZERO
        ]
        pairs.sort(key=lambda pair: (-pair[0], -pair[1]))
        options = [(j, name, _result(name, computed[j], len(computed))) for _, _, j, name in pairs]
        j, name, result = next((option for option in options if option[2] not in computed[1:]), options[0])
        nodes.append((j, name))
        computed.append(result)
    return tuple(nodes)


def _result(name: str, source: tuple, node: int) -> tuple:
    if name == "identity":
        return source
    return (*source, name) if name in PARAMETER_FREE else (*source, name, node)


def cell_pool(
    mixing: Mixing, space: Space, size: int, decoding: Decoding = "joint"
) -> dict[str, list[tuple[Node, ...]]]:
    """For each group of cells the decoded nodes, and then the next most probable nodes that compute something new.

    Args:
        mixing, space, decoding: see ``decode_cells``.
        size: the number of candidates of a group, if there are enough.
    """
    pools = {}
    for group, decoded in decode_cells(mixing, space, decoding).items():
        if size == 1:
            pools[group] = [decoded]
            continue
        found: dict[tuple[Node, ...], float] = {}
        for pairs in itertools.product(*(_pairs(p_jO.tolist(), space, size) for p_jO in mixing.nodes[group])):
            computed: list[tuple] = [()]
            for (j, name), _ in pairs:
                computed.append(_result(name, computed[j], len(computed)))
            if len(set(computed[1:])) == len(pairs):
                found[tuple(node for node, _ in pairs)] = math.prod(p for _, p in pairs)
        found[decoded] = math.inf
        pools[group] = heapq.nsmallest(size, found, key=lambda nodes: (-found[nodes], nodes))
    return pools


def _pairs(table: list[list[float]], space: Space, size: int) -> list[tuple[Node, float]]:
    """The most probable (input, operation) pairs that compute something, with their probabilities."""
    pairs = [
        ((j, name), p)
        for j, row in enumerate(table)
        for p, name in zip(row, space.operations, strict=True)
        if name != ZERO
    ]
    return heapq.nsmallest(size, pairs, key=lambda pair: -pair[1])


def gene_pool(mixing: Mixing, space: Space, size: int, score: Score = "sum") -> list[tuple[float, Path]]:
    """The ``size`` best distinct paths by accumulated weight, best first.

    ``score`` defines the weight of a path. "sum" is the sum of probabilities. "product" is their product
    (hardware-aware NAS Eq. 10, as its logarithm). "lift" is the sum of log(p x number of exits); a single
    exit adds nothing to it.
    """
    cells = {}
    for exits in space.trellis.exits.values():
        for cell in exits:
            p = float(mixing.cells[cell])
            cells[cell] = p if score == "sum" else math.log(max(p, 1e-30) * (1 if score == "product" else len(exits)))
    return space.trellis.best_paths(size, cells)


def pool_overlap(pool: Pool, other: Pool) -> float:
    """The share of a pool's paths that are also in another pool."""
    return len({path for _, path in pool} & {path for _, path in other}) / len(pool)
