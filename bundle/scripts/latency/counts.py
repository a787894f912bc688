"""The operations that a network executes, and how often: the entries of the latency table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from scripts.space.architecture import Architecture
from scripts.space.registry import POOLING, ZERO
from scripts.space.space import Space
from scripts.space.trellis import Cell, scales_of
from scripts.space.trellis import Path as TrellisPath

SPACE_KEYS = ("scales", "nodes", "channels", "stem_stride", "deployment_size", "scaling")
"""The settings of a space that latency depends on."""
Key = tuple[str, int]
"""The name of an entry, and the scale at which it runs.

Names: an operation, with ``CHAINED`` if it reads another node of its cell; "scaling_" and a kind of cell; "merge", a
sum of two cells' outputs at a tile; "stem"; "head". ``REPEATED`` marks an operation without weights that another cell
has already applied to the same tile: compilers then compute it only once.
"""
CHAINED, REPEATED = "_chained", "_repeated"


def keys_of(space: Space) -> set[Key]:
    """The entries that are necessary for a space."""
    trellis = space.trellis
    cells = [cell for cell in trellis.cells if not cell.skip]
    keys = {("stem", s) for s in trellis.starts} | {("head", s) for s in trellis.ends}
    keys |= {(f"scaling_{cell.kind}", cell.source) for cell in cells}
    keys |= {
        key_of(name, space.operation_scale(cell), reads)
        for cell in cells
        for name in space.operations
        if name != ZERO
        for reads in range(space.nodes)
    }
    if POOLING in space.operations and space.scaling == "after":
        leaving = Counter(cell.source_tile for cell in cells)
        keys |= {(POOLING + REPEATED, tile.scale) for tile, count in leaving.items() if count > 1}
    return keys | set(merges_of(trellis.cells))


def key_of(name: str, scale: int, reads: int) -> Key:
    """The entry of an operation that reads a node of its cell; 0 is the cell's input."""
    return name + CHAINED if reads else name, scale


def operation_of(name: str) -> str:
    """The operation in an entry's name."""
    return name.removesuffix(CHAINED).removesuffix(REPEATED)


def counts_of(architecture: Architecture) -> Counter[Key]:
    """How often a network executes each entry."""
    space, union = architecture.space, architecture.union
    counts = ends_of(architecture.paths)
    for cell in union:
        if not cell.skip:
            counts[f"scaling_{cell.kind}", cell.source] += 1
            scale = space.operation_scale(cell)
            counts.update(key_of(name, scale, j) for j, name in architecture.nodes_of(cell))
    for scale, count in repeats_of(architecture, union).items():
        counts[POOLING, scale] -= count
        counts[POOLING + REPEATED, scale] += count
    return counts + merges_of(union)


def ends_of(paths: Iterable[TrellisPath]) -> Counter[Key]:
    """The stems and heads of some paths."""
    ends = {(path[0], scales_of(path)[-1]) for path in paths}
    stems, heads = ({pair[side] for pair in ends} for side in (0, 1))
    return Counter([*(("stem", s) for s in stems), *(("head", s) for s in heads)])


def merges_of(cells: Iterable[Cell]) -> Counter[Key]:
    """The sums at tiles: at each tile, one fewer than the cells that end there."""
    arriving = Counter(cell.target_tile for cell in cells)
    merges: Counter[Key] = Counter()
    for tile, count in arriving.items():
        merges["merge", tile.scale] += count - 1
    return +merges


def repeats_of(architecture: Architecture, cells: Iterable[Cell]) -> Counter[int]:
    """How often, by scale, cells repeat an operation that another cell has already applied to the same tile.

    A cell that scales first applies its operations to its own tensor, so it repeats nothing.
    """
    repeats: Counter[int] = Counter()
    if architecture.space.scaling == "before":
        return repeats
    applied = Counter(cell.source_tile for cell in cells if (0, POOLING) in architecture.nodes_of(cell))
    for tile, count in applied.items():
        repeats[tile.scale] += count - 1
    return +repeats
