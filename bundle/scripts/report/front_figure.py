"""Dice against latency of the networks for several budgets."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scripts.compare.front import load_front
from scripts.report.style import save_figure, tidy

logger = logging.getLogger(__name__)
FOUND, BUDGET = "#0072b2", "#d55e00"


def report_front(work_dir: str) -> None:
    """Draw ``figures/front.png`` of the front in ``work_dir``."""
    networks = load_front(work_dir)
    path = save_figure(front_figure(networks, evaluated(work_dir, networks)), Path(work_dir) / "figures" / "front.png")
    logger.info("Drew %s", path)


def evaluated(work_dir: str | Path, networks: Sequence[Mapping[str, Any]]) -> list[float] | None:
    """The mean Dice on unseen exams, if the network of every folder was trained and evaluated; else None."""
    files = [Path(work_dir) / network["folder"] / "metrics.json" for network in networks]
    if not all(file.exists() for file in files):
        return None
    return [json.loads(file.read_text(encoding="utf-8"))["dice"]["mean"]["mean"] for file in files]


def front_figure(networks: Sequence[Mapping[str, Any]], unseen: Sequence[float] | None = None) -> Figure:
    """Dice against measured latency, with a line for each budget; a bar extends to the 95th percentile.

    Args:
        networks: the networks of ``front.json``.
        unseen: their Dice on unseen exams; None: the Dice of the fine-tuned shared weights is shown.
    """
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    values: Sequence[float | None] = unseen or [network.get("fine_tuned_dice") for network in networks]
    points = []
    for network, dice in zip(networks, values, strict=True):
        measured = network.get("measured_ms")
        axes.axvline(network["budget_ms"], color=BUDGET, linewidth=1, linestyle="--", zorder=1)
        if dice is None:
            continue
        ms = measured["median_ms"] if measured else network["predicted_ms"]
        if measured:
            axes.plot([ms, measured["p95_ms"]], [dice, dice], color=FOUND, linewidth=1.2, marker="|")
        axes.scatter(ms, dice, s=60, color=FOUND if measured else "white", edgecolors=FOUND, zorder=3)
        axes.annotate(f"N={network['paths']}", (ms, dice), xytext=(0, 9), textcoords="offset points", ha="center")
        points.append((ms, dice))
    if points:
        axes.plot(*zip(*sorted(points), strict=True), color=FOUND, linewidth=1, zorder=2)
    else:
        text = "No Dice yet: train and evaluate the network in each folder."
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center")
    axes.plot([], [], color=BUDGET, linewidth=1, linestyle="--", label="budget")
    source = "unseen exams" if unseen else "architecture half, shared weights fine-tuned"
    state = "measured" if all(network.get("measured_ms") for network in networks) else "predicted"
    tidy(axes, f"latency of a volume ({state}), ms", f"mean Dice ({source})", "Dice for each budget")
    axes.margins(x=0.1, y=0.2)
    axes.set_xlim(left=0)
    axes.legend(loc="lower right", fontsize=9, frameon=False)
    return figure
