"""Random architectures of a space; no torch."""

from __future__ import annotations

from random import Random

from scripts.space.architecture import Architecture, Node, Space
from scripts.space.trellis import Path, Tile


def random_architecture(space: Space, random: Random, most_paths: int = 8, paths: int | None = None) -> Architecture:
    """An architecture of random cells and random distinct paths.

    The first path runs through a tile drawn evenly from all, since random paths alone hardly reach the coarse ones.

    Args:
        space: the search space.
        random: the source of randomness.
        most_paths: the number of paths is drawn evenly from 1 to this.
        paths: the number of paths, where it is given.
    """
    most = space.trellis.path_count
    count = min(most, paths or random.randint(1, most_paths))
    tiles = sorted({cell.target_tile for cell in space.trellis.cells})
    chosen = {_random_path(space, random, random.choice(tiles))}
    while len(chosen) < count:
        chosen.add(_random_path(space, random))
    cells = {kind: _random_nodes(space, random) for kind in space.trellis.kinds}
    return Architecture(space, cells, tuple(sorted(chosen)))


def _random_nodes(space: Space, random: Random) -> tuple[Node, ...]:
    """Distinct (input, operation) pairs, as decoding gives them."""
    nodes: list[Node] = []
    for i in range(space.nodes):
        pairs = [(j, name) for j in range(i + 1) for name in space.operations]
        nodes.append(random.choice([pair for pair in pairs if pair not in nodes] or pairs))
    return tuple(nodes)


def _random_path(space: Space, random: Random, through: Tile | None = None) -> Path:
    """A path, each as likely as any other (of those through a tile, where it is given)."""
    trellis = space.trellis
    if through is None:
        through = Tile(0, 0)
    path = [through.scale]
    for layer in range(through.layer, 0, -1):  # backwards, each step as likely as the paths that it leaves open
        before = [s for s in trellis.near(path[0])]
        path.insert(0, random.choices(before, [trellis.arriving[Tile(layer - 1, s)] for s in before])[0])
    for layer in range(through.layer, trellis.layers):
        after = [s for s in trellis.near(path[-1])]
        path.append(random.choices(after, [trellis.leaving[Tile(layer + 1, s)] for s in after])[0])
    return tuple(path)
