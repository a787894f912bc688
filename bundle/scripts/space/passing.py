"""Where paths lead that are drawn from beta: the probability that they pass through each cell and tile."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scripts.space.mixing import Mixing
from scripts.space.trellis import Cell, Tile, Trellis


@dataclass(frozen=True)
class Passing:
    """Probabilities that one path passes; scalars, differentiable in beta.

    Args:
        cells: pi_c of every cell.
        tiles: of every tile that a path can reach.
    """

    cells: dict[Cell, torch.Tensor]
    tiles: dict[Tile, torch.Tensor]


def passing(mixing: Mixing, trellis: Trellis) -> Passing:
    """A path takes each cell with its probability among the cells that leave the tile.

    Where paths may start at several scales, each start is as likely as the others.
    """
    starts = [tile for s in trellis.starts if trellis.leaving[tile := Tile(0, s)]]
    cells: dict[Cell, torch.Tensor] = {}
    tiles = {tile: next(iter(mixing.cells.values())).new_tensor(1 / len(starts)) for tile in starts}
    for tile, exits in trellis.exits.items():  # by layer: a tile is complete before a cell leaves it
        for cell in exits:
            cells[cell] = tiles[tile] * mixing.cells[cell]
            target = cell.target_tile
            tiles[target] = tiles[target] + cells[cell] if target in tiles else cells[cell]
    return Passing(cells, tiles)


def drawn(p: torch.Tensor, count: int) -> torch.Tensor:
    """The probability that one of ``count`` independent paths or more passes where each does with ``p``."""
    return 1 - (1 - p.clamp(max=1)) ** count
