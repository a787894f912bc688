"""A cell of the supernet: all candidate operations of each node, each with its own weights.

Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from scripts.space.architecture import Node
from scripts.space.network import run_cell
from scripts.space.operations import Scaling, build_operation, search_norm
from scripts.space.space import Space
from scripts.space.trellis import Cell


class MixedCell(nn.Module):
    """A cell with all candidates (RT-DNAS Eq. 1) and partial channels (PC-DARTS).

    ``X_i = shuffle(sum_j concat(sum_o p[j,o] o(X_j[:C/k]), (sum_o p[j,o]) X_j[C/k:]))``

    It stores the weights. ``run_cells`` computes all cells of a tile together; ``run_one`` computes one decoded cell.
    """

    def __init__(self, cell: Cell, space: Space, partial: int):
        super().__init__()
        self.kind, self.partial = cell.kind, partial
        self.operations = space.operations
        self.scales_first = space.scaling == "before"
        width = space.width(space.operation_scale(cell)) // partial
        self.edges = nn.ModuleDict(
            {
                f"{i}_{j}": nn.ModuleList(build_operation(name, width, search_norm) for name in self.operations)
                for i in range(1, space.nodes + 1)
                for j in range(i)
            }
        )
        in_channels, out_channels = space.nodes * space.width(cell.source), space.width(cell.target)
        self.scaling = Scaling(cell.kind, in_channels, out_channels, search_norm)

    def operation(self, i: int, j: int, o: int) -> nn.Module:
        """Candidate o between X_j and node i."""
        return cast(nn.ModuleList, self.edges[f"{i}_{j}"])[o]

    def run_one(
        self, x_BCHWD: torch.Tensor, nodes: tuple[Node, ...], gates: Sequence[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """The output of the cell with only these nodes, with the shared weights and all channels (k = 1).

        Args:
            x_BCHWD: the tile that the cell leaves.
            nodes: one (input, operation) per node.
            gates: scalars that multiply the outputs of the nodes, if given.
        """
        operations: list[Callable[[torch.Tensor], torch.Tensor]] = [
            self.operation(i, j, self.operations.index(name)) for i, (j, name) in enumerate(nodes, start=1)
        ]
        if gates is not None:
            operations = [_gated(*pair) for pair in zip(operations, gates, strict=True)]
        return run_cell(x_BCHWD, [j for j, _ in nodes], operations, self.scaling, self.scales_first)


def _gated(
    operation: Callable[[torch.Tensor], torch.Tensor], gate: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x_BCHWD: operation(x_BCHWD) * gate
