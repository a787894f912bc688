"""Figures of a search: probabilities and curves over the epochs, and the parts of the derived network's latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scripts.core.errors import CineError
from scripts.latency.counts import counts_of, operation_of
from scripts.latency.table import LatencyTable
from scripts.report.cell_figures import cells_figure
from scripts.report.style import (
    KIND_COLOURS,
    kind_of,
    latency_note,
    readable,
    save_figure,
    scale_of,
    tidy,
)
from scripts.report.trellis_figures import trellis_figure
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing
from scripts.space.registry import REGISTRY
from scripts.space.space import Space

__all__ = [
    "breakdown_figure",
    "cells_figure",
    "curves_figure",
    "evolution_figure",
    "trellis_figure",
    "write_search_figures",
]

LINE_STYLES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (1, 4)), (0, (8, 3)), (0, (5, 1, 1, 1, 1, 1)))
ACTION = "Run the step search again, or name the work_dir of this architecture."


def write_search_figures(
    folder: str | Path, architecture: Architecture, mixing: Mixing, history: Mapping[str, Any], table: LatencyTable
) -> list[Path]:
    """Write trellis.png, cells.png, evolution.png, curves.png and latency.png; returns their paths."""
    figures = {
        "trellis.png": trellis_figure(architecture, mixing),
        "cells.png": cells_figure(architecture),
        "evolution.png": evolution_figure(history, architecture),
        "curves.png": curves_figure(history),
        "latency.png": breakdown_figure(architecture, table),
    }
    return [save_figure(figure, Path(folder) / name) for name, figure in figures.items()]


def evolution_figure(history: Mapping[str, Any], architecture: Architecture) -> Figure:
    """The probability of each (input, operation) pair over the epochs, one panel per group of cells and node.

    The pair in the architecture is drawn bold. ``history`` is the content of ``search/history.json``.

    Raises:
        CineError: the history has no epoch, or belongs to another space.
    """
    space = architecture.space
    epochs, groups = _epochs(history), space.groups
    numbers = [entry["epoch"] for entry in epochs]
    tables = {group: [_node_table(epochs, group, i, space) for i in range(1, space.nodes + 1)] for group in groups}
    size = (max(6.5, min(3.2 * space.nodes, 24.0) + 0.4), 1.95 * len(groups) + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(groups), space.nodes, sharex=True, sharey="col", squeeze=False)
    for row, group in zip(panels, groups, strict=True):
        for i, axes in enumerate(row, start=1):
            table_EJO = tables[group][i - 1]
            decoded = architecture.cells[group][i - 1] if group in architecture.cells else None
            for j in range(i):
                for o, operation in enumerate(space.operations):
                    axes.plot(
                        numbers,
                        table_EJO[:, j, o],
                        color=REGISTRY[operation].colour,
                        linestyle=LINE_STYLES[j % len(LINE_STYLES)],
                        linewidth=2.6 if (j, operation) == decoded else 1.1,
                        marker="o" if len(numbers) == 1 else None,
                        gid=f"{j} {operation}",
                    )
            winner = f"$X_{{{i}}}$ reads $X_{{{decoded[0]}}}$: {readable(decoded[1])}" if decoded else ""
            tidy(axes, "epoch" if group == groups[-1] else "", "", winner, whole_x=True)
        row[0].set_ylabel(f"{readable(group)}\nprobability")
    for axes in panels[0]:
        axes.set_ylim(bottom=0)  # panels of a column share it, so it is set after all lines are drawn
    inputs = [
        Line2D([], [], color="0.2", linestyle=LINE_STYLES[j % len(LINE_STYLES)], label=f"reads $X_{{{j}}}$")
        for j in range(space.nodes)
    ]
    colours = [Line2D([], [], color=REGISTRY[o].colour, linewidth=3, label=readable(o)) for o in space.operations]
    figure.legend(handles=inputs, loc="outside upper center", ncols=8, frameon=False, fontsize=9)
    figure.legend(handles=colours, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def curves_figure(history: Mapping[str, Any]) -> Figure:
    """Losses, expected latency with its budget and multiplier, entropies and parameter-free shares over the epochs.

    Warm-up is shaded.
    """
    epochs = _epochs(history)
    numbers = [entry["epoch"] for entry in epochs]
    figure = Figure(figsize=(10, 6), layout="constrained")
    (losses, latency), (entropy, shares) = figure.subplots(2, 2, sharex=True)
    _curve(losses, numbers, [e.get("weight_loss") for e in epochs], "#222222", "weight loss")
    _curve(losses, numbers, [e.get("accuracy_loss") for e in epochs], "#d55e00", "$L_a$ (architecture half)")
    _curve(latency, numbers, [e["latency_ms"] for e in epochs], "#0072b2", "$L_t$ expected")
    latency.axhline(history["budget_ms"], color="#d55e00", linestyle="--", label=f"budget {history['budget_ms']:g} ms")
    latency.set_ylim(0, 1.12 * max(history["budget_ms"], *(e["latency_ms"] for e in epochs)))
    weights = [e.get("penalty_weight") if e.get("accuracy_loss") is not None else None for e in epochs]
    in_latency = list(latency.lines)
    if any(weights):
        multiplier = latency.twinx()
        _curve(multiplier, numbers, weights, "#009e73", "weight of latency in the loss")
        in_latency += multiplier.lines
        multiplier.spines[["top"]].set_visible(False)
        multiplier.tick_params(labelsize=9, labelcolor="#009e73")
    for axes, key in ((entropy, "entropy"), (shares, "parameter_free_share")):
        for name in epochs[0][key]:
            label = readable(name).replace("beta", "paths")
            _curve(axes, numbers, [e[key].get(name) for e in epochs], KIND_COLOURS.get(kind_of(name), "0.5"), label)
            axes.lines[-1].set_linestyle(LINE_STYLES[scale_of(name) % len(LINE_STYLES)])
        axes.set_ylim(-0.03, 1.03)
    tidy(losses, "", "loss", "Losses", whole_x=True)
    tidy(latency, "", "ms a volume", "Latency", whole_x=True)
    tidy(entropy, "epoch", "share of the maximum", "Entropy of the choices", whole_x=True)
    tidy(shares, "epoch", "probability", "Operations without parameters", whole_x=True)
    warm_up = [entry["epoch"] for entry in epochs if entry.get("accuracy_loss") is None]
    for axes in (losses, latency, entropy, shares):
        if warm_up:
            shown = "warm-up" if axes is losses else None
            axes.axvspan(warm_up[0] - 0.5, warm_up[-1] + 0.5, color="0.93", zorder=0, label=shown, linewidth=0)
        axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
        axes.legend(fontsize=9 if len(axes.lines) < 6 else 6, frameon=False)
    latency.legend(handles=in_latency, loc="lower left", fontsize=9, frameon=False)
    return figure


def breakdown_figure(architecture: Architecture, table: LatencyTable) -> Figure:
    """The predicted ms of the derived network, stacked by operation at each scale; stem and head are separate.

    Raises:
        CineError: the table lacks an entry that the network needs.
    """
    try:
        parts = _parts(architecture, table)
    except KeyError as error:
        raise CineError("latency table", f"no entry {error}", "every operation of the network", ACTION) from None
    columns = ["stem and head", *(f"scale {scale}" for scale in range(architecture.depth + 1))]
    figure = Figure(figsize=(max(8.0, 1.2 * len(columns) + 2.4), 4.6), layout="constrained")
    axes = figure.add_subplot()
    heights = np.zeros(len(columns))
    for name, colour, hatch in (
        ("stem and head", "0.35", ""),
        *((name, operation.colour, "") for name, operation in REGISTRY.items()),
        ("scaling", "0.8", "///"),
        ("merge", "0.6", "..."),
    ):
        values = np.array([parts.get((name, column), 0.0) for column in columns])
        if values.any():
            style: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.8}
            axes.bar(columns, values, 0.7, heights, label=readable(name), **style)
            heights += values
    for x, height in enumerate(heights):
        axes.text(x, height, f"{height:.1f}", ha="center", va="bottom", fontsize=9)
    known = architecture.provenance.updated(predicted_ms=float(heights.sum()))
    tidy(axes, "", "predicted ms", f"The derived network: {latency_note(known)}")
    axes.set_ylim(0, 1.1 * heights.max())
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False, reverse=True)
    return figure


def _parts(architecture: Architecture, table: LatencyTable) -> dict[tuple[str, str], float]:
    """ms of each (operation, column)."""
    parts: dict[tuple[str, str], float] = {}
    for (name, scale), count in counts_of(architecture).items():
        ends = name in ("stem", "head")
        kind = "scaling" if name.startswith("scaling_") else "stem and head" if ends else operation_of(name)
        column = kind if ends else f"scale {scale}"
        parts[kind, column] = parts.get((kind, column), 0.0) + count * table[name, scale]
    return parts


def _curve(axes: Axes, epochs: Sequence[int], values: Sequence[float | None], colour: str, label: str) -> None:
    plain = [float("nan") if value is None else value for value in values]
    axes.plot(epochs, plain, color=colour, linewidth=1.8, marker="o" if len(plain) <= 12 else None, ms=4, label=label)


def _epochs(history: Mapping[str, Any]) -> list[dict[str, Any]]:
    epochs = history.get("epochs")
    if not epochs:
        raise CineError("history#epochs", repr(epochs), "at least one epoch", ACTION)
    return epochs


def _node_table(epochs: list[dict[str, Any]], group: str, node: int, space: Space) -> np.ndarray:
    """p of a node, epochs x inputs x operations."""
    expected = (len(epochs), node, len(space.operations))
    try:
        table_EJO = np.array([entry["mixing"]["nodes"][group][node - 1] for entry in epochs], dtype=np.float64)
    except (KeyError, IndexError, ValueError) as error:
        raise CineError(f"history, nodes#{group}", str(error), f"a table of shape {expected}", ACTION) from None
    if table_EJO.shape != expected:
        where = f"history, nodes#{group}#{node - 1}"
        raise CineError(where, f"a table of shape {table_EJO.shape}", f"{expected}, as in the space", ACTION)
    return table_EJO
