"""Figures of the trellis: every cell, its probability, and the number of chosen paths through it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke

from scripts.core.errors import CineError
from scripts.report.style import latency_note
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing
from scripts.space.trellis import Cell, Tile, cells_of

POINTS = 8.0
"""Line width of a cell of probability 1 (pt)."""
THINNEST = 0.9


def trellis_figure(architecture: Architecture, mixing: Mixing) -> Figure:
    """Every cell of the trellis, with a width by its probability; chosen cells are coloured by their number of paths.

    The lines' gids are "chosen NAME" and "other NAME".

    Raises:
        CineError: a cell of the trellis has no probability in ``mixing``.
    """
    space = architecture.space
    trellis = space.trellis
    if missing := set(trellis.cells) - mixing.cells.keys():
        found = f"no probability for {min(missing).name}"
        raise CineError("mixing#cells", found, f"all {len(trellis.cells)} cells", "Take the mixing of the same search.")
    uses = Counter(cell for path in architecture.paths for cell in cells_of(path))
    maximum = max(uses.values())
    colours = ListedColormap(colormaps["plasma_r"]([0.2 + 0.8 * i / max(1, maximum - 1) for i in range(maximum)]))

    figure, axes = trellis_axes(architecture)
    # wide lines first, so that they do not hide narrow ones
    for cell in sorted(trellis.cells, key=lambda cell: (cell in uses, -float(mixing.cells[cell]))):
        draw_cell(axes, cell, float(mixing.cells[cell]), colours(uses[cell] - 1) if cell in uses else None)
    draw_tiles(axes, architecture)
    shown = f"N = {len(architecture.paths)} paths, {len(uses)} of {len(trellis.cells)} cells"
    axes.set_title("\n".join(filter(None, (shown, latency_note(architecture.provenance)))), fontsize=11)
    bounds = [i + 0.5 for i in range(maximum + 1)]
    ticks = range(1, maximum + 1, -(-maximum // 10))
    bar = figure.colorbar(
        ScalarMappable(BoundaryNorm(bounds, maximum), colours), ax=axes, ticks=ticks, shrink=0.75, pad=0.01, aspect=18
    )
    bar.set_label("chosen paths through a cell", fontsize=9)
    bar.ax.tick_params(labelsize=9, length=0)
    columns = 6 if figure.get_figwidth() > 9 else 3
    figure.legend(handles=_trellis_legend(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return figure


def trellis_axes(architecture: Architecture) -> tuple[Figure, Axes]:
    """An empty trellis, its layers and scales labelled."""
    space = architecture.space
    figure = Figure(figsize=(max(6.0, 0.93 * space.layers + 0.7), 0.95 * space.scales + 1.7), layout="constrained")
    axes = figure.add_subplot()
    _label_ends(axes, architecture)
    _label_axes(axes, architecture)
    return figure, axes


def draw_tiles(axes: Axes, architecture: Architecture) -> None:
    """Every tile of the trellis; dark where the architecture reaches it."""
    reached = {tile for cell in architecture.union for tile in (cell.source_tile, cell.target_tile)}
    cells = architecture.space.trellis.cells
    tiles = sorted({tile for cell in cells for tile in (cell.source_tile, cell.target_tile)})
    for group, face, edge in (
        ([tile for tile in tiles if tile in reached], "0.25", "white"),
        ([tile for tile in tiles if tile not in reached], "0.96", "0.8"),
    ):
        axes.scatter(*_columns(group), s=230, marker="s", c=face, edgecolors=edge, linewidths=1.2, zorder=4)


def draw_cell(axes: Axes, cell: Cell, probability: float, colour: tuple[float, ...] | str | None) -> None:
    """Draw a cell with a width by its probability; grey if it has no colour."""
    width = max(THINNEST, POINTS * probability)
    chosen = colour is not None
    # a skip edge is curved around its non-scaling cell
    along = np.linspace(0, 1, 13 if cell.skip else 2)
    axes.plot(
        cell.layer - 1 + along,
        cell.source + (cell.target - cell.source) * along - (0.3 * np.sin(np.pi * along) if cell.skip else 0),
        color=colour or "0.85",
        linewidth=width,
        solid_capstyle="butt",
        path_effects=[Stroke(linewidth=width + 1.6, foreground="white"), Normal()] if chosen else None,
        gid=f"{'chosen' if chosen else 'other'} {cell.name}",
        zorder=3 if chosen else 2,
    )


def _columns(tiles: list[Tile]) -> tuple[list[int], list[int]]:
    return [tile.layer for tile in tiles], [tile.scale for tile in tiles]


def _label_ends(axes: Axes, architecture: Architecture) -> None:
    layers = architecture.space.layers
    arrow = {"arrowstyle": "-|>", "color": "0.25", "linewidth": 1.5, "shrinkA": 0, "shrinkB": 9}
    away = {**arrow, "arrowstyle": "<|-"}
    for scale in architecture.starts:
        axes.annotate("stem", (0, scale), (-0.55, scale), arrowprops=arrow, ha="right", va="center", fontsize=9)
    for scale in architecture.ends:
        at = (layers, scale), (layers + 0.55, scale)
        axes.annotate("head", *at, arrowprops=away, ha="left", va="center", fontsize=9)
    axes.set_xlim(-1.3, layers + 1.05)


def _label_axes(axes: Axes, architecture: Architecture) -> None:
    space = architecture.space
    axes.set_ylim(space.scales - 0.55, -0.6)
    sizes = ["×".join(map(str, space.size(scale))) for scale in range(space.scales)]  # noqa: RUF001
    labels = [f"scale {scale}\n{size}\n{space.width(scale)} channels" for scale, size in enumerate(sizes)]
    axes.set_yticks(range(space.scales), labels, fontsize=9)
    axes.set_xticks(range(space.layers + 1))
    axes.set_xlabel("layer")
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)


def _trellis_legend() -> list[Line2D]:
    widths = [Line2D([], [], color="0.5", linewidth=POINTS * p, label=f"probability {p:g}") for p in (0.1, 0.5, 1.0)]
    tile: dict[str, Any] = {"linestyle": "", "marker": "s", "markersize": 10}
    return [
        *widths,
        Line2D([], [], color="0.85", linewidth=POINTS / 2, label="cell not chosen"),
        Line2D([], [], color="0.25", label="tile", **tile),
        Line2D([], [], color="0.96", markeredgecolor="0.8", label="tile not reached", **tile),
    ]
