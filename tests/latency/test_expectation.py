from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scripts.core.errors import CineError
from scripts.latency.expectation import LatencyExpectation
from scripts.search.decoding import decode_cells
from scripts.search.discrete import draw_network
from scripts.search.relaxation import JointSoftmax, SeparateSoftmax, uniform_mixing
from scripts.space.architecture import Architecture
from scripts.space.space import Space
from scripts.space.trellis import Cell, cells_of, union_of


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
    costs |= {f"{name}_chained": 0.2 + 0.9 * n for n, name in enumerate(space.operations)}
    return make_table(space, lambda name, scale: costs.get(name, 0.7) / (scale + 1))


def ends(table):
    return table["stem", 0] + table["head", 0]


def expected_cell(mixing, space, table, cell, reading):
    """ms of a cell by hand: loops over nodes, inputs and operations."""
    nodes = mixing.nodes[cell.kind]
    edges = {}
    for i, p in enumerate(nodes, start=1):
        for j in range(i):
            edges[j, i] = sum(
                float(p[j, o]) * table[name + "_chained" * (j > 0), cell.source]
                for o, name in enumerate(space.operations)
            )
            if reading == "critical_path":
                edges[j, i] /= float(p[j].sum())
    if reading == "sequential":
        return sum(edges.values()) + table.scaling(cell)
    last = len(nodes)
    routes = ((0, *middle, last) for count in range(last) for middle in itertools.combinations(range(1, last), count))
    return max(sum(edges[a, b] for a, b in itertools.pairwise(route)) for route in routes) + table.scaling(cell)


def applies(nodes, space):
    """The chance that at least one node applies max-pooling to the cell's input, by enumeration of the nodes."""
    chances = [float(p[0, space.operations.index("max_pool_3x3x3")]) for p in nodes]
    total = 0.0
    for does in itertools.product([False, True], repeat=len(chances)):
        if any(does):
            total += math.prod(chance if yes else 1 - chance for yes, chance in zip(does, chances, strict=True))
    return total


@pytest.mark.parametrize("cell", ["sequential", "critical_path"])
def test_paths_reading_is_the_mean_over_all_paths(space, relaxation, table, cell):
    """Eq. 5 with k_c from Fig. 3 of the supplement, compared with the enumeration of all paths."""
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
    merges = table["merge", 1]  # both paths' cells end at tile (3, 1); at layer 2 they end at different tiles
    # tile (2, 1) is the only one that two cells leave, a contracting and a non-scaling one
    applied = [applies(mixing.nodes[kind], space) for kind in ("contracting", "non_scaling")]
    both = applied[0] * applied[1]
    repeats = both * (table["max_pool_3x3x3_repeated", 1] - table["max_pool_3x3x3", 1])
    cells = sum(expected_cell(mixing, space, table, c, cell) for c in union_of(paths))
    expected = ends(table) + merges + cells + repeats
    assert value == pytest.approx(expected)


