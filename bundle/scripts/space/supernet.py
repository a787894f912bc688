"""Supernet: every cell of the trellis with every candidate operation, mixed by given weights.

It takes the mixing weights as given (softmax, Gumbel or sampled); search/relaxation.py makes them. space/fused.py
computes the cells that leave a tile together. Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from scripts.core.errors import CineError
from scripts.space.architecture import Architecture
from scripts.space.fused import node_matrices, refuse_unknown, run_cells
from scripts.space.mixed_cell import MixedCell
from scripts.space.mixing import Mixing
from scripts.space.network import Head, Stem, joined, pad_in_plane, run_network
from scripts.space.operations import search_norm
from scripts.space.registry import convolution_groups
from scripts.space.space import Space
from scripts.space.trellis import Cell, Tile


class Supernet(nn.Module):
    """The relaxed network: B in_channels H W D and mixing weights to logits B out_channels H W D.

    Args:
        space: the search space.
        channels: width at scale 0 while searching, or the widths of all scales, if smaller than the space's.
        partial: k; the operations compute 1/k of the channels. It must divide every width.
        in_channels: image channels.
        out_channels: classes, background first.

    Attributes:
        recompute: whether a tile's activations are computed a second time for the backward pass instead of being kept:
            less than half the memory at large sizes, 1.4 times the time.
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
            expected = "at least one convolution"
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
        # with one volume of one channel, torch cannot determine the layout and would choose the slow one
        tiles = {
            Tile(0, s): self.stems[str(s)](image_BCHWD).contiguous(memory_format=torch.channels_last_3d)
            for s in space.trellis.starts
        }
        matrices = {
            (group, scale): node_matrices(nodes, space.width(scale), space.operations, self.partial)
            for group, nodes in mixing.nodes.items()
            for scale in range(space.scales)
        }
        for tile, exits in space.trellis.exits.items():  # by layer, so that a tile is complete before a cell reads it
            x_BCHWD = tiles.pop(tile)
            holding = [cell for cell in exits if not cell.skip]
            outputs = {cell: x_BCHWD * mixing.cells[cell] for cell in exits if cell.skip}
            # a cell that scales first has its own X_0
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
            architecture: the cells and operations to use.
            weigh: a function applied to every cell's output, if given.
            gates: for each group of cells, scalars that multiply the outputs of its nodes, if given.
        """
        height, width = image_BCHWD.shape[2:4]
        space = self.space

        def cell_of(cell: Cell, x_BCHWD: torch.Tensor) -> torch.Tensor:
            of_nodes = None if gates is None else gates[space.group(cell)]
            output = cast(MixedCell, self.cells[cell.name]).run_one(x_BCHWD, architecture.nodes_of(cell), of_nodes)
            return output if weigh is None else weigh(cell, output)

        image_BCHWD = pad_in_plane(image_BCHWD, self.multiple)
        return run_network(architecture, image_BCHWD, self.stems, cell_of, self.heads)[:, :, :height, :width]
