"""From mixing weights to candidate architectures: cells by argmax, paths from a pool of the best (RT-DNAS 2.3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from scripts.core.errors import CineError
from scripts.latency.table import LatencyTable
from scripts.search.decoding import Decoding, Score, cell_pool, gene_pool
from scripts.search.genetic import Evolution, Fitness, Individual, Ranking
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing
from scripts.space.space import Space
from scripts.space.trellis import cells_of

Method = Literal["genetic", "exhaustive", "dijkstra"]
Criterion = Literal["accuracy", "latency"]
Accuracy = Callable[[Architecture], float]
MAX_PATHS, MIN_PATHS = 8, 3  # of "auto", RT-DNAS Table 1


@dataclass(frozen=True)
class Deriver:
    """Chooses paths from the pool, and proposes the networks of their unions.

    Args:
        method: "genetic" (RT-DNAS), "exhaustive" (every individual: exact), "dijkstra" (the N best paths, MS-NAS).
        fitness: "accuracy": the most accurate network of at most N paths whose predicted latency meets the budget;
            "latency": the fastest network of N paths (RT-DNAS).
        paths: N, or "auto": 8 for fitness "accuracy"; otherwise the largest N in 3..8 that meets the budget, and 2 or 1
            if none does.
        pool_size: the number of distinct paths in the gene pool.
        cell_pool_size: the number of candidates for the operations of each group of cells, if ``propose`` is given an
            accuracy; without one, only the decoded operations are used.
        score: how a path's weight is computed, see ``gene_pool``.
        population, generations, mutation: of the genetic method, see ``Evolution``.
        seed: of the genetic method.
        decoding: how cells are decoded, see ``decode_cells``.
    """

    method: Method = "genetic"
    fitness: Criterion = "accuracy"
    paths: int | Literal["auto"] = "auto"
    pool_size: int = 10
    cell_pool_size: int = 1
    score: Score = "sum"
    population: int = 20
    generations: int = 100
    mutation: float = 0.2
    seed: int = 0
    decoding: Decoding = "joint"

    MAX_INDIVIDUALS = 100_000

    def __post_init__(self) -> None:
        for name, allowed in (("method", Method), ("fitness", Criterion), ("score", Score), ("decoding", Decoding)):
            if getattr(self, name) not in get_args(allowed):
                expected = f"one of {', '.join(get_args(allowed))}"
                raise CineError(name, repr(getattr(self, name)), expected, "Change the key.")
        if self.paths != "auto" and not (type(self.paths) is int and self.paths >= 1):
            raise CineError("paths", repr(self.paths), "auto, or a number of paths of at least 1", "Change the key.")

    def counts(self, space: Space) -> list[int]:
        """The numbers of paths that a network may have, largest first."""
        greatest = min(space.trellis.path_count, self.pool_size)
        if self.paths != "auto" and self.paths > greatest:
            expected = f"at most {greatest}, the number of paths in the trellis and in the pool"
            raise CineError("paths", str(self.paths), expected, "Lower paths or raise pool_size.")
        first = min(MAX_PATHS, greatest) if self.paths == "auto" else self.paths
        exact = self.fitness == "latency" and self.paths != "auto"
        return [first] if exact else list(range(first, 0, -1))

    def aim(self, space: Space) -> int:
        """N of a search: the number of paths for which the search keeps the latency under the budget."""
        first = self.counts(space)[0]
        return min(MIN_PATHS, first) if self.paths == "auto" and self.fitness == "latency" else first

    def propose(
        self,
        mixing: Mixing,
        table: LatencyTable,
        space: Space,
        sizes: tuple[int, int],
        band_ms: tuple[float, float] = (0.0, math.inf),
        accuracy: Accuracy | None = None,
    ) -> list[Architecture]:
        """Candidate architectures, fittest first.

        Args:
            mixing: mixing weights.
            table: predicts latency.
            space: the search space.
            sizes: the minimum and the maximum number of paths.
            band_ms: for fitness "accuracy", the range of the predicted latency; candidates within it come first.
            accuracy: of a network; None means the probabilities of its paths' cells, summed over its paths.
        """
        pool = gene_pool(mixing, space, self.pool_size, self.score)
        # only an accuracy can compare cells; weights of paths cannot
        cells = cell_pool(mixing, space, 1 if accuracy is None else self.cell_pool_size, self.decoding)

        # probabilities are summed, since some scores are sums of logarithms, which fall with every path
        likelihoods = [sum(float(mixing.cells[cell]) for cell in cells_of(path)) for _, path in pool]

        def architecture_of(individual: Individual) -> Architecture:
            nodes = {group: some[i] for (group, some), i in zip(cells.items(), individual.cells, strict=True)}
            return Architecture(space, nodes, tuple(pool[gene][1] for gene in individual.paths))

        def fitness(individual: Individual) -> Fitness:
            architecture = architecture_of(individual)
            ms, weight = table.predict(architecture), sum(pool[gene][0] for gene in individual.paths)
            likely = sum(likelihoods[gene] for gene in individual.paths)
            if self.fitness == "latency":
                return Fitness((ms, -weight), ms, weight, likely)
            outside_ms = max(ms - band_ms[1], band_ms[0] - ms, 0.0)
            if outside_ms:
                return Fitness((outside_ms, -likely), ms, weight, likely)
            value = None if accuracy is None else accuracy(architecture)
            return Fitness((0.0, -(likely if value is None else value), ms), ms, weight, likely, value)

        ranking = Ranking(fitness)
        return [
            architecture_of(individual).with_provenance(
                notes={
                    "fitness": self.fitness,
                    "score": self.score,
                    "decoding": self.decoding,
                    "pool": [{"weight": weight, "path": list(path)} for weight, path in pool],
                    "genes": list(individual.paths),
                    "cell_genes": list(individual.cells),
                },
                method=self.method,
                accumulated_weight=ranking[individual].weight,
                path_weight=ranking[individual].likely,
                shared_dice=ranking[individual].accuracy,
                seed=self.seed,
                predicted_ms=ranking[individual].ms,
            )
            for individual in ranking.best(
                self._individuals(len(pool), tuple(map(len, cells.values())), sizes, ranking)
            )
        ]

    def _individuals(
        self, pool_size: int, cells: tuple[int, ...], sizes: tuple[int, int], ranking: Ranking
    ) -> set[Individual]:
        fewest, greatest = sizes
        if self.method == "dijkstra":
            return {Individual(tuple(range(count)), (0,) * len(cells)) for count in range(fewest, greatest + 1)}
        if self.method == "exhaustive":
            counts = range(fewest, greatest + 1)
            individuals = math.prod(cells) * sum(math.comb(pool_size, count) for count in counts)
            if individuals > self.MAX_INDIVIDUALS:
                expected = f"at most {self.MAX_INDIVIDUALS} individuals"
                raise CineError("method", f"exhaustive over {individuals}", expected, "Use genetic.")
            return {
                Individual(genes, chosen)
                for count in counts
                for genes in itertools.combinations(range(pool_size), count)
                for chosen in itertools.product(*map(range, cells))
            }
        evolution = Evolution(pool_size, sizes, cells, self.population, self.generations, self.mutation, self.seed)
        return evolution.run(ranking)
