"""The genetic algorithm over sets of paths (RT-DNAS 2.3) and over the operations of the cells."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple


class Individual(NamedTuple):
    """The genes of a network.

    Args:
        paths: distinct indices into the pool of paths, ascending, and so sorted by weight.
        cells: for each group of cells an index into its pool.
    """

    paths: tuple[int, ...]
    cells: tuple[int, ...] = ()


class Fitness(NamedTuple):
    """How fit an individual is; a smaller ``order`` is fitter."""

    order: tuple[float, ...]
    ms: float
    weight: float
    likely: float = 0.0
    accuracy: float | None = None


class Ranking(dict[Individual, Fitness]):
    """The fitness of individuals; each is computed only once."""

    KEPT = 10

    def __init__(self, fitness: Callable[[Individual], Fitness]):
        super().__init__()
        self._fitness = fitness

    def __missing__(self, individual: Individual) -> Fitness:
        self[individual] = self._fitness(individual)
        return self[individual]

    def order(self, individual: Individual) -> tuple[float, ...]:
        return self[individual].order

    def best(self, individuals: Iterable[Individual]) -> list[Individual]:
        """The fittest individuals, best first."""
        return heapq.nsmallest(self.KEPT, individuals, key=lambda individual: (self.order(individual), individual))


@dataclass(frozen=True)
class Evolution:
    """Tournament of 2, elite of 1.

    Args:
        pool_size: the number of paths to choose from.
        sizes: the minimum and the maximum number of paths of an individual.
        cells: for each group of cells the number of candidates.
        population, generations: the number of individuals per generation, and of generations.
        mutation: the probability that a child is mutated.
        seed: the seed of all randomness.
    """

    pool_size: int
    sizes: tuple[int, int]
    cells: tuple[int, ...]
    population: int
    generations: int
    mutation: float
    seed: int

    def run(self, ranking: Ranking) -> set[Individual]:
        """Every individual that occurred."""
        random = Random(self.seed)
        population = [self.draw(random) for _ in range(self.population)]
        met = set(population)
        for _ in range(self.generations):
            children = [min(population, key=ranking.order)]  # elite
            while len(children) < self.population:
                parents = [min(random.choices(population, k=2), key=ranking.order) for _ in range(2)]
                for child in crossover(random, *parents):
                    if random.random() < self.mutation:
                        child = self.mutate(random, child)
                    # mutate twins again, preferably to new individuals: a crossover of copies gives nothing new
                    for _ in range(self.population):
                        if child not in children and child not in met:
                            break
                        child = self.mutate(random, child)
                    children.append(child)
            population = children[: self.population]
            met.update(population)
        return met

    def draw(self, random: Random) -> Individual:
        """A random individual."""
        paths = random.sample(range(self.pool_size), random.randint(*self.sizes))
        return Individual(tuple(sorted(paths)), tuple(random.randrange(count) for count in self.cells))

    def mutate(self, random: Random, individual: Individual) -> Individual:
        """Make one change: replace a path, add or remove one where sizes allow, or replace a group's operations."""
        fewest, greatest = self.sizes
        paths, cells = set(individual.paths), list(individual.cells)
        others = sorted(set(range(self.pool_size)) - paths)
        free = [group for group, count in enumerate(self.cells) if count > 1]
        possible = {
            "replace": bool(others),
            "add": bool(others) and len(paths) < greatest,
            "drop": len(paths) > fewest,
            "operate": bool(free),
        }
        changes = [change for change, can in possible.items() if can]
        if not changes:
            return individual
        change = random.choice(changes)
        if change in ("replace", "drop"):
            paths.remove(random.choice(individual.paths))
        if change in ("replace", "add"):
            paths.add(random.choice(others))
        if change == "operate":
            group = random.choice(free)
            cells[group] = random.choice([n for n in range(self.cells[group]) if n != cells[group]])
        return Individual(tuple(sorted(paths)), tuple(cells))


def crossover(random: Random, first: Individual, second: Individual) -> tuple[Individual, Individual]:
    """Swap equally many paths that only one parent has, so that no path occurs twice, and any cells."""
    ours, theirs = (sorted(set(a.paths) - set(b.paths)) for a, b in ((first, second), (second, first)))
    swapped = random.randint(0, min(len(ours), len(theirs))) if ours and theirs else 0
    given, taken = set(random.sample(ours, swapped)), set(random.sample(theirs, swapped))
    swaps = [random.random() < 0.5 and a != b for a, b in zip(first.cells, second.cells, strict=True)]
    cells = [
        tuple(b if swap else a for a, b, swap in zip(mine, other, swaps, strict=True))
        for mine, other in ((first.cells, second.cells), (second.cells, first.cells))
    ]
    return (
        Individual(tuple(sorted((set(first.paths) - given) | taken)), cells[0]),
        Individual(tuple(sorted((set(second.paths) - taken) | given)), cells[1]),
    )