def test_longest_path_of_equation_4_is_the_sum_over_the_nodes(space, relaxation, table):
    """Eq. 3 sums over j, so an edge's cost depends only on its end: the longest path visits every node."""
    with torch.no_grad():
        mixing = relaxation()
    cell = Cell(1, 0, 0)
    lat = [
        sum(
            float(p[j, o]) * table[name + "_chained" * (j > 0), 0]
            for j in range(len(p))
            for o, name in enumerate(space.operations)
        )
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
def test_the_gradient_equals_finite_differences(space, relaxation, table, cell, network):
    expectation = LatencyExpectation(table, space, cell, network)
    derived = [(0, 1, 2, 1, 0), (0, 0, 1, 1, 0)]
    alpha = list(relaxation.alpha.values())

    def latency(*values):
        mixing = torch.func.functional_call(
            relaxation, {f"alpha.{name}": value for name, value in zip(relaxation.alpha, values, strict=True)}
        )
        return expectation(mixing, derived)

    assert torch.autograd.gradcheck(latency, [parameter.detach().requires_grad_() for parameter in alpha])


def test_beta_does_not_matter(space, relaxation, table):
    expectation = LatencyExpectation(table, space, "sequential", "paths")
    expectation(relaxation()).backward()
    assert all(parameter.grad is None for parameter in relaxation.beta.values())
    assert all(parameter.grad.abs().sum() > 0 for parameter in relaxation.alpha.values())


def test_the_expectation_of_a_decided_search_equals_its_network_s_prediction(space, relaxation, table):
    with torch.no_grad():
        for parameter in relaxation.alpha.values():
            parameter *= 1e4
        mixing = relaxation()
        paths = ((0, 1, 2, 1, 0), (0, 0, 1, 1, 0))
        value = float(LatencyExpectation(table, space, network="derived")(mixing, paths))
    assert value == pytest.approx(table.predict(Architecture(space, decode_cells(mixing, space), paths)))


@pytest.mark.parametrize(("count", "share_cells"), [(1, True), (2, "scale"), (4, True)])
def test_union_reading_is_the_mean_of_networks_drawn_at_random(space, table, count, share_cells):
    """Compared with Monte Carlo: paths and nodes drawn by their probabilities, each network predicted by the table."""
    space = replace(space, share_cells=share_cells)
    relaxation = JointSoftmax(space).double()
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()
        mixing = relaxation()
        value = float(LatencyExpectation(table, space, network="union", count=count)(mixing))
        generator = torch.Generator().manual_seed(5)
        drawn = [table.predict(draw_network(mixing, space, count, generator).architecture) for _ in range(1000)]
    assert value == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / math.sqrt(len(drawn)))
    assert np.std(drawn) > 0.02 * value


def test_union_reading_by_enumeration_of_all_pairs_of_paths(space, relaxation, table):
    """Two paths, one-hot cells: every ordered pair of paths with its probability."""
    with torch.no_grad():
        for parameter in relaxation.alpha.values():
            parameter *= 1e4
        mixing = relaxation()
        value = float(LatencyExpectation(table, space, network="union", count=2)(mixing))
    cells = decode_cells(mixing, space)
    if any(len(set(nodes)) < len(nodes) for nodes in cells.values()):
        pytest.fail("the seed gives nodes that decoding replaces; choose another")
    chances = {path: math.prod(float(mixing.cells[cell]) for cell in cells_of(path)) for path in space.trellis.paths()}
    expected = sum(
        chances[a] * chances[b] * table.predict(Architecture(space, cells, tuple({a, b})))
        for a, b in itertools.product(chances, repeat=2)
    )
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_union_reading_of_a_decided_search_equals_its_network_s_prediction(space, relaxation, table, count):
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter *= 1e4
        mixing = relaxation()
        value = float(LatencyExpectation(table, space, network="union", count=count)(mixing))
    best = space.trellis.best_paths(1, {cell: float(p) for cell, p in mixing.cells.items()})[0][1]
    assert value == pytest.approx(table.predict(Architecture(space, decode_cells(mixing, space), (best,))))


def test_union_reading_has_a_gradient_in_beta(space, relaxation, table):
    def latency(*values):
        names = [name for name, _ in relaxation.named_parameters()]
        mixing = torch.func.functional_call(relaxation, dict(zip(names, values, strict=True)))
        return LatencyExpectation(table, space, network="union", count=3)(mixing)

    parameters = [parameter.detach().requires_grad_() for parameter in relaxation.parameters()]
    assert torch.autograd.gradcheck(latency, parameters)
    latency(*parameters).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in parameters)


@pytest.mark.parametrize("count", [0, -1, 2.5, "auto", True])
def test_an_invalid_number_of_paths_is_refused(space, table, count):
    with pytest.raises(CineError, match=r"^paths: found"):
        LatencyExpectation(table, space, count=count)


def hw_space() -> Space:
    operations = ("conv_3x3x3", "identity", "zero")
    return Space(3, 2, 2, 4, 2, operations, (16, 16, 3), skip=True, scaling="before")


