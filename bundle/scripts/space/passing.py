"""The probability that paths drawn from beta pass through each cell and tile."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scripts.space.mixing import Mixing
from scripts.space.trellis import Cell, Tile, Trellis


@dataclass(frozen=True)
class Passing:
    """The probabilities that one path passes; scalars, differentiable in beta.

    Args:
        cells: pi_c of every cell.
        tiles: the probability of every tile that a path can reach.
    """

    cells: dict[Cell, torch.Tensor]
    tiles: dict[Tile, torch.Tensor]


def passing(mixing: Mixing, trellis: Trellis) -> Passing:
    """Compute them: a path takes each cell with its probability among the cells that leave the tile.

    If paths may start at several scales, all starts are equally likely.
    """
    starts = [tile for s in trellis.starts if trellis.leaving[tile := Tile(0, s)]]
    cells: dict[Cell, torch.Tensor] = {}
    tiles = {tile: next(iter(mixing.cells.values())).new_tensor(1 / len(starts)) for tile in starts}
    for tile, exits in trellis.exits.items():  # by layer, so that a tile is complete before a cell reads it
        for cell in exits:
            cells[cell] = tiles[tile] * mixing.cells[cell]
            target = cell.target_tile
            tiles[target] = tiles[target] + cells[cell] if target in tiles else cells[cell]
    return Passing(cells, tiles)


def drawn(p: torch.Tensor, count: int) -> torch.Tensor:
    """The probability that at least one of ``count`` independent paths passes, where each passes with ``p``."""
    return 1 - (1 - p.clamp(max=1)) ** count
