"""Random architectures of a space; no torch."""

from __future__ import annotations

from random import Random

from scripts.space.architecture import Architecture, Node
from scripts.space.registry import ZERO
from scripts.space.space import Space
from scripts.space.trellis import Cell, Path, Tile, step_of


def random_architecture(space: Space, random: Random, max_paths: int = 8, paths: int | None = None) -> Architecture:
    """An architecture of random cells and random distinct paths. If cells are not shared, ``random_subgraph`` draws it.

    The first path runs through a random tile, drawn evenly from all tiles: fully random paths rarely reach coarse ones.

    Args:
        space: the search space.
        random: the source of randomness.
        max_paths: the number of paths is drawn evenly from 1 to this.
        paths: the exact number of paths, if given.
    """
    if not space.share_cells:
        return random_subgraph(space, random)
    trellis = space.trellis
    count = min(trellis.path_count, paths or random.randint(1, max_paths))
    tiles = sorted({cell.target_tile for cell in trellis.cells})
    chosen = {_random_path(space, random, random.choice(tiles))}
    while len(chosen) < count:
        chosen.add(_random_path(space, random))
    cells: dict[str, tuple[Node, ...]] = {group: _random_nodes(space, random) for group in space.groups}
    return Architecture(space, cells, tuple(sorted(chosen)))


def random_subgraph(space: Space, random: Random, density: float | None = None) -> Architecture:
    """An architecture of random edges, each with its own random operations (HyperSegNAS, section 4).

    An edge is feasible if its tile is reached. In every layer each feasible edge is drawn with the same probability,
    and at least one is drawn, so that every architecture has L layers. Edges that lead nowhere are dropped.

    Args:
        space: the search space.
        random: the source of randomness.
        density: that probability; None draws it evenly for every architecture, so that small and large ones occur.
    """
    trellis = space.trellis
    density = random.random() if density is None else density
    reached = {Tile(0, s) for s in trellis.starts}
    drawn: list[list[Cell]] = []
    for _ in range(trellis.layers):
        feasible = [cell for tile in sorted(reached) for cell in trellis.exits.get(tile, ())]
        chosen = [cell for cell in feasible if random.random() < density] or [random.choice(feasible)]
        reached = {cell.target_tile for cell in chosen}
        drawn.append(chosen)
    kept: list[Cell] = []
    for chosen in reversed(drawn):
        used = {cell.source_tile for cell in kept if cell.layer == chosen[0].layer + 1}
        kept += [cell for cell in chosen if cell.layer == trellis.layers or cell.target_tile in used]
    cells = {cell.name: _random_nodes(space, random) for cell in sorted(kept) if not cell.skip}
    return Architecture(space, cells, trellis.cover(kept))


def _random_nodes(space: Space, random: Random) -> tuple[Node, ...]:
    """Distinct (input, operation) pairs, as decoding would give."""
    nodes: list[Node] = []
    for i in range(space.nodes):
        pairs = [(j, name) for j in range(i + 1) for name in space.operations if name != ZERO]
        nodes.append(random.choice([pair for pair in pairs if pair not in nodes] or pairs))
    return tuple(nodes)


def _random_path(space: Space, random: Random, through: Tile | None = None) -> Path:
    """A random path, drawn evenly from all paths, or from those through a tile if one is given."""
    trellis = space.trellis
    tile = through = (
        through
        or random.choices(starts := [Tile(0, s) for s in trellis.starts], [trellis.leaving[start] for start in starts])[
            0
        ]
    )
    cells: list[Cell] = []
    while tile.layer:  # backwards; a step is as likely as its share of the remaining paths
        before = [cell for cell in trellis.cells if cell.target_tile == tile]
        cells.insert(0, random.choices(before, [trellis.arriving[cell.source_tile] for cell in before])[0])
        tile = cells[0].source_tile
    tile = through
    while tile.layer < trellis.layers:
        after = trellis.exits[tile]
        cells.append(random.choices(after, [trellis.leaving[cell.target_tile] for cell in after])[0])
        tile = cells[-1].target_tile
    return (cells[0].source, *map(step_of, cells))
