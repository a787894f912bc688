"""Discrete networks drawn from mixing weights, with gates that pass their losses to the architecture parameters.

If a supernet is trained only as a mixture, its discrete networks have a far lower Dice than the mixture. If it is
trained on discrete networks, it can rank them. Source of the gates: straight-through estimation (Bengio et al., 2013),
as in ProxylessNAS (Cai et al., ICLR 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from scripts.space.architecture import Architecture, Node
from scripts.space.mixing import Mixing
from scripts.space.passing import drawn, passing
from scripts.space.space import Space
from scripts.space.supernet import Supernet
from scripts.space.trellis import Cell, Path, Tile, step_of


@dataclass(frozen=True)
class Drawn:
    """A network drawn from mixing weights.

    Args:
        architecture: N paths, or fewer if some are equal; one (input, operation) per node.
        nodes: for each group of cells the gate of each node; a gate has the value 1 and the gradient of a probability.
        cells: the gate of each cell.
    """

    architecture: Architecture
    nodes: Mapping[str, list[torch.Tensor]]
    cells: Mapping[Cell, torch.Tensor]

    def forward_of(self, supernet: Supernet) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function from image to logits, with the shared weights and the gates."""

        def weigh(cell: Cell, output_BCHWD: torch.Tensor) -> torch.Tensor:
            return output_BCHWD * self.cells[cell]

        return lambda image_BCHWD: supernet.run_one(image_BCHWD, self.architecture, weigh, self.nodes)


def draw_network(mixing: Mixing, space: Space, count: int, generator: torch.Generator) -> Drawn:
    """Draw ``count`` independent paths from beta, and one (input, operation) per node from alpha.

    The gate of a node has the gradient of its pair's probability. The gate of a cell has the gradient of the
    probability that at least one path passes through it.
    """
    chosen: dict[str, tuple[Node, ...]] = {}
    nodes: dict[str, list[torch.Tensor]] = {}
    for group, tables in mixing.nodes.items():
        picked = [_pick(p_jO.flatten(), generator) for p_jO in tables]
        operations = space.operations
        chosen[group] = tuple((index // len(operations), operations[index % len(operations)]) for index in picked)
        nodes[group] = [_gate(p_jO.flatten()[index]) for p_jO, index in zip(tables, picked, strict=True)]
    paths = {_draw_path(mixing, space, generator) for _ in range(count)}
    architecture = Architecture(space, chosen, tuple(sorted(paths)))
    passed = passing(mixing, space.trellis)
    cells = {cell: _gate(drawn(passed.cells[cell], count)) for cell in architecture.union}
    return Drawn(architecture, nodes, cells)


def _draw_path(mixing: Mixing, space: Space, generator: torch.Generator) -> Path:
    trellis = space.trellis
    starts = [tile for s in trellis.starts if trellis.leaving[tile := Tile(0, s)]]
    tile = starts[_pick(torch.ones(len(starts)), generator)]
    path = [tile.scale]
    while tile in trellis.exits:
        exits = trellis.exits[tile]
        cell = exits[_pick(torch.stack([mixing.cells[cell] for cell in exits]), generator)]
        path.append(step_of(cell))
        tile = cell.target_tile
    return tuple(path)


def _pick(p: torch.Tensor, generator: torch.Generator) -> int:
    return int(torch.multinomial(p.detach().cpu(), 1, generator=generator))


def _gate(p: torch.Tensor) -> torch.Tensor:
    return p + (1 - p).detach()