@pytest.mark.parametrize("paths", [[(0, -1, 1, 0)], [(0, 1, 1, 0), (0, 0, 1, 0)]])
def test_n_best_reading_by_hand(make_table, paths):
    """Hardware-aware NAS Eq. 7-9: each path adds its cells times their probability, and a shared cell counts twice.
    Operations have their cost at the target scale; zero and skip edges cost nothing."""
    space = hw_space()
    table = make_table(space, lambda name, scale: len(name) + 100 * scale)
    relaxation = SeparateSoftmax(space)
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()
        mixing = relaxation()
        value = float(LatencyExpectation(table, space, network="n_best")(mixing, paths))
    expected = len("stem") + len("head")
    for path in paths:
        for cell in cells_of(path):
            if cell.skip:
                continue
            beta = float(mixing.cells[cell])
            inside = len(f"scaling_{cell.kind}") + 100 * cell.source
            for i in (1, 2):
                gamma = relaxation.gamma[f"{cell.kind}_{i}"].detach().softmax(0)
                alpha = relaxation.alpha[f"{cell.kind}_{i}"].detach().softmax(1)
                for j in range(i):
                    for o, name in enumerate(("conv_3x3x3", "identity")):
                        name += "_chained" * (j > 0)
                        inside += float(gamma[j] * alpha[j, o]) * (len(name) + 100 * cell.target)
            expected += beta * inside
    assert value == pytest.approx(expected, rel=1e-5)


def test_gumbel_samples_have_the_expectation_of_an_independent_monte_carlo(make_table):
    """LAT is a sum of products of independent choices; it is compared with numpy samples directly from Eq. 7-9."""
    space = hw_space()
    table = make_table(space, lambda name, scale: len(name.removesuffix("_chained")) + 10.0 * scale)
    relaxation = SeparateSoftmax(space, gumbel=True, temperature=(0.7, 0.7))
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()
    paths = [(0, 1, 1, 0), (0, 0, 1, 0)]
    expectation = LatencyExpectation(table, space, network="n_best")
    with torch.no_grad():
        ours = np.array([float(expectation(relaxation.for_latency(0.3), paths)) for _ in range(1500)])
    rng = np.random.default_rng(0)

    def drawn(logits):
        y = np.exp((logits.detach().numpy() + rng.gumbel(size=logits.shape)) / 0.7)
        return y / y.sum(-1, keepdims=True)

    theirs = []
    for _ in range(1500):
        tables = {name: drawn(p) for name, p in (*relaxation.gamma.items(),)}
        alphas = {name: drawn(p) for name, p in relaxation.alpha.items()}
        betas = {name: drawn(p) for name, p in relaxation.beta.items()}
        total = 8.0
        for cell in [cell for path in paths for cell in cells_of(path)]:
            costs = np.array([10 + 10 * cell.target, 8 + 10 * cell.target, 0])
            inside = len(f"scaling_{cell.kind}") + 10 * cell.source
            for i in (1, 2):
                inside += (tables[f"{cell.kind}_{i}"] @ (alphas[f"{cell.kind}_{i}"] @ costs)).item()
            exits = space.trellis.exits[cell.source_tile]
            beta = betas[f"tile{cell.layer - 1}_{cell.source}"][exits.index(cell)] if len(exits) > 1 else 1.0
            total += beta * inside
        theirs.append(total)
    error = math.sqrt((ours.var() + np.var(theirs)) / 1500)
    assert ours.mean() == pytest.approx(np.mean(theirs), abs=4 * error)
    assert ours.std() == pytest.approx(np.std(theirs), rel=0.15)


@pytest.mark.parametrize("network", ["derived", "paths", "union"])
def test_other_ends_add_their_stems_and_heads(make_table, network):
    space = Space(2, 2, 1, 4, 2, ("conv_3x3x3", "identity"), (16, 16, 3), start="any", end="any")
    table = make_table(space, lambda name, scale: {"stem": 10.0, "head": 100.0}.get(name, 0.0) * (scale + 1))
    expectation = LatencyExpectation(table, space, network=network, count=2)
    value = float(expectation(uniform_mixing(space), [(0, 0, 0), (0, 1, 1)]))
    if network == "derived":  # one stem at scale 0, two heads
        assert value == 10 + 100 + 200
    elif network == "union":  # two paths, each from and to either scale: a stem and a head is used in 3 of 4 cases
        assert value == pytest.approx(0.75 * (10 + 20) + 0.75 * (100 + 200))
    else:  # eight paths, half of them from and to each scale
        assert value == pytest.approx(1.5 * 10 + 1.5 * 100)
