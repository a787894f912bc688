"""Figures of a one-shot search: its curve, its candidates, the chosen architecture, and how well it ranks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scripts.core.distributed import on_main
from scripts.core.json_files import read_json
from scripts.latency.table import LatencyTable
from scripts.report.search_figures import breakdown_figure
from scripts.report.style import latency_note, readable, save_figure, tidy
from scripts.report.trellis_figures import draw_cell, draw_tiles, trellis_axes
from scripts.search.candidates import SCHEMA as CANDIDATES
from scripts.search.correlation import FORMAT as CORRELATION
from scripts.search.correlation import text_of
from scripts.search.history import ONE_SHOT
from scripts.search.one_shot import FORMAT as CURVE
from scripts.space.architecture import Architecture
from scripts.space.registry import REGISTRY

logger = logging.getLogger(__name__)
ACTION = "Run the step search with hypersegnas.json again."


@on_main
def report_one_shot(work_dir: str, table: LatencyTable) -> None:
    """Draw trellis.png, curves.png, candidates.png and latency.png into the folder ``figures`` of ``work_dir``."""
    folder = Path(work_dir)
    architecture = Architecture.load(folder / "architecture.json")
    curve = read_json(folder / "search" / ONE_SHOT, _of(CURVE, "epochs"), ACTION, max_mib=64)
    candidates = read_json(folder / "search" / "candidates.json", CANDIDATES, ACTION, max_mib=256)
    figures = {
        "trellis.png": edges_figure(architecture),
        "curves.png": curve_figure(curve["epochs"]),
        "candidates.png": candidates_figure(candidates, architecture),
        "latency.png": breakdown_figure(architecture, table),
    }
    for name, figure in figures.items():
        logger.info("Drew %s", save_figure(figure, folder / "figures" / name))


def report_correlation(work_dir: str) -> None:
    """Draw correlation.png into the folder ``figures`` of ``work_dir``."""
    schema = _of(CORRELATION, "architectures", "dice", "fine_tuned_dice")
    content = read_json(Path(work_dir) / "correlation.json", schema, "Run the step correlate again.")
    figure = correlation_figure(content)
    logger.info("Drew %s", save_figure(figure, Path(work_dir) / "figures" / "correlation.png"))


def _of(name: str, *required: str) -> dict[str, Any]:
    return {"type": "object", "required": ["format", *required], "properties": {"format": {"const": name}}}


def edges_figure(architecture: Architecture) -> Figure:
    """Every edge of the trellis; the edges of the architecture in the colour of their operation."""
    figure, axes = trellis_axes(architecture)
    held = {cell: architecture.nodes_of(cell)[0][1] for cell in architecture.union if not cell.skip}
    for cell in sorted(architecture.space.trellis.cells, key=lambda cell: cell in held):
        draw_cell(axes, cell, 0.4, REGISTRY[held[cell]].colour if cell in held else None)
    draw_tiles(axes, architecture)
    shown = f"{len(held)} of {len(architecture.space.trellis.cells)} edges"
    axes.set_title("\n".join(filter(None, (shown, latency_note(architecture.provenance)))), fontsize=11)
    operations = architecture.space.operations
    handles = [Line2D([], [], color=REGISTRY[name].colour, linewidth=3, label=readable(name)) for name in operations]
    handles.append(Line2D([], [], color="0.85", linewidth=3, label="unused edge"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def curve_figure(epochs: Sequence[Mapping[str, float]]) -> Figure:
    """The loss of the shared weights over the epochs, and how far the assistant is annealed."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    numbers = [entry["epoch"] for entry in epochs]
    axes.plot(numbers, [entry["weight_loss"] for entry in epochs], color="#222222", label="loss, random architectures")
    tidy(axes, "epoch", "loss", "Shared weights", whole_x=True)
    if any(entry["annealed"] for entry in epochs):
        share = axes.twinx()
        share.plot(numbers, [entry["annealed"] for entry in epochs], color="#d55e00", linestyle="--")
        share.set_ylim(-0.03, 1.03)
        share.set_ylabel("assistant annealed", color="#d55e00")
        share.spines[["top"]].set_visible(False)
    axes.legend(fontsize=9, frameon=False)
    return figure


def candidates_figure(content: Mapping[str, Any], chosen: Architecture) -> Figure:
    """Dice against cost: all candidates with shared weights, the best ones fine-tuned, and the chosen one."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.add_subplot()
    known = [entry for entry in content["candidates"] if entry["dice"] is not None]
    tuned = [entry for entry in known if entry["fine_tuned_dice"] is not None]
    axes.scatter([e["cost"] for e in known], [e["dice"] for e in known], s=22, color="0.7", label="shared weights")
    for entry in tuned:
        axes.plot([entry["cost"]] * 2, [entry["dice"], entry["fine_tuned_dice"]], color="#0072b2", linewidth=0.8)
    values = [e["fine_tuned_dice"] for e in tuned]
    axes.scatter([e["cost"] for e in tuned], values, s=34, color="#0072b2", label="fine-tuned", zorder=3)
    paths = [list(path) for path in chosen.paths]
    for entry in tuned:
        if entry["paths"] == paths and all(
            [list(n) for n in chosen.cells[k]] == nodes for k, nodes in entry["cells"].items()
        ):
            at = entry["cost"], entry["fine_tuned_dice"]
            axes.scatter(*at, s=130, facecolors="none", edgecolors="#d55e00", linewidths=2, label="chosen", zorder=4)
    limit, unit = content["identity"]["most"], content["identity"]["cost"]
    costs = [entry["cost"] for entry in known]
    if limit <= max(costs) + (max(costs) - min(costs)):  # a distant line would compress all points into one
        axes.axvline(limit, color="#d55e00", linestyle="--", label=f"{limit:g} {unit}")
    quantity = "predicted ms" if unit == "ms" else "MiB of a training step"
    tidy(axes, quantity, "mean Dice, architecture half", f"{len(known)} candidates")
    axes.legend(fontsize=9, frameon=False)
    return figure


def correlation_figure(content: Mapping[str, Any]) -> Figure:
    """Dice after training from scratch against Dice with shared weights, before and after fine-tuning (HyperSegNAS
    Fig. 4)."""
    figure = Figure(figsize=(8.4, 4), layout="constrained")
    scratch = [row["scratch_dice"] for row in content["architectures"]]
    titles = {"dice": "shared weights", "fine_tuned_dice": "fine-tuned"}
    for axes, (field, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        axes.scatter([row[field] for row in content["architectures"]], scratch, s=30, color="#0072b2")
        named = f"{title}: {text_of(content[field])}"
        tidy(axes, f"mean Dice, {title}", "mean Dice, trained from scratch" if field == "dice" else "", named)
    return figure
