from __future__ import annotations

import itertools
import math
from dataclasses import replace
from random import Random

import pytest
import torch

from scripts.files import CineError
from scripts.search.derive import Deriver, crossover, decode_cells, draw, gene_pool, mutate, pool_overlap
from scripts.search.relaxation import JointSoftmax, uniform_mixing
from scripts.space.space import Space
from scripts.space.supernet import Mixing
from scripts.space.trellis import cells_of, union_of


@pytest.fixture
def space():
    return Space(layers=6, scales=4, nodes=2, channels=4, deployment_size=(16, 16, 3))


def searched(space, seed=0):
    torch.manual_seed(seed)
    relaxation = JointSoftmax(space)
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()
        return relaxation()


@pytest.fixture
def table(space, make_table):
    return make_table(space, lambda name, scale: Random(f"{name} {scale}").uniform(0.1, 1.0))


def test_cells_decode_to_the_most_probable_pair(space):
    relaxation = JointSoftmax(space)
    with torch.no_grad():
        relaxation.alpha["contracting_2"][1, 3] = 1
        cells = decode_cells(relaxation(), space)
    assert cells["contracting"] == ((0, "conv_3x3x3"), (1, "max_pool_3x3x3"))
    assert cells["expanding"] == ((0, "conv_3x3x3"), (0, "conv_3x3x3"))  # all equal: the first


def test_a_node_that_repeats_another_decodes_to_the_next_best(space):
    """Identity is the favourite of both nodes, then pooling: X_1 = X_0 is a shortcut, X_2 = X_0 would be a copy."""
    relaxation = JointSoftmax(space)
    identity, pool = space.operations.index("identity"), space.operations.index("max_pool_3x3x3")
    with torch.no_grad():
        for table in relaxation.alpha.values():
            table[:, identity], table[:, pool] = 2, 1
        cells = decode_cells(relaxation(), space)
    assert cells["contracting"] == ((0, "identity"), (0, "max_pool_3x3x3"))


def test_edge_first_takes_the_likelier_edge_and_then_its_operation(space):
    """gamma .6 and .4, alpha .3 and .9: the best pair lies on the edge that is less likely."""
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
    assert cells["expanding"] == ((0, "max_pool_3x3x3"), (0, "conv_3x3x3"))  # pooled X_0 is there already


@pytest.mark.parametrize("score", ["sum", "product", "lift"])
@pytest.mark.parametrize("skip", [False, True])
def test_pool_against_brute_force(space, score, skip):
    space = replace(space, skip=skip)
    mixing = searched(space)
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


@pytest.mark.parametrize("count", [1, 3, 5, 8])
@pytest.mark.parametrize("seed", range(8))
def test_genetic_finds_the_exhaustive_optimum(space, table, count, seed):
    """At most C(10, 5) = 252 individuals: the optimum is known."""
    mixing = searched(space, seed)
    genetic = Deriver("genetic", count, seed=seed).propose(mixing, table, space, count)[0]
    exact = Deriver("exhaustive", count).propose(mixing, table, space, count)[0]
    pool = [path for _, path in gene_pool(mixing, space, 10)]
    fastest = min(
        table.predict(type(exact)(space, exact.cells, individual)) for individual in itertools.combinations(pool, count)
    )
    assert table.predict(exact) == pytest.approx(fastest)
    assert genetic.paths == exact.paths
    assert genetic.provenance["predicted_ms"] == pytest.approx(table.predict(genetic))


def test_dijkstra_takes_the_best_paths(space, table):
    mixing = searched(space)
    architecture = Deriver("dijkstra", 4).propose(mixing, table, space, 4)[0]
    assert list(architecture.paths) == [path for _, path in gene_pool(mixing, space, 4)]


def test_ties_go_to_the_higher_weight(space, make_table):
    """With every entry free, all individuals are equally fast."""
    mixing = searched(space)
    free = make_table(space, lambda name, scale: 0.0)
    for method in ("genetic", "exhaustive"):
        architecture = Deriver(method, 3).propose(mixing, free, space, 3)[0]
        assert list(architecture.paths) == [path for _, path in gene_pool(mixing, space, 3)]


def test_the_same_seed_gives_the_same_individuals(space, table):
    mixing = searched(space)
    first, again = (Deriver("genetic", 5, seed=9).propose(mixing, table, space, 5) for _ in range(2))
    assert first == again


def test_crossover_and_mutation_never_make_a_gene_twice():
    random = Random(0)
    for _ in range(500):
        first, second = draw(random, 10, 5), draw(random, 10, 5)
        children = crossover(random, first, second)
        assert sorted(children[0] + children[1]) == sorted(first + second)  # genes are swapped, none is lost
        for child in (*children, mutate(random, first, 10)):
            assert len(set(child)) == 5
            assert list(child) == sorted(child)
            assert all(0 <= gene < 10 for gene in child)


def test_mutation_changes_one_gene_where_it_can():
    mutant = mutate(Random(1), (0, 1, 2), 10)
    assert len(set(mutant) & {0, 1, 2}) == 2
    assert mutate(Random(1), (0, 1, 2), 3) == (0, 1, 2)


def test_auto_tries_many_paths_first(space):
    assert Deriver(paths="auto").counts(space) == [8, 7, 6, 5, 4, 3, 2, 1]
    assert Deriver(paths="auto", pool_size=2).counts(space) == [2, 1]
    assert Deriver(paths=4).counts(space) == [4]
    aims = [Deriver(paths="auto"), Deriver(paths="auto", pool_size=2), Deriver(paths=4), Deriver(paths=1)]
    assert [deriver.fewest(space) for deriver in aims] == [3, 2, 4, 1]


def test_an_individual_is_the_union_of_its_paths(space, table):
    architecture = Deriver("exhaustive", 3).propose(searched(space), table, space, 3)[0]
    union = union_of(architecture.paths)
    expected = table["stem", 0] + table["head", 0] + sum(table.cell(cell, architecture) for cell in union)
    tiles = {cell.target_tile for cell in union}
    expected += sum(table["merge", t.scale] * (sum(c.target_tile == t for c in union) - 1) for t in tiles)
    assert architecture.provenance["predicted_ms"] == pytest.approx(expected)


@pytest.mark.parametrize(
    "wrong", [{"method": "astar"}, {"paths": 0}, {"paths": "some"}, {"score": "max"}, {"decoding": "x"}]
)
def test_wrong_options_are_refused_by_key(wrong):
    with pytest.raises(CineError, match=f"^{next(iter(wrong))}: found"):
        Deriver(**wrong)


def test_more_paths_than_the_pool_holds_are_refused(space):
    with pytest.raises(CineError, match="at most 10"):
        Deriver(paths=11).counts(space)


def test_overlap_of_pools(space):
    uniform = gene_pool(uniform_mixing(space), space, 10)
    assert pool_overlap(uniform, uniform) == 1
    assert pool_overlap(uniform[:4], uniform[2:]) == 0.5
