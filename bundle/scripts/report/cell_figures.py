"""Figures of cells: the nodes, the operation of each, and the way to the output."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyBboxPatch

from scripts.report.style import kind_of, readable
from scripts.space.architecture import Architecture, Node
from scripts.space.registry import REGISTRY

SCALING = {
    "contracting": "pool 2×2×1,\nconv 1×1×1",  # noqa: RUF001
    "non_scaling": "conv 1×1×1",  # noqa: RUF001
    "expanding": "conv 1×1×1,\nupsample 2×2×1",  # noqa: RUF001
}


def cells_figure(architecture: Architecture) -> Figure:
    """For each group of cells its nodes X_0..X_N, the operation of each, and the operations before the output."""
    groups = list(architecture.cells)
    count = architecture.space.nodes
    places = {group: _place(nodes) for group, nodes in architecture.cells.items()}
    first = architecture.space.scaling == "before"
    deepest = max(column for place in places.values() for column, _ in place)
    figure = Figure(
        figsize=(2.05 * (deepest + 2.5), len(groups) * (0.64 * count + 0.5)),
        layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.08),
    )
    for axes, group in zip(figure.subplots(len(groups), squeeze=False)[:, 0], groups, strict=True):
        _draw_structure(axes, architecture.cells[group], places[group], deepest, first)
        x, y = (-0.75, 0.0) if first else (deepest + 1.5, (count - 1) / 2)
        _box(axes, x, y, SCALING[kind_of(group)], "0.93", width=0.62, height=0.75)
        axes.set_title(f"{readable(group)} cell", loc="left", fontsize=11, fontweight="bold")
        axes.set(xlim=(-1.4, deepest + 1.1) if first else (-0.35, deepest + 2.15), ylim=(count - 0.45, -0.55))
        axes.set_axis_off()
    return figure


def _place(nodes: tuple[Node, ...]) -> list[tuple[int, int]]:
    """Column and row of X_0..X_N, depth first, so that no arrow crosses a row or another arrow."""
    places = {0: (0, 0)}
    rows = iter(range(len(nodes)))

    def visit(j: int) -> None:
        for i, (source, _) in enumerate(nodes, start=1):
            if source == j:
                places[i] = (places[j][0] + 1, next(rows))
                visit(i)

    visit(0)
    return [places[i] for i in range(len(nodes) + 1)]


def _draw_structure(
    axes: Axes, nodes: tuple[Node, ...], places: list[tuple[int, int]], deepest: int, scales_first: bool
) -> None:
    half, middle = 0.13, (len(nodes) - 1) / 2
    concat = deepest + 0.62
    arrow = {"arrowstyle": "-|>", "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    for i, (j, operation) in enumerate(nodes, start=1):
        (from_column, from_row), (column, row) = places[j], places[i]
        colour, trunk = REGISTRY[operation].colour, from_column + half + 0.09
        axes.plot([from_column + half, trunk, trunk], [from_row, from_row, row], color="0.5", linewidth=1.2, zorder=1)
        axes.annotate("", (column - half, row), (trunk, row), arrowprops={**arrow, "color": colour})
        at = ((trunk + column - half) / 2 - 0.02, row - 0.08)
        label = readable(operation)
        label = label if len(label) <= 12 else label.replace(" 3", "\n3")
        axes.text(*at, label, ha="center", va="bottom", fontsize=9, color="0.15", linespacing=1.0, gid="operation")
        axes.plot(
            [column + half, concat - 0.06], [row, row], color="0.8", linewidth=1.0, linestyle=(0, (4, 2)), zorder=0
        )
        _box(axes, column, row, f"$X_{{{i}}}$", "white", edge=colour)
    _box(axes, 0, 0, "$X_0$", "0.93")
    _box(axes, concat, middle, "concat", "0.93", width=0.14, height=len(nodes) - 0.3, rotation=90)
    ends = [(concat + 0.07, concat + 0.57, middle), (concat + 1.19, concat + 1.4, middle)]
    if scales_first:
        ends = [(-1.35, -1.06, 0.0), (-0.44, -half, 0.0), (concat + 0.07, concat + 0.4, middle)]
    for begin, end, level in ends:
        axes.annotate("", (end, level), (begin, level), arrowprops={**arrow, "color": "0.4"})


def _box(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    face: str,
    edge: str = "0.4",
    width: float = 0.26,
    height: float = 0.56,
    rotation: float = 0,
) -> None:
    corner = x - width / 2, y - height / 2
    style = "round,pad=0,rounding_size=0.04"
    axes.add_patch(
        FancyBboxPatch(corner, width, height, style, facecolor=face, edgecolor=edge, linewidth=1.3, zorder=3)
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=9, rotation=rotation, zorder=4)
