from __future__ import annotations

import itertools
from random import Random

import pytest

from scripts.search.genetic import Evolution, Fitness, Individual, Ranking, crossover


def evolution(sizes: tuple[int, int], pool_size: int = 10, generations: int = 100, cells=()) -> Evolution:
    return Evolution(pool_size, sizes, cells, population=20, generations=generations, mutation=0.2, seed=0)


def test_crossover_and_mutation_never_duplicate_a_gene():
    random, five = Random(0), evolution((5, 5))
    for _ in range(500):
        first, second = five.draw(random), five.draw(random)
        children = crossover(random, first, second)
        genes = [sorted(a.paths + b.paths) for a, b in ((first, second), children)]
        assert genes[0] == genes[1]  # genes are swapped, none is lost
        for child in (*children, five.mutate(random, first)):
            assert len(set(child.paths)) == 5
            assert list(child.paths) == sorted(child.paths)
            assert all(0 <= gene < 10 for gene in child.paths)


def test_individuals_have_allowed_sizes_and_all_sizes_occur():
    random, some = Random(0), evolution((2, 4))
    individual = some.draw(random)
    met = set()
    for _ in range(300):
        individual = some.mutate(random, individual)
        children = crossover(random, individual, some.draw(random))
        for one in (individual, *children):
            assert len(set(one.paths)) == len(one.paths)
            met.add(len(one.paths))
    assert met == {2, 3, 4}


def test_mutation_changes_one_gene_where_it_can():
    one = Individual((0, 1, 2))
    mutant = evolution((3, 3)).mutate(Random(1), one)
    assert len(set(mutant.paths) & {0, 1, 2}) == 2
    assert evolution((3, 3), pool_size=3).mutate(Random(1), one) == one


def test_cells_are_crossed_by_group_and_mutated_to_other_candidates():
    random, some = Random(0), evolution((2, 2), pool_size=2, cells=(1, 3, 4))
    first, second = Individual((0, 1), (0, 0, 0)), Individual((0, 1), (0, 2, 3))
    crossed = {child.cells for _ in range(50) for child in crossover(random, first, second)}
    assert crossed == {(0, a, b) for a in (0, 2) for b in (0, 3)}
    mutants = {some.mutate(random, first).cells for _ in range(100)}
    assert mutants == {(0, 1, 0), (0, 2, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3)}  # there are no other paths
    assert {some.draw(random).cells for _ in range(200)} == {(0, a, b) for a in range(3) for b in range(4)}


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_optimum_of_a_hard_landscape_among_all_subsets(seed):
    """Random fitness, unrelated between neighbours: finding the optimum needs nearly all 637 individuals."""
    values = Random(seed)
    landscape = {genes: values.random() for count in range(1, 6) for genes in itertools.combinations(range(10), count)}
    ranking = Ranking(lambda individual: Fitness((landscape[individual.paths],), 0.0, 0.0))
    found = ranking.best(evolution((1, 5)).run(ranking))[0].paths
    assert landscape[found] == min(landscape.values())


def test_fitness_is_computed_only_once_per_individual():
    seen = []
    ranking = Ranking(lambda individual: seen.append(individual) or Fitness((sum(individual.paths),), 0.0, 0.0))
    ranking.best(evolution((1, 3), generations=10).run(ranking))
    assert len(seen) == len(set(seen))
