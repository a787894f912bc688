"""L_t: a network's expected latency in ms, differentiable in the mixing weights (RT-DNAS Eq. 3-5;
hardware-aware NAS Eq. 7-9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import torch

from scripts.latency.counts import REPEATABLE
from scripts.latency.table import LatencyTable
from scripts.space.space import Space
from scripts.space.supernet import Mixing
from scripts.space.trellis import Cell, Kind, Path, Tile, cells_of, union_of

CellReading = Literal["sequential", "critical_path"]
NetworkReading = Literal["derived", "paths", "n_best"]


class LatencyExpectation:
    """``L_t = stems + heads + sum over cells of k_c * Lat_cell(c)``, and what derived cells merge and repeat.

    Args:
        table: the measured latencies.
        space: the search space.
        cell: "sequential", the sum over the nodes' expectations, what one stream executes; "critical_path", the
            longest path from X_0 to X_N over per-edge expectations, for devices that run edges in parallel.
        network: "derived", k_c is 1 for the cells of the network that would be derived now, else 0; "paths", k_c is
            the share of all paths through c (Eq. 5, supplement Fig. 3); "n_best", each of the paths that would be
            derived now adds its cells, each times its probability (hardware-aware NAS Eq. 9).
    """

    def __init__(
        self,
        table: LatencyTable,
        space: Space,
        cell: CellReading = "sequential",
        network: NetworkReading = "derived",
    ):
        self.table, self.space, self.cell, self.network = table, space, cell, network

    def __call__(self, mixing: Mixing, paths: Collection[Path] = ()) -> torch.Tensor:
        """L_t in ms, a scalar.

        Args:
            mixing: mixing weights.
            paths: those of the network that would be derived now; read by all but "paths".
        """
        fixed_ms, shares = self._shares(mixing, paths)
        latencies: dict[tuple[Kind, int], torch.Tensor] = {}
        total = torch.tensor(fixed_ms)
        for cell, share in shares.items():
            if cell.skip:
                continue
            key = cell.kind, cell.source
            if key not in latencies:
                nodes_ms = self._nodes(mixing.nodes[cell.kind], self.space.operation_scale(cell))
                latencies[key] = nodes_ms + self.table.scaling(cell)
            total = total + share * latencies[key]
        return total + self._repeats(mixing, shares) if self.network == "derived" else total

    def _shares(
        self, mixing: Mixing, paths: Collection[Path]
    ) -> tuple[float, Mapping[Cell, float] | Mapping[Cell, torch.Tensor]]:
        """ms beside the cells, and k_c of each cell."""
        trellis = self.space.trellis
        if self.network == "paths":  # the mean of single paths, which merge nothing
            ends = [(s, trellis.leaving[Tile(0, s)], "stem") for s in trellis.starts]
            ends += [(s, trellis.arriving[Tile(trellis.layers, s)], "head") for s in trellis.ends]
            fixed_ms = sum(count * self.table[name, s] for s, count, name in ends) / trellis.path_count
            return fixed_ms, {cell: trellis.share(cell) for cell in trellis.cells}
        if self.network == "n_best":
            counts = Counter(cell for path in paths for cell in cells_of(path))
            return self.table.ends(paths), {cell: count * mixing.cells[cell] for cell, count in counts.items()}
        union = union_of(paths)
        return self.table.ends(paths) + self.table.merges(union), dict.fromkeys(union, 1.0)

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

    def _repeats(self, mixing: Mixing, cells: Iterable[Cell]) -> torch.Tensor:
        """ms of repeated operations: their expected number at each tile, one less than those that apply it there."""
        total = torch.zeros(())
        if REPEATABLE not in self.space.operations or self.space.scaling == "before":
            return total
        operation = self.space.operations.index(REPEATABLE)
        applies = {
            kind: 1 - torch.stack([1 - weights_jO[0, operation] for weights_jO in nodes]).prod()
            for kind, nodes in mixing.nodes.items()
        }
        leaving: dict[Tile, list[torch.Tensor]] = {}
        for cell in cells:
            if not cell.skip:
                leaving.setdefault(cell.source_tile, []).append(applies[cell.kind])
        for tile, chances in leaving.items():
            applied = torch.stack(chances)
            repeated = applied.sum() - (1 - (1 - applied).prod())
            total = total + repeated * self.table.repeat(tile.scale)
        return total
