"""Dice against latency and against throughput, with the Pareto front and the real-time region (RT-DNAS Fig. 2)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter

from scripts.report.labels import place_labels
from scripts.report.style import tidy
from scripts.search.constraint import Constraint

Row = Mapping[str, Any]
# the palette of Okabe and Ito, which colour-blind readers can distinguish; shapes distinguish the systems in print
STYLES = (
    *(("#d55e00", "o"), ("#0072b2", "s"), ("#009e73", "^"), ("#cc79a7", "D")),
    *(("#e69f00", "v"), ("#56b4e9", "P"), ("#222222", "X"), ("#8c6d31", "*")),
)
CLOUD, REGION = "#b5b5b5", "#e6f4e6"
WIDE = 5.0  # a range of more than this factor gets a logarithmic axis


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the Pareto-optimal points (cost, gain), sorted by cost."""
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1] or points[i] == points[front[-1]]:
            front.append(i)
    return front


def scatter_figure(rows: Sequence[Row], constraint: Constraint | None) -> Figure:
    """Mean Dice against latency, and against throughput.

    Args:
        rows: rows of ``comparison.row_of``; failed networks and networks without a Dice are left out.
        constraint: its region is shaded; hollow marks are networks that miss it.
    """
    rows = [row for row in rows if row["failure"] is None and row["dice"]["mean"]["mean"] is not None]
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, rows, lambda row: row["median_ms"], lower_is_better=True)
    _panel(right, rows, lambda row: row["volumes_per_second"], lower_is_better=False)
    if constraint is not None and constraint.budget_ms != "auto":
        _shade(left, None, constraint.budget_ms, f"at most {constraint.budget_ms:g} ms")
        _shade(right, constraint.volumes_per_second, None, f"at least {constraint.volumes_per_second:g} a second")
    tidy(left, "latency of a volume (median), ms", "Dice, mean of RV, MYO and LV", "Dice against latency")
    tidy(right, "throughput, volumes a second", "", "Dice against throughput")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(8, len(labels)), fontsize=9, frameon=False)
    FigureCanvasAgg(figure).draw()  # fixes the positions of the axes before labels are placed
    figure.set_layout_engine("none")
    for axes, value in ((left, "median_ms"), (right, "volumes_per_second")):
        shown = [(row[value], row["dice"]["mean"]["mean"]) for row in rows]
        place_labels(axes, shown, [None if row["random"] else _short(row) for row in rows])
    return figure


def _panel(axes: Axes, rows: Sequence[Row], x_of: Callable[[Row], float], lower_is_better: bool) -> None:
    points = [(x_of(row), row["dice"]["mean"]["mean"]) for row in rows]
    front = pareto_front([(x if lower_is_better else -x, dice) for x, dice in points])
    named = list(dict.fromkeys(row["system"] for row in rows if not row["random"]))
    styles = dict(zip(named, itertools.cycle(STYLES), strict=False))
    for row, point in zip(rows, points, strict=True):
        colour, marker = (CLOUD, "o") if row["random"] else styles[row["system"]]
        inside = colour if row["kept"] is not False else "white"
        size = 28 if row["random"] else 75
        axes.scatter(*point, s=size, c=inside, edgecolors=colour, marker=marker, linewidths=1.5, zorder=3)
    if any(row["random"] for row in rows):
        styles["random"] = CLOUD, "o"
    for name, (colour, marker) in styles.items():
        axes.scatter([], [], c=colour, marker=marker, label=name)
    if any(row["kept"] is False for row in rows):
        axes.scatter([], [], c="white", edgecolors="#555555", linewidths=1.5, label="misses the constraint")
    xs, ys = zip(*(points[i] for i in front), strict=True)
    axes.step(xs, ys, where="post", color="#555555", linewidth=1.2, linestyle="--", zorder=2, label="Pareto front")
    values = [x for x, _ in points]
    if max(values) > WIDE * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.minorticks_off()
    axes.margins(x=0.12, y=0.12)


def _shade(axes: Axes, low: float | None, high: float | None, text: str) -> None:
    """Shade the region above or below a limit; the axis is extended to show the limit itself."""
    bound = low if low is not None else high
    assert bound is not None
    first, last = axes.get_xlim()
    first, last = min(first, bound * 0.9), max(last, bound * 1.1)
    axes.set_xlim(first, last)
    axes.axvspan(first if low is None else low, last if high is None else high, color=REGION, zorder=0)
    axes.axvline(bound, color="#5a9a5a", linewidth=1, zorder=1)
    axes.annotate(
        f"real time: {text}",
        (bound, 0.015),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if low is None else 5, 0),
        textcoords="offset points",
        fontsize=8,
        color="#3d7a3d",
        ha="right" if low is None else "left",
    )


def _short(row: Row) -> str:
    """A name without that of its system, which is in the legend."""
    return row["name"].removeprefix(row["system"]).strip(" ,:") or row["name"]
