from __future__ import annotations

import itertools
from random import Random

import pytest
from small_search import random_mixing

from scripts.core.errors import CineError
from scripts.search.decoding import decode_cells, gene_pool
from scripts.search.derive import Deriver
from scripts.space.architecture import Architecture
from scripts.space.space import Space
from scripts.space.trellis import union_of


@pytest.fixture
def space():
    return Space(layers=6, scales=4, nodes=2, channels=4, deployment_size=(16, 16, 3))


@pytest.fixture
def table(space, make_table):
    return make_table(space, lambda name, scale: Random(f"{name} {scale}").uniform(0.1, 1.0))


@pytest.mark.parametrize("count", [1, 3, 5, 8])
@pytest.mark.parametrize("seed", range(8))
def test_genetic_finds_the_exhaustive_optimum(space, table, count, seed):
    """At most C(10, 5) = 252 individuals: the optimum is known."""
    mixing = random_mixing(space, seed)
    genetic = Deriver("genetic", "latency", seed=seed).propose(mixing, table, space, (count, count))[0]
    exact = Deriver("exhaustive", "latency").propose(mixing, table, space, (count, count))[0]
    pool = [path for _, path in gene_pool(mixing, space, 10)]
    fastest = min(
        table.predict(type(exact)(space, exact.cells, individual)) for individual in itertools.combinations(pool, count)
    )
    assert table.predict(exact) == pytest.approx(fastest)
    assert genetic.paths == exact.paths
    assert genetic.provenance.predicted_ms == pytest.approx(table.predict(genetic))


def test_dijkstra_chooses_the_best_paths(space, table):
    mixing = random_mixing(space)
    architecture = Deriver("dijkstra").propose(mixing, table, space, (4, 4))[0]
    assert list(architecture.paths) == [path for _, path in gene_pool(mixing, space, 4)]


def test_ties_go_to_the_higher_weight(space, make_table):
    """With every entry free, all individuals are equally fast."""
    mixing = random_mixing(space)
    free = make_table(space, lambda name, scale: 0.0)
    for method in ("genetic", "exhaustive"):
        architecture = Deriver(method, "latency").propose(mixing, free, space, (3, 3))[0]
        assert list(architecture.paths) == [path for _, path in gene_pool(mixing, space, 3)]


def accuracies(space, seed):
    """An artificial accuracy of each network, independent of the weights of paths."""
    return lambda architecture: Random(f"{seed} {architecture.paths}").random()


@pytest.mark.parametrize("accuracy", [None, accuracies])
@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_the_most_accurate_within_the_band_equals_brute_force(space, table, accuracy, share, seed):
    mixing = random_mixing(space, seed)
    pool = gene_pool(mixing, space, 10)
    cells = decode_cells(mixing, space)
    value = accuracy and accuracy(space, seed)
    networks = [
        (Architecture(space, cells, tuple(path for _, path in chosen)), sum(weight for weight, _ in chosen))
        for count in range(1, 6)
        for chosen in itertools.combinations(pool, count)
    ]
    limit_ms = share * max(table.predict(network) for network, _ in networks)
    within = [pair for pair in networks if 0.9 * limit_ms <= table.predict(pair[0]) <= limit_ms]
    assert 0 < len(within) < len(networks)
    best = max(within, key=lambda pair: value(pair[0]) if value else pair[1])[0]
    for method in ("exhaustive", "genetic"):
        found = Deriver(method, seed=seed).propose(mixing, table, space, (1, 5), (0.9 * limit_ms, limit_ms), value)[0]
        assert found.paths == best.paths
        assert found.provenance.shared_dice == (value and value(best))


