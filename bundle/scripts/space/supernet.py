"""Supernet: every cell of the trellis with every candidate operation, mixed by given weights.

The weights' origin (softmax, Gumbel, sampling) is no concern here: search/relaxation.py makes them; how the cells
that leave a tile are computed together is told in space/fused.py. Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from scripts.files import CineError
from scripts.space.architecture import Architecture, Node
from scripts.space.fused import node_matrices, refuse_unknown, run_cells
from scripts.space.network import Head, Stem, joined, pad_in_plane, run_cell, run_network
from scripts.space.operations import Scaling, build_operation, search_norm
from scripts.space.registry import convolution_groups
from scripts.space.space import Space
from scripts.space.trellis import Cell, Tile


@dataclass(frozen=True)
class Mixing:
    """Mixing weights of a supernet.

    Args:
        nodes: for each group of cells (``Space.group``) one tensor a node i, shape (i, number of operations): p_i[j, o]
        cells: for each cell its scalar probability among the cells that leave its tile.
    """

    nodes: Mapping[str, list[torch.Tensor]]
    cells: Mapping[Cell, torch.Tensor]

    def to_lists(self) -> dict[str, Any]:
        """Plain numbers for JSON: nodes by group, cells by name."""
        return {
            "nodes": {group: [p.tolist() for p in nodes] for group, nodes in self.nodes.items()},
            "cells": {cell.name: p.item() for cell, p in self.cells.items()},
        }

    @classmethod
    def from_lists(cls, content: Mapping[str, Any], space: Space) -> Mixing:
        """The inverse of ``to_lists``; CineError where the numbers are not those of a search of the space."""
        try:
            mixing = cls(
                {group: [torch.tensor(p) for p in content["nodes"][group]] for group in space.groups},
                {cell: torch.tensor(content["cells"][cell.name]) for cell in space.trellis.cells},
            )
            fits = all(
                p.shape == (i, len(space.operations)) and p.dtype == torch.float32
                for nodes in mixing.nodes.values()
                for i, p in enumerate(nodes, start=1)
            ) and all(len(nodes) == space.nodes for nodes in mixing.nodes.values())
        except (LookupError, TypeError, ValueError, RuntimeError):
            fits = False
        if not fits:
            expected = "one for each operation and cell of the configured space"
            raise CineError(
                "search/history.json", "other mixing weights", expected, "Restore the space, or search anew."
            )
        return mixing


class MixedCell(nn.Module):
    """A cell with all candidates (RT-DNAS Eq. 1) and partial channels (PC-DARTS).

    ``X_i = shuffle(sum_j concat(sum_o p[j,o] o(X_j[:C/k]), (sum_o p[j,o]) X_j[C/k:]))``

    It holds the weights; ``run_cells`` computes all cells of a tile at once, ``run_one`` one decoded cell of them.
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
        """The output of the cell that holds only these nodes, with the shared weights; all channels (k = 1).

        Args:
            x_BCHWD: the tile that it leaves.
            nodes: one (input, operation) a node.
            gates: scalars that multiply what each node computes, where given.
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


class Supernet(nn.Module):
    """The relaxed network: B in_channels H W D and mixing weights to logits B out_channels H W D.

    Args:
        space: the search space.
        channels: width at scale 0 while searching, or of all scales, where smaller than the space's.
        partial: k, the operations see 1/k of the channels; must divide every width.
        in_channels: image channels.
        out_channels: classes, background first.

    Attributes:
        recompute: whether a tile's activations are computed a second time for the backward pass instead of being
            kept for it: less than half the memory at large sizes, 1.4 times the time.
    """

    def __init__(
        self,
        space: Space,
        channels: int | tuple[int, ...] | None = None,
        partial: int = 4,
        in_channels: int = 1,
        out_channels: int = 4,
    ):
        super().__init__()
        space = replace(space, channels=space.channels if channels is None else channels)
        widths = [space.width(scale) for scale in range(space.scales)]
        if type(partial) is not int or partial < 1 or any(width % partial for width in widths):
            expected = f"a divisor of the widths {widths} of the supernet"
            raise CineError("partial_channels", str(partial), expected, "Change it, or search_channels.")
        refuse_unknown(space.operations)
        if not convolution_groups(space.operations):
            expected = "a convolution among them"
            raise CineError("space#operations", ", ".join(space.operations), expected, "Add one, such as conv_3x3x3.")
        self.space, self.partial = space, partial
        self.multiple = space.stem_stride * 2 ** (space.scales - 1)
        self.recompute = False
        trellis = space.trellis
        self.stems = nn.ModuleDict({str(s): Stem(in_channels, space, search_norm, s) for s in trellis.starts})
        self.cells = nn.ModuleDict(
            {cell.name: MixedCell(cell, space, partial) for cell in trellis.cells if not cell.skip}
        )
        self.heads = nn.ModuleDict({str(s): Head(space, out_channels, s) for s in trellis.ends})

    def forward(self, image_BCHWD: torch.Tensor, mixing: Mixing) -> torch.Tensor:
        height, width = image_BCHWD.shape[2:4]
        space = self.space
        image_BCHWD = pad_in_plane(image_BCHWD, self.multiple)
        # of a single volume with a single channel torch cannot tell the layout, and would take the slow one
        tiles = {
            Tile(0, s): self.stems[str(s)](image_BCHWD).contiguous(memory_format=torch.channels_last_3d)
            for s in space.trellis.starts
        }
        matrices = {
            (group, scale): node_matrices(nodes, space.width(scale), space.operations, self.partial)
            for group, nodes in mixing.nodes.items()
            for scale in range(space.scales)
        }
        for tile, exits in space.trellis.exits.items():  # by layer: a tile is complete before a cell leaves it
            x_BCHWD = tiles.pop(tile)
            holding = [cell for cell in exits if not cell.skip]
            outputs = {cell: x_BCHWD * mixing.cells[cell] for cell in exits if cell.skip}
            # cells that scale first have inputs of their own
            for side_by_side in [[cell] for cell in holding] if space.scaling == "before" else [holding]:
                arguments = (
                    x_BCHWD,
                    [cast(MixedCell, self.cells[cell.name]) for cell in side_by_side],
                    [mixing.nodes[space.group(cell)] for cell in side_by_side],
                    [matrices[space.group(cell), space.operation_scale(cell)] for cell in side_by_side],
                    [mixing.cells[cell] for cell in side_by_side],
                )
                keep = not (self.recompute and torch.is_grad_enabled())
                computed = run_cells(*arguments) if keep else checkpoint(run_cells, *arguments, use_reentrant=False)
                outputs.update(zip(side_by_side, computed, strict=True))
            for cell, output in outputs.items():
                target = cell.target_tile
                tiles[target] = tiles[target] + output if target in tiles else output
        layers = space.layers
        logits = joined([self.heads[str(s)](tiles[Tile(layers, s)]) for s in space.trellis.ends], space.join == "mean")
        return logits[:, :, :height, :width]

    def run_one(
        self,
        image_BCHWD: torch.Tensor,
        architecture: Architecture,
        weigh: Callable[[Cell, torch.Tensor], torch.Tensor] | None = None,
        gates: Mapping[str, Sequence[torch.Tensor]] | None = None,
    ) -> torch.Tensor:
        """Logits of one architecture of the space, with the shared weights.

        Args:
            image_BCHWD: the image.
            architecture: which cells and operations take part.
            weigh: applied to every cell's output, where given.
            gates: for each group of cells scalars that multiply what its nodes compute, where given.
        """
        height, width = image_BCHWD.shape[2:4]
        space = self.space

        def cell_of(cell: Cell, x_BCHWD: torch.Tensor) -> torch.Tensor:
            of_nodes = None if gates is None else gates[space.group(cell)]
            output = cast(MixedCell, self.cells[cell.name]).run_one(x_BCHWD, architecture.nodes_of(cell), of_nodes)
            return output if weigh is None else weigh(cell, output)

        image_BCHWD = pad_in_plane(image_BCHWD, self.multiple)
        return run_network(architecture, image_BCHWD, self.stems, cell_of, self.heads)[:, :, :height, :width]
