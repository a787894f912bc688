"""The trellis: tiles at (layer, scale), cells between neighbouring layers, and paths through them.

Geometry alone, so that it can be checked by hand; no torch. Source: RT-DNAS (Lu et al., MICCAI 2022), section
2.1 and supplement Fig. 3; MS-NAS (Yan et al., MICCAI 2020).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

Kind = Literal["contracting", "non_scaling", "expanding"]
KINDS: tuple[Kind, ...] = ("contracting", "non_scaling", "expanding")
Path = tuple[int, ...]  # the scales of layers 0..L
Ends = Literal["0", "any"]


class Tile(NamedTuple):
    """The feature map at a layer (0..L) and a scale (0 is the finest)."""

    layer: int
    scale: int


class Cell(NamedTuple):
    """The edge from tile (layer - 1, source) to tile (layer, target)."""

    layer: int
    source: int
    target: int

    @property
    def kind(self) -> Kind:
        return KINDS[1 - (self.target - self.source)]

    @property
    def source_tile(self) -> Tile:
        return Tile(self.layer - 1, self.source)

    @property
    def target_tile(self) -> Tile:
        return Tile(self.layer, self.target)


@dataclass(frozen=True)
class Trellis:
    """All paths of ``layers`` cells over ``scales`` scales.

    Args:
        layers: L, the number of cells on a path.
        scales: S, the number of scales.
        start: "0", paths leave tile (0, 0); "any", paths leave every scale (HyperSegNAS).
        end: "0", paths arrive at tile (L, 0); "any", paths end at every scale.
    """

    layers: int
    scales: int
    start: Ends = "0"
    end: Ends = "0"

    def __post_init__(self) -> None:
        if self.layers < 1 or self.scales < 1:
            raise ValueError(f"a trellis needs at least 1 layer and 1 scale, not {self.layers} and {self.scales}")

    def _ends(self, which: Ends) -> range:
        return range(self.scales) if which == "any" else range(1)

    @cached_property
    def arriving(self) -> dict[Tile, int]:
        """F: the number of partial paths from a start to each tile (0 where none arrives)."""
        counts = {Tile(0, s): int(s in self._ends(self.start)) for s in range(self.scales)}
        for layer in range(1, self.layers + 1):
            for s in range(self.scales):
                counts[Tile(layer, s)] = sum(counts[Tile(layer - 1, p)] for p in self.near(s))
        return counts

    @cached_property
    def leaving(self) -> dict[Tile, int]:
        """B: the number of partial paths from each tile to an end (0 where none leaves)."""
        counts = {Tile(self.layers, s): int(s in self._ends(self.end)) for s in range(self.scales)}
        for layer in range(self.layers - 1, -1, -1):
            for s in range(self.scales):
                counts[Tile(layer, s)] = sum(counts[Tile(layer + 1, n)] for n in self.near(s))
        return counts

    def near(self, scale: int) -> range:
        """The scales that a cell joins with this one."""
        return range(max(0, scale - 1), min(self.scales, scale + 2))

    @cached_property
    def path_count(self) -> int:
        """T: the number of all paths."""
        return sum(self.arriving[Tile(self.layers, s)] for s in self._ends(self.end))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell that lies on at least one path, by layer, source and target."""
        return tuple(
            cell
            for layer in range(1, self.layers + 1)
            for source in range(self.scales)
            for target in self.near(source)
            if self.passing(cell := Cell(layer, source, target))
        )

    @cached_property
    def exits(self) -> dict[Tile, tuple[Cell, ...]]:
        """The cells that leave each tile, finest target first."""
        exits: dict[Tile, tuple[Cell, ...]] = {}
        for cell in self.cells:
            exits[cell.source_tile] = (*exits.get(cell.source_tile, ()), cell)
        return exits

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of cells that occur."""
        return tuple(kind for kind in KINDS if any(cell.kind == kind for cell in self.cells))

    def passing(self, cell: Cell) -> int:
        """The number of paths through a cell."""
        return self.arriving[cell.source_tile] * self.leaving[cell.target_tile]

    def share(self, cell: Cell) -> float:
        """k_c of RT-DNAS Eq. 5: the share of all paths that pass through the cell; sums to 1 in every layer."""
        return self.passing(cell) / self.path_count

    def check_path(self, path: Iterable[int]) -> Path:
        """Return the path as a tuple; ValueError where it is no path of this trellis."""
        path = tuple(path)
        if len(path) != self.layers + 1:
            raise ValueError(f"path {path} has {len(path)} tiles; a path of {self.layers} layers has {self.layers + 1}")
        if not all(0 <= s < self.scales for s in path):
            raise ValueError(f"path {path} leaves the scales 0..{self.scales - 1}")
        if any(abs(a - b) > 1 for a, b in itertools.pairwise(path)):
            raise ValueError(f"path {path} skips a scale")
        if path[0] not in self._ends(self.start) or path[-1] not in self._ends(self.end):
            raise ValueError(f"path {path} does not run from scale {self.start} to scale {self.end}")
        return path

    def paths(self) -> Iterator[Path]:
        """All paths, in lexicographic order."""

        def extend(path: Path) -> Iterator[Path]:
            tile = Tile(len(path) - 1, path[-1])
            if tile.layer == self.layers:
                yield path
            for cell in self.exits.get(tile, ()):
                yield from extend((*path, cell.target))

        for s in self._ends(self.start):
            if self.leaving[Tile(0, s)]:
                yield from extend((s,))

    def best_paths(self, count: int, score: Mapping[Cell, float]) -> list[tuple[float, Path]]:
        """The ``count`` paths of the highest summed cell scores, best first, ties in lexicographic order.

        Exact: k-best dynamic programming (MS-NAS calls its use of it Dijkstra), each tile keeping its ``count``
        best arrivals.
        """
        order: Callable[[tuple[float, Path]], tuple[float, Path]] = lambda scored: (-scored[0], scored[1])  # noqa: E731
        kept: dict[Tile, list[tuple[float, Path]]] = {
            Tile(0, s): [(0.0, (s,))] for s in self._ends(self.start) if self.leaving[Tile(0, s)]
        }
        arrivals: dict[Tile, list[tuple[float, Path]]] = {}
        for cell in self.cells:  # by layer, so each head is complete once its first exit is met
            if cell.source_tile not in kept:
                kept[cell.source_tile] = heapq.nsmallest(count, arrivals.pop(cell.source_tile), key=order)
            arrivals.setdefault(cell.target_tile, []).extend(
                (total + score[cell], (*path, cell.target)) for total, path in kept[cell.source_tile]
            )
        return heapq.nsmallest(count, (scored for ended in arrivals.values() for scored in ended), key=order)


def cells_of(path: Path) -> list[Cell]:
    """The cells of a path, layer by layer."""
    return [Cell(layer, path[layer - 1], path[layer]) for layer in range(1, len(path))]


def union_of(paths: Iterable[Path]) -> list[Cell]:
    """The distinct cells of some paths, by layer, source and target."""
    return sorted({cell for path in paths for cell in cells_of(path)})
