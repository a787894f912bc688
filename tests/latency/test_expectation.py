from __future__ import annotations

import itertools

import pytest
import torch

from scripts.latency.expectation import LatencyExpectation
from scripts.search.derive import decode_cells
from scripts.search.relaxation import JointSoftmax
from scripts.space.architecture import Architecture
from scripts.space.trellis import Cell, union_of


@pytest.fixture
def relaxation(space):
    relaxation = JointSoftmax(space).double()
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()
    return relaxation


@pytest.fixture
def table(space, make_table):
    costs = {name: 0.3 + n for n, name in enumerate(space.operations)}
    return make_table(space, lambda name, scale: costs.get(name, 0.7) / (scale + 1))


def ends(table):
    return table["stem", 0] + table["head", 0]


def expected_cell(mixing, space, table, cell, reading):
    """ms of a cell by hand: loops over nodes, inputs and operations."""
    nodes = mixing.nodes[cell.kind]
    edges = {}
    for i, p in enumerate(nodes, start=1):
        for j in range(i):
            edges[j, i] = sum(float(p[j, o]) * table[name, cell.source] for o, name in enumerate(space.operations))
            if reading == "critical_path":
                edges[j, i] /= float(p[j].sum())
    if reading == "sequential":
        return sum(edges.values()) + table.scaling(cell)
    last = len(nodes)
    routes = ((0, *middle, last) for count in range(last) for middle in itertools.combinations(range(1, last), count))
    return max(sum(edges[a, b] for a, b in itertools.pairwise(route)) for route in routes) + table.scaling(cell)


@pytest.mark.parametrize("cell", ["sequential", "critical_path"])
def test_paths_reading_is_the_mean_over_all_paths(space, relaxation, table, cell):
    """Eq. 5 with k_c from Fig. 3 of the supplement, against enumerating every path."""
    with torch.no_grad():
        mixing = relaxation()
        value = float(LatencyExpectation(table, space, cell, "paths")(mixing))
    paths = list(space.trellis.paths())
    sums = [sum(expected_cell(mixing, space, table, c, cell) for c in union_of([path])) for path in paths]
    assert value == pytest.approx(ends(table) + sum(sums) / len(paths))


@pytest.mark.parametrize("cell", ["sequential", "critical_path"])
def test_derived_reading_sums_the_derived_cells(space, relaxation, table, cell):
    with torch.no_grad():
        mixing = relaxation()
        paths = [(0, 1, 2, 1, 0), (0, 1, 1, 1, 0)]
        value = float(LatencyExpectation(table, space, cell, "derived")(mixing, paths))
    merges = table["merge", 1]  # both paths' cells end at tile (3, 1); at layer 2 they end apart
    expected = ends(table) + merges + sum(expected_cell(mixing, space, table, c, cell) for c in union_of(paths))
    assert value == pytest.approx(expected)


def test_longest_path_of_equation_4_is_the_sum_over_the_nodes(space, relaxation, table):
    """Eq. 3 sums over j, so an edge's cost depends on its end alone: the longest path visits every node."""
    with torch.no_grad():
        mixing = relaxation()
    cell = Cell(1, 0, 0)
    lat = [
        sum(float(p[j, o]) * table[name, 0] for j in range(len(p)) for o, name in enumerate(space.operations))
        for p in mixing.nodes[cell.kind]
    ]
    nodes = range(1, space.nodes)
    longest = max(
        sum(lat[i - 1] for i in (*middle, space.nodes))
        for count in range(space.nodes)
        for middle in itertools.combinations(nodes, count)
    )
    value = float(LatencyExpectation(table, space, "sequential", "derived")(mixing, [(0, 0, 0, 0, 0)]))
    assert value == pytest.approx(ends(table) + 4 * (longest + table.scaling(cell)))


@pytest.mark.parametrize("cell", ["sequential", "critical_path"])
@pytest.mark.parametrize("network", ["paths", "derived"])
def test_gradient_against_finite_differences(space, relaxation, table, cell, network):
    expectation = LatencyExpectation(table, space, cell, network)
    derived = [(0, 1, 2, 1, 0), (0, 0, 1, 1, 0)]
    alpha = list(relaxation.alpha.values())

    def latency(*values):
        mixing = torch.func.functional_call(
            relaxation, {f"alpha.{name}": value for name, value in zip(relaxation.alpha, values, strict=True)}
        )
        return expectation(mixing, derived)

    assert torch.autograd.gradcheck(latency, [parameter.detach().requires_grad_() for parameter in alpha])


def test_beta_takes_no_part(space, relaxation, table):
    expectation = LatencyExpectation(table, space, "sequential", "paths")
    expectation(relaxation()).backward()
    assert all(parameter.grad is None for parameter in relaxation.beta.values())
    assert all(parameter.grad.abs().sum() > 0 for parameter in relaxation.alpha.values())


def test_a_decided_search_expects_what_its_network_is_predicted_to_take(space, relaxation, table):
    with torch.no_grad():
        for parameter in relaxation.alpha.values():
            parameter *= 1e4
        mixing = relaxation()
        paths = ((0, 1, 2, 1, 0), (0, 0, 1, 1, 0))
        value = float(LatencyExpectation(table, space)(mixing, paths))
    assert value == pytest.approx(table.predict(Architecture(space, decode_cells(mixing, space), paths)))