def test_the_genetic_algorithm_finds_the_best_cells_too(space, table):
    """4 candidates for each of three kinds of cells, and 25 sets of paths: 1,600 networks."""
    mixing = random_mixing(space)

    def accuracy(architecture):
        return Random(f"{sorted(architecture.cells.items())}").random() + 0.1 * len(architecture.paths)

    options = {"pool_size": 5, "cell_pool_size": 4}
    best = Deriver("exhaustive", **options).propose(mixing, table, space, (1, 3), accuracy=accuracy)[0]
    found = Deriver("genetic", **options).propose(mixing, table, space, (1, 3), accuracy=accuracy)[0]
    assert accuracy(found) == pytest.approx(accuracy(best))
    assert found.cells == best.cells != decode_cells(mixing, space)


def test_if_all_networks_are_below_the_band_the_slowest_comes_first(space, table):
    mixing = random_mixing(space)
    found = Deriver("exhaustive").propose(mixing, table, space, (1, 5), (1e3, 2e3))[0]
    pool, cells = gene_pool(mixing, space, 10), decode_cells(mixing, space)
    every = (
        Architecture(space, cells, tuple(path for _, path in chosen)) for chosen in itertools.combinations(pool, 5)
    )
    assert found.provenance.predicted_ms == pytest.approx(max(map(table.predict, every)))


def test_if_no_network_meets_the_limit_the_fastest_comes_first(space, table):
    mixing = random_mixing(space)
    found = Deriver("genetic").propose(mixing, table, space, (1, 5), (0.0, 1e-3))[0]
    fastest = Deriver("exhaustive", "latency").propose(mixing, table, space, (1, 1))[0]
    assert found.paths == fastest.paths


def test_equally_accurate_networks_rank_by_latency(space, table):
    mixing = random_mixing(space)
    found = Deriver("exhaustive").propose(mixing, table, space, (3, 3), accuracy=lambda architecture: 0.5)
    predicted = [one.provenance.predicted_ms for one in found]
    assert predicted == sorted(predicted)
    assert found[0].paths == Deriver("exhaustive", "latency").propose(mixing, table, space, (3, 3))[0].paths


def test_the_same_seed_gives_the_same_individuals(space, table):
    mixing = random_mixing(space)
    first, again = (Deriver("genetic", seed=9).propose(mixing, table, space, (5, 5)) for _ in range(2))
    assert first == again


def test_the_fastest_network_is_sought_with_many_paths_first(space):
    assert Deriver(fitness="latency").counts(space) == [8, 7, 6, 5, 4, 3, 2, 1]
    assert Deriver(fitness="latency", pool_size=2).counts(space) == [2, 1]
    assert Deriver(fitness="latency", paths=4).counts(space) == [4]
    aims = [Deriver(fitness="latency", **one) for one in ({}, {"pool_size": 2}, {"paths": 4}, {"paths": 1})]
    assert [deriver.aim(space) for deriver in aims] == [3, 2, 4, 1]


def test_the_most_accurate_network_may_have_fewer_paths_than_the_search_draws(space):
    assert Deriver(paths=4).counts(space) == [4, 3, 2, 1]
    assert (Deriver(paths=4).aim(space), Deriver().aim(space)) == (4, 8)


def test_an_individual_is_the_union_of_its_paths(space, table):
    architecture = Deriver("exhaustive").propose(random_mixing(space), table, space, (3, 3))[0]
    union = union_of(architecture.paths)
    expected = table["stem", 0] + table["head", 0] + sum(table.cell(cell, architecture) for cell in union)
    tiles = {cell.target_tile for cell in union}
    expected += sum(table["merge", t.scale] * (sum(c.target_tile == t for c in union) - 1) for t in tiles)
    assert architecture.provenance.predicted_ms == pytest.approx(expected)


@pytest.mark.parametrize(
    "wrong",
    [{"method": "astar"}, {"paths": 0}, {"paths": "some"}, {"score": "max"}, {"decoding": "x"}, {"fitness": "speed"}],
)
def test_wrong_options_are_refused_by_key(wrong):
    with pytest.raises(CineError, match=f"^{next(iter(wrong))}: found"):
        Deriver(**wrong)


def test_more_paths_than_in_the_pool_are_refused(space):
    with pytest.raises(CineError, match="at most 10"):
        Deriver(paths=11).counts(space)
