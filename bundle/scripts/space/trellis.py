"""The trellis: tiles at (layer, scale), cells between neighbouring layers, and paths through them.

Only geometry, so that it can be checked by hand. No torch. Source: RT-DNAS (Lu et al., MICCAI 2022), section
2.1 and supplement Fig. 3; MS-NAS (Yan et al., MICCAI 2020).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

Kind = Literal["contracting", "non_scaling", "expanding", "skip"]
KINDS: tuple[Kind, ...] = ("contracting", "non_scaling", "expanding")  # the kinds with operations
SKIP = -1
Path = tuple[int, ...]  # the scales of layers 0..L; SKIP: the same scale again, by the skip edge
Ends = Literal["0", "any"]


class Tile(NamedTuple):
    """The feature map at a layer (0..L) and a scale (0 is the finest)."""

    layer: int
    scale: int


class Cell(NamedTuple):
    """The edge from tile (layer - 1, source) to tile (layer, target); a skip edge passes the tile on unchanged."""

    layer: int
    source: int
    target: int
    skip: bool = False

    @property
    def kind(self) -> Kind:
        return "skip" if self.skip else KINDS[1 - (self.target - self.source)]

    @property
    def name(self) -> str:
        """Its name in files, such as ``layer3_1to2``."""
        return f"layer{self.layer}_{self.source}to{self.target}" + ("_skip" if self.skip else "")

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
        start: "0": paths leave tile (0, 0); "any": paths leave every scale (HyperSegNAS).
        end: "0": paths arrive at tile (L, 0); "any": paths end at every scale.
        skip: whether a skip edge runs parallel to every non-scaling cell (hardware-aware NAS Eq. 5, MS-NAS).
    """

    layers: int
    scales: int
    start: Ends = "0"
    end: Ends = "0"
    skip: bool = False

    def __post_init__(self) -> None:
        if self.layers < 1 or self.scales < 1:
            raise ValueError(f"a trellis needs at least 1 layer and 1 scale, not {self.layers} and {self.scales}")

    @property
    def starts(self) -> range:
        """The scales at which paths start."""
        return self._ends(self.start)

    @property
    def ends(self) -> range:
        """The scales at which paths end."""
        return self._ends(self.end)

    def _ends(self, which: Ends) -> range:
        return range(self.scales) if which == "any" else range(1)

    @cached_property
    def arriving(self) -> dict[Tile, int]:
        """F: the number of partial paths from a start to each tile (0 if there is none)."""
        counts = {Tile(0, s): int(s in self.starts) for s in range(self.scales)}
        for layer in range(1, self.layers + 1):
            for s in range(self.scales):
                counts[Tile(layer, s)] = sum(counts[Tile(layer - 1, p)] * self._edges(p, s) for p in self.near(s))
        return counts

    @cached_property
    def leaving(self) -> dict[Tile, int]:
        """B: the number of partial paths from each tile to an end (0 if there is none)."""
        counts = {Tile(self.layers, s): int(s in self.ends) for s in range(self.scales)}
        for layer in range(self.layers - 1, -1, -1):
            for s in range(self.scales):
                counts[Tile(layer, s)] = sum(counts[Tile(layer + 1, n)] * self._edges(s, n) for n in self.near(s))
        return counts

    def near(self, scale: int) -> range:
        """The scales that a cell can connect with this one."""
        return range(max(0, scale - 1), min(self.scales, scale + 2))

    def _edges(self, source: int, target: int) -> int:
        """How many edges connect two scales of neighbouring layers."""
        return 2 if self.skip and source == target else 1

    @cached_property
    def path_count(self) -> int:
        """T: the number of all paths."""
        return sum(self.arriving[Tile(self.layers, s)] for s in self.ends)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell that lies on at least one path, by layer, source and target."""
        return tuple(
            cell
            for layer in range(1, self.layers + 1)
            for source in range(self.scales)
            for target in self.near(source)
            for skip in (False, True)[: self._edges(source, target)]
            if self.passing(cell := Cell(layer, source, target, skip))
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
        """The kinds of cells with operations in this trellis."""
        return tuple(kind for kind in KINDS if any(cell.kind == kind for cell in self.cells))

    def passing(self, cell: Cell) -> int:
        """The number of paths through a cell."""
        return self.arriving[cell.source_tile] * self.leaving[cell.target_tile]

    def share(self, cell: Cell) -> float:
        """k_c of RT-DNAS Eq. 5: the share of all paths that pass through the cell; sums to 1 in every layer."""
        return self.passing(cell) / self.path_count

    def check_path(self, path: Iterable[int]) -> Path:
        """Return the path as a tuple; ValueError if it is not a path of this trellis."""
        path = tuple(path)
        if len(path) != self.layers + 1:
            raise ValueError(f"path {path} has {len(path)} tiles; a path of {self.layers} layers has {self.layers + 1}")
        if not all(0 <= s < self.scales or (s == SKIP and i and self.skip) for i, s in enumerate(path)):
            also = f", or {SKIP} for a skip edge" if self.skip else ""
            raise ValueError(f"path {path} leaves the scales 0..{self.scales - 1}{also}")
        scales = scales_of(path)
        if any(abs(a - b) > 1 for a, b in itertools.pairwise(scales)):
            raise ValueError(f"path {path} skips a scale")
        if scales[0] not in self.starts or scales[-1] not in self.ends:
            raise ValueError(f"path {path} does not run from scale {self.start} to scale {self.end}")
        return path

    def paths(self) -> Iterator[Path]:
        """All paths, by scale, the skip edge after the non-scaling cell."""

        def extend(path: Path, tile: Tile) -> Iterator[Path]:
            if tile.layer == self.layers:
                yield path
            for cell in self.exits.get(tile, ()):
                yield from extend((*path, step_of(cell)), cell.target_tile)

        for s in self.starts:
            if self.leaving[Tile(0, s)]:
                yield from extend((s,), Tile(0, s))

    def best_paths(self, count: int, score: Mapping[Cell, float]) -> list[tuple[float, Path]]:
        """The ``count`` paths with the highest sums of cell scores, best first; ties are in lexicographic order.

        The result is exact: k-best dynamic programming, in which each tile keeps its ``count`` best partial paths.
        MS-NAS calls its use of it Dijkstra.
        """
        order: Callable[[tuple[float, Path]], tuple[float, Path]] = lambda scored: (-scored[0], scored[1])  # noqa: E731
        kept: dict[Tile, list[tuple[float, Path]]] = {
            Tile(0, s): [(0.0, (s,))] for s in self.starts if self.leaving[Tile(0, s)]
        }
        arrivals: dict[Tile, list[tuple[float, Path]]] = {}
        for cell in self.cells:  # by layer, so that each tile's list is complete before the first cell that leaves it
            if cell.source_tile not in kept:
                kept[cell.source_tile] = heapq.nsmallest(count, arrivals.pop(cell.source_tile), key=order)
            arrivals.setdefault(cell.target_tile, []).extend(
                (total + score[cell], (*path, step_of(cell))) for total, path in kept[cell.source_tile]
            )
        return heapq.nsmallest(count, (scored for ended in arrivals.values() for scored in ended), key=order)

    def cover(self, cells: Iterable[Cell]) -> tuple[Path, ...]:
        """A few paths whose union is exactly these cells; ValueError if a cell lies on no path that uses only these."""
        leaving: dict[Tile, list[Cell]] = {}
        arriving: dict[Tile, list[Cell]] = {}
        for cell in sorted(cells):
            leaving.setdefault(cell.source_tile, []).append(cell)
            arriving.setdefault(cell.target_tile, []).append(cell)
        left = {cell for exits in leaving.values() for cell in exits}
        paths = []
        while left:
            path = [min(left)]
            # prefer cells that no path has yet
            while path[0].layer > 1 and path[0].source_tile in arriving:
                path.insert(0, min(arriving[path[0].source_tile], key=lambda cell: (cell not in left, cell)))
            while path[-1].target_tile in leaving:
                path.append(min(leaving[path[-1].target_tile], key=lambda cell: (cell not in left, cell)))
            paths.append(self.check_path((path[0].source, *map(step_of, path))))
            left -= set(path)
        return tuple(paths)


def step_of(cell: Cell) -> int:
    """A cell's entry in a path."""
    return SKIP if cell.skip else cell.target


def scales_of(path: Path) -> list[int]:
    """The scales of layers 0..L."""
    scales: list[int] = []
    for step in path:
        scales.append(scales[-1] if step == SKIP else step)
    return scales


def text_of(path: Path) -> str:
    """A path as a short text, such as 0123s210."""
    return "".join("s" if step == SKIP else str(step) for step in path)


def cells_of(path: Path) -> list[Cell]:
    """The cells of a path, layer by layer."""
    scales = scales_of(path)
    return [Cell(i, scales[i - 1], scales[i], path[i] == SKIP) for i in range(1, len(path))]


def union_of(paths: Iterable[Path]) -> list[Cell]:
    """The distinct cells of some paths, by layer, source and target."""
    return sorted({cell for path in paths for cell in cells_of(path)})
