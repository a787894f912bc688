"""Supernet: every cell of the trellis with every candidate operation, mixed by given weights.

The weights' origin (softmax, Gumbel, sampling) is no concern here: search/relaxation.py makes them.
Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from scripts.files import CineError
from scripts.space.architecture import Space
from scripts.space.network import Head, Stem, name_of, pad_in_plane
from scripts.space.operations import Scaling, build_operation, search_norm
from scripts.space.trellis import Cell, Kind, Tile


@dataclass(frozen=True)
class Mixing:
    """Mixing weights of a supernet.

    Args:
        nodes: for each kind of cell, one tensor a node i, shape (i, number of operations): p_i[j, o].
        cells: for each cell its scalar probability among the cells that leave its tile.
    """

    nodes: Mapping[Kind, list[torch.Tensor]]
    cells: Mapping[Cell, torch.Tensor]

    def to_lists(self) -> dict[str, Any]:
        """Plain numbers for JSON: nodes by kind, cells by name."""
        return {
            "nodes": {kind: [p.tolist() for p in nodes] for kind, nodes in self.nodes.items()},
            "cells": {name_of(cell): p.item() for cell, p in self.cells.items()},
        }

    @classmethod
    def from_lists(cls, content: Mapping[str, Any], space: Space) -> Mixing:
        """The inverse of ``to_lists``; KeyError where a cell of the space is missing."""
        return cls(
            {kind: [torch.tensor(p) for p in content["nodes"][kind]] for kind in space.trellis.kinds},
            {cell: torch.tensor(content["cells"][name_of(cell)]) for cell in space.trellis.cells},
        )


class MixedCell(nn.Module):
    """A cell with all candidates (RT-DNAS Eq. 1) and partial channels (PC-DARTS).

    ``X_i = shuffle(sum_j concat(sum_o p[j,o] o(X_j[:C/k]), (sum_o p[j,o]) X_j[C/k:]))``
    """

    def __init__(self, kind: Kind, space: Space, width: int, out_channels: int, partial: int):
        super().__init__()
        self.partial = partial
        self.edges = nn.ModuleDict(
            {
                f"{i}_{j}": nn.ModuleList(
                    build_operation(name, width // partial, search_norm) for name in space.operations
                )
                for i in range(1, space.nodes + 1)
                for j in range(i)
            }
        )
        self.scaling = Scaling(kind, space.nodes * width, out_channels, search_norm)

    def forward(self, x_BCHWD: torch.Tensor, nodes: list[torch.Tensor]) -> torch.Tensor:
        tensors = [x_BCHWD]
        active = x_BCHWD.shape[1] // self.partial
        for i, weights in enumerate(nodes, start=1):
            mixed: torch.Tensor | None = None
            bypassed: torch.Tensor | None = None
            for j in range(i):
                head = tensors[j][:, :active]
                for o, operation in enumerate(cast(nn.ModuleList, self.edges[f"{i}_{j}"])):
                    term = weights[j, o] * operation(head)
                    mixed = term if mixed is None else mixed + term
                if self.partial > 1:
                    term = weights[j].sum() * tensors[j][:, active:]
                    bypassed = term if bypassed is None else bypassed + term
            assert mixed is not None
            whole = mixed if bypassed is None else torch.cat([mixed, bypassed], dim=1)
            tensors.append(shuffle_channels(whole, self.partial))
        return self.scaling(tensors[1:])


class Supernet(nn.Module):
    """The relaxed network: B in_channels H W D and mixing weights to logits B out_channels H W D.

    Args:
        space: the search space.
        channels: width at scale 0 while searching, where smaller than the space's.
        partial: k, the operations see 1/k of the channels; must divide the width.
        in_channels: image channels.
        out_channels: classes, background first.
    """

    def __init__(
        self,
        space: Space,
        channels: int | None = None,
        partial: int = 4,
        in_channels: int = 1,
        out_channels: int = 4,
    ):
        super().__init__()
        space = replace(space, channels=channels or space.channels)
        if space.channels % partial:
            expected = f"a divisor of the {space.channels} channels of the supernet"
            raise CineError("supernet#partial", str(partial), expected, "Change the key, or supernet#channels.")
        self.space = space
        self.stem = Stem(in_channels, space, search_norm)
        self.cells = nn.ModuleDict(
            {
                name_of(cell): MixedCell(cell.kind, space, space.width(cell.source), space.width(cell.target), partial)
                for cell in space.trellis.cells
            }
        )
        self.head = Head(space, out_channels)

    def forward(self, image_BCHWD: torch.Tensor, mixing: Mixing) -> torch.Tensor:
        height, width = image_BCHWD.shape[2:4]
        multiple = self.space.stem_stride * 2 ** (self.space.scales - 1)
        tiles = {Tile(0, 0): self.stem(pad_in_plane(image_BCHWD, multiple))}
        for cell in self.space.trellis.cells:
            output = self.cells[name_of(cell)](tiles[cell.source_tile], mixing.nodes[cell.kind])
            output = mixing.cells[cell] * output
            tiles[cell.target_tile] = tiles[cell.target_tile] + output if cell.target_tile in tiles else output
        return self.head(tiles[Tile(self.space.layers, 0)])[:, :, :height, :width]


def shuffle_channels(x_BCHWD: torch.Tensor, groups: int) -> torch.Tensor:
    """Interleave ``groups`` equal groups of channels, so that every channel meets the operations in turn."""
    if groups == 1:
        return x_BCHWD
    batch, channels, *size = x_BCHWD.shape
    return x_BCHWD.reshape(batch, groups, channels // groups, *size).transpose(1, 2).reshape(batch, channels, *size)
