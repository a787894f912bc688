"""From mixing weights to candidate architectures: cells by argmax, paths from a pool of the best (RT-DNAS 2.3)."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from scripts.files import CineError
from scripts.latency.table import LatencyTable
from scripts.space.architecture import Architecture, Node
from scripts.space.space import PARAMETER_FREE, ZERO, Space
from scripts.space.supernet import Mixing
from scripts.space.trellis import Path, union_of

Score = Literal["sum", "product", "lift"]
Decoding = Literal["joint", "edge_first"]
Method = Literal["genetic", "exhaustive", "dijkstra"]
Individual = tuple[int, ...]  # distinct genes: indices into the pool, ascending, so sorted by weight
MOST_PATHS, FEWEST_PATHS = 8, 3  # of "auto", RT-DNAS Table 1


def decode_cells(mixing: Mixing, space: Space, decoding: Decoding = "joint") -> dict[str, tuple[Node, ...]]:
    """For each node the most probable (input, operation) that computes something new; ties go to the first.

    A node that would repeat an earlier one (identity of X_0 twice, say) or compute nothing adds nothing to the
    concatenation, so the next most probable pair takes its place.

    Args:
        mixing: mixing weights.
        space: the search space.
        decoding: "joint", by p[j, o]; "edge_first", by the edge's own probability, the sum of p[j, o] over o, and then
            by the operation's on that edge (hardware-aware NAS 3.5).
    """
    return {kind: _decode_nodes([p.tolist() for p in nodes], space, decoding) for kind, nodes in mixing.nodes.items()}


def _decode_nodes(tables: list[list[list[float]]], space: Space, decoding: Decoding) -> tuple[Node, ...]:
    nodes: list[Node] = []
    computed: list[tuple] = [()]  # what X_0, X_1, ... hold; operations with weights never compute the same twice
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


def gene_pool(mixing: Mixing, space: Space, size: int, score: Score = "sum") -> list[tuple[float, Path]]:
    """The ``size`` best distinct paths by accumulated weight, best first.

    sum of probabilities; product (hardware-aware NAS Eq. 10, as its logarithm); lift, the sum of
    log(p x number of exits), to which tiles with a single exit add nothing.
    """
    cells = {}
    for exits in space.trellis.exits.values():
        for cell in exits:
            p = float(mixing.cells[cell])
            cells[cell] = p if score == "sum" else math.log(max(p, 1e-30) * (1 if score == "product" else len(exits)))
    return space.trellis.best_paths(size, cells)


@dataclass(frozen=True)
class Deriver:
    """Chooses N of the pool's paths so that the network of their union is fast.

    Args:
        method: "genetic" (RT-DNAS), "exhaustive" (every individual: exact), "dijkstra" (the N best paths, MS-NAS).
        paths: N, or "auto": the largest N in 3..8 that keeps the budget; where none does, 2 or 1.
        pool_size: distinct paths in the gene pool.
        score: how a path's weight accumulates, see ``gene_pool``.
        population, generations, mutation: of the genetic method; tournament of 2, elite of 1.
        seed: of the genetic method.
        decoding: of the cells, see ``decode_cells``.
    """

    method: Method = "genetic"
    paths: int | Literal["auto"] = "auto"
    pool_size: int = 10
    score: Score = "sum"
    population: int = 20
    generations: int = 100
    mutation: float = 0.2
    seed: int = 0
    decoding: Decoding = "joint"

    MOST_INDIVIDUALS = 100_000

    def __post_init__(self) -> None:
        if self.method not in ("genetic", "exhaustive", "dijkstra"):
            raise CineError("method", repr(self.method), "genetic, exhaustive or dijkstra", "Change the key.")
        if self.score not in ("sum", "product", "lift"):
            raise CineError("score", repr(self.score), "sum, product or lift", "Change the key.")
        if self.decoding not in ("joint", "edge_first"):
            raise CineError("decoding", repr(self.decoding), "joint or edge_first", "Change the key.")
        if self.paths != "auto" and not (isinstance(self.paths, int) and self.paths >= 1):
            raise CineError("paths", repr(self.paths), "auto, or a number of paths from 1 up", "Change the key.")

    def counts(self, space: Space) -> list[int]:
        """The numbers of paths to try, most first."""
        most = min(space.trellis.path_count, self.pool_size)
        if self.paths == "auto":
            return list(range(min(MOST_PATHS, most), 0, -1))
        if self.paths > most:
            expected = f"at most {most}, the paths of the trellis and of the pool"
            raise CineError("paths", str(self.paths), expected, "Lower paths or raise the pool's size.")
        return [self.paths]

    def fewest(self, space: Space) -> int:
        """The smallest number of paths that a search should aim at."""
        counts = self.counts(space)
        return min(FEWEST_PATHS, counts[0]) if self.paths == "auto" else counts[0]

    def propose(self, mixing: Mixing, table: LatencyTable, space: Space, count: int) -> list[Architecture]:
        """Candidate architectures of ``count`` paths, predicted fastest first (ties: the higher weight first)."""
        pool = gene_pool(mixing, space, self.pool_size, self.score)
        cells = decode_cells(mixing, space, self.decoding)
        everything = Architecture(space, cells, tuple(path for _, path in pool))
        costs = {cell: table.cell(cell, everything) for cell in everything.union}

        def fitness(individual: Individual) -> tuple[float, float]:
            paths = [pool[gene][1] for gene in individual]
            union = union_of(paths)
            shared_ms = table.merges(union) + table.repeats(everything, union)
            ms = sum(costs[cell] for cell in union) + shared_ms + table.ends(paths)
            return ms, -sum(pool[gene][0] for gene in individual)

        ranking = Ranking(fitness)
        if self.method == "dijkstra":
            ranked = [tuple(range(count))]
        elif self.method == "exhaustive":
            individuals = math.comb(len(pool), count)
            if individuals > self.MOST_INDIVIDUALS:
                expected = f"at most {self.MOST_INDIVIDUALS} individuals"
                raise CineError("method", f"exhaustive over {individuals}", expected, "Use genetic.")
            ranked = ranking.best(itertools.combinations(range(len(pool)), count))
        else:
            ranked = ranking.best(self._evolve(len(pool), count, ranking))
        return [
            Architecture(
                space,
                cells,
                tuple(pool[gene][1] for gene in individual),
                {
                    "method": self.method,
                    "score": self.score,
                    "decoding": self.decoding,
                    "pool": [{"weight": weight, "path": list(path)} for weight, path in pool],
                    "genes": list(individual),
                    "accumulated_weight": -ranking[individual][1],
                    "seed": self.seed,
                    "predicted_ms": ranking[individual][0],
                },
            )
            for individual in ranked
        ]

    def _evolve(self, pool_size: int, count: int, ranking: Ranking) -> set[Individual]:
        """Every individual that the genetic algorithm met."""
        random = Random(self.seed)
        population = [draw(random, pool_size, count) for _ in range(self.population)]
        met = set(population)
        for _ in range(self.generations):
            children = [min(population, key=ranking.__getitem__)]  # elite
            while len(children) < self.population:
                parents = [min(random.choices(population, k=2), key=ranking.__getitem__) for _ in range(2)]
                for child in crossover(random, *parents):
                    if random.random() < self.mutation:
                        child = mutate(random, child, pool_size)
                    # twins are mutated on, preferably to what was never met: copies have nothing left to cross
                    for _ in range(self.population):
                        if child not in children and child not in met:
                            break
                        child = mutate(random, child, pool_size)
                    children.append(child)
            population = children[: self.population]
            met.update(population)
        return met


class Ranking(dict[Individual, tuple[float, float]]):
    """Fitness of individuals, (ms, -accumulated weight), computed once each; smaller is better."""

    KEPT = 10

    def __init__(self, fitness):
        super().__init__()
        self._fitness = fitness

    def __missing__(self, individual: Individual) -> tuple[float, float]:
        self[individual] = self._fitness(individual)
        return self[individual]

    def best(self, individuals) -> list[Individual]:
        """The fittest, best first."""
        return heapq.nsmallest(self.KEPT, individuals, key=lambda individual: (self[individual], individual))


def draw(random: Random, pool_size: int, count: int) -> Individual:
    """A random individual."""
    return tuple(sorted(random.sample(range(pool_size), count)))


def crossover(random: Random, first: Individual, second: Individual) -> tuple[Individual, Individual]:
    """Swap equally many genes of the parents' symmetric difference, so that no gene can come twice."""
    ours, theirs = sorted(set(first) - set(second)), sorted(set(second) - set(first))
    if not ours:
        return first, second
    swapped = random.randint(0, len(ours))
    given, taken = set(random.sample(ours, swapped)), set(random.sample(theirs, swapped))
    return (
        tuple(sorted((set(first) - given) | taken)),
        tuple(sorted((set(second) - taken) | given)),
    )


def mutate(random: Random, individual: Individual, pool_size: int) -> Individual:
    """Replace one gene by one of the pool that the individual lacks."""
    others = sorted(set(range(pool_size)) - set(individual))
    if not others:
        return individual
    lost = random.choice(individual)
    return tuple(sorted((set(individual) - {lost}) | {random.choice(others)}))


def pool_overlap(pool: Sequence[tuple[float, Path]], other: Sequence[tuple[float, Path]]) -> float:
    """The share of a pool's paths that another pool holds too."""
    return len({path for _, path in pool} & {path for _, path in other}) / len(pool)
