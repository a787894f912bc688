"""L_t: the expected latency of a network in ms, differentiable in the mixing weights (RT-DNAS Eq. 3-5;
hardware-aware NAS Eq. 7-9)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Literal

import torch

from scripts.core.errors import CineError
from scripts.latency.table import LatencyTable
from scripts.space.mixing import Mixing
from scripts.space.passing import Passing, drawn, passing
from scripts.space.registry import POOLING
from scripts.space.space import Space
from scripts.space.trellis import Cell, Path, Tile, cells_of, union_of

CellReading = Literal["sequential", "critical_path"]
NetworkReading = Literal["union", "derived", "paths", "n_best"]


class LatencyExpectation:
    """``L_t = stems + heads + sum over cells of k_c * Lat_cell(c)``, corrected for sums and repeated operations.

    Args:
        table: the measured latencies.
        space: the search space.
        cell: the latency of a cell. "sequential": the sum of the nodes' expectations, for devices that run one
            operation at a time. "critical_path": the longest path from X_0 to X_N over per-edge expectations, for
            devices that run edges in parallel.
        network: which cells count. "union": k_c is the probability that at least one of ``count`` paths drawn from beta
            passes through c, so L_t is the expected latency of their union. "derived": k_c is 1 for the cells of the
            network that would be derived now, else 0. "paths": k_c is the share of all paths through c (Eq. 5,
            supplement Fig. 3), so L_t is the mean latency of single paths. "n_best": each path that would be derived
            now adds its cells, each times its probability (hardware-aware NAS Eq. 9).
        count: N, the number of paths that "union" draws.

    Raises:
        CineError: count is not a number of paths.
    """

    def __init__(
        self,
        table: LatencyTable,
        space: Space,
        cell: CellReading = "sequential",
        network: NetworkReading = "union",
        count: int = 5,
    ):
        if type(count) is not int or count < 1:
            raise CineError("paths", repr(count), "a number of paths of at least 1", "Change the key.")
        self.table, self.space, self.cell, self.network, self.count = table, space, cell, network, count

    def __call__(self, mixing: Mixing, paths: Collection[Path] = ()) -> torch.Tensor:
        """L_t in ms, a scalar.

        Args:
            mixing: mixing weights.
            paths: the paths of the network that would be derived now; only "derived" and "n_best" read them.
        """
        latencies: dict[tuple[str, int], torch.Tensor] = {}

        def of_cell(cell: Cell) -> torch.Tensor:
            key = self.space.group(cell), cell.source
            if key not in latencies:
                nodes_ms = self._nodes(mixing.nodes[self.space.group(cell)], self.space.operation_scale(cell))
                latencies[key] = nodes_ms + self.table.scaling(cell)
            return latencies[key]

        total, shares = self._shares(mixing, paths)
        for cell, share in shares.items():
            if not cell.skip:
                total = total + share * of_cell(cell)
        return total

    def _shares(
        self, mixing: Mixing, paths: Collection[Path]
    ) -> tuple[torch.Tensor, Mapping[Cell, float] | Mapping[Cell, torch.Tensor]]:
        """The latency outside the cells (ms), and k_c of each cell."""
        trellis = self.space.trellis
        if self.network == "union":
            passed = passing(mixing, trellis)
            shares = {cell: drawn(p, self.count) for cell, p in passed.cells.items()}
            return self._ends_and_merges(passed, shares) + self._repeats(mixing, passed), shares
        if self.network == "paths":  # the mean of single paths, which have no sums at tiles
            ends = [(s, trellis.leaving[Tile(0, s)], "stem") for s in trellis.starts]
            ends += [(s, trellis.arriving[Tile(trellis.layers, s)], "head") for s in trellis.ends]
            fixed_ms = sum(count * self.table[name, s] for s, count, name in ends) / trellis.path_count
            return torch.tensor(fixed_ms), {cell: trellis.share(cell) for cell in trellis.cells}
        if self.network == "n_best":
            counts = Counter(cell for path in paths for cell in cells_of(path))
            of_paths = {cell: count * mixing.cells[cell] for cell, count in counts.items()}
            return torch.tensor(self.table.ends(paths)), of_paths
        union = union_of(paths)
        fixed = torch.tensor(self.table.ends(paths) + self.table.merges(union))
        certain = Passing({cell: torch.ones(()) for cell in union}, {})
        return fixed + self._repeats(mixing, certain), dict.fromkeys(union, 1.0)

    def _ends_and_merges(self, passed: Passing, shares: Mapping[Cell, torch.Tensor]) -> torch.Tensor:
        """Expected ms of stems, heads and sums: a reached tile has one sum fewer than the cells that arrive there."""
        trellis = self.space.trellis
        reached = {tile: drawn(p, self.count) for tile, p in passed.tiles.items()}
        total = torch.zeros(())
        for tile, p in reached.items():
            if tile.layer == 0:
                total = total + p * self.table["stem", tile.scale]
            if tile.layer == trellis.layers:
                total = total + p * self.table["head", tile.scale]
        arriving: dict[Tile, list[torch.Tensor]] = {}
        for cell, share in shares.items():
            arriving.setdefault(cell.target_tile, []).append(share)
        for tile, of_cells in arriving.items():
            if len(of_cells) > 1:
                total = total + (torch.stack(of_cells).sum() - reached[tile]) * self.table["merge", tile.scale]
        return total

    def _nodes(self, nodes: list[torch.Tensor], scale: int) -> torch.Tensor:
        operations = self.space.operations
        costs_jO = nodes[0].new_tensor(
            [[self.table.operation(name, scale, j) for name in operations] for j in range(len(nodes))]
        )
        if self.cell == "sequential":
            return torch.stack([(weights_jO * costs_jO[: len(weights_jO)]).sum() for weights_jO in nodes]).sum()
        longest = [costs_jO.new_zeros(())]
        for weights_jO in nodes:
            edges_j = (weights_jO * costs_jO[: len(weights_jO)]).sum(1) / weights_jO.sum(1)
            longest.append((torch.stack(longest) + edges_j).max())
        return longest[-1]

    def _repeats(self, mixing: Mixing, passed: Passing) -> torch.Tensor:
        """ms of repeated operations: at each tile one fewer than the network's cells that apply the operation there.

        Args:
            mixing: mixing weights.
            passed: pi_c of the cells; 1 for each if the network is fixed.
        """
        total = torch.zeros(())
        if POOLING not in self.space.operations or self.space.scaling == "before":
            return total
        operation = self.space.operations.index(POOLING)
        applies = {
            group: 1 - torch.stack([1 - weights_jO[0, operation] for weights_jO in nodes]).prod()
            for group, nodes in mixing.nodes.items()
        }
        leaving: dict[Tile, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for cell, p in passed.cells.items():
            if not cell.skip:
                leaving.setdefault(cell.source_tile, []).append((applies[self.space.group(cell)], p))
        for tile, of_cells in leaving.items():
            if len(of_cells) > 1:
                total = total + _expected_repeats(of_cells, self.count) * self.table.repeat(tile.scale)
        return total


def _expected_repeats(of_cells: list[tuple[torch.Tensor, torch.Tensor]], count: int) -> torch.Tensor:
    """How many cells of a tile repeat an operation, as an expectation over all choices of operations in the cells.

    Args:
        of_cells: for each cell the probability that it applies the operation, and pi_c.
        count: the number of paths.
    """
    total = torch.zeros(())
    for chosen in itertools.product((False, True), repeat=len(of_cells)):
        passed = [p for (_, p), yes in zip(of_cells, chosen, strict=True) if yes]
        if len(passed) > 1:
            chances = [a if yes else 1 - a for (a, _), yes in zip(of_cells, chosen, strict=True)]
            executed = torch.stack([drawn(p, count) for p in passed]).sum()
            total = total + torch.stack(chances).prod() * (executed - drawn(torch.stack(passed).sum(), count))
    return total
