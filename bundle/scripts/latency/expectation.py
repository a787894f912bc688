"""L_t: a network's expected latency in ms, differentiable in the mixing weights (RT-DNAS Eq. 3-5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch

from scripts.latency.table import LatencyTable
from scripts.space.architecture import Space
from scripts.space.supernet import Mixing
from scripts.space.trellis import Cell, Kind

CellReading = Literal["sequential", "critical_path"]
NetworkReading = Literal["derived", "paths"]


class LatencyExpectation:
    """``L_t = stem + head + sum over cells of k_c * Lat_cell(c)``, and the sums where derived cells meet.

    Args:
        table: the measured latencies.
        space: the search space.
        cell: "sequential", the sum over the nodes' expectations, what one stream executes; "critical_path", the
            longest path from X_0 to X_N over per-edge expectations, for devices that run edges in parallel.
        network: "paths", k_c is the share of all paths through c (Eq. 5, supplement Fig. 3); "derived", k_c is 1
            for the cells of the network that would be derived now, else 0.
    """

    def __init__(
        self,
        table: LatencyTable,
        space: Space,
        cell: CellReading = "sequential",
        network: NetworkReading = "derived",
    ):
        self.table, self.space, self.cell, self.network = table, space, cell, network

    def __call__(self, mixing: Mixing, derived: Collection[Cell] = ()) -> torch.Tensor:
        """L_t in ms, a scalar.

        Args:
            mixing: mixing weights.
            derived: the cells of the network that would be derived now; read by "derived" alone.
        """
        trellis = self.space.trellis
        shares = (
            {cell: trellis.share(cell) for cell in trellis.cells}
            if self.network == "paths"
            else dict.fromkeys(derived, 1.0)
        )
        latencies: dict[tuple[Kind, int], torch.Tensor] = {}
        # a single path, of which "paths" is the mean, merges nothing
        merges = self.table.merges(shares) if self.network == "derived" else 0.0
        total = torch.tensor(self.table.fixed + merges)
        for cell, share in shares.items():
            key = cell.kind, cell.source
            if key not in latencies:
                latencies[key] = self._nodes(mixing.nodes[cell.kind], cell.source) + self.table.scaling(cell)
            total = total + share * latencies[key]
        return total

    def _nodes(self, nodes: list[torch.Tensor], scale: int) -> torch.Tensor:
        costs_O = nodes[0].new_tensor([self.table[name, scale] for name in self.space.operations])
        if self.cell == "sequential":
            return torch.stack([(weights_jO * costs_O).sum() for weights_jO in nodes]).sum()
        longest = [costs_O.new_zeros(())]
        for weights_jO in nodes:
            edges_j = (weights_jO * costs_O).sum(1) / weights_jO.sum(1)
            longest.append((torch.stack(longest) + edges_j).max())
        return longest[-1]
