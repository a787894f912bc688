from __future__ import annotations

import json
from random import Random

import pytest
from matplotlib.colors import to_hex

from scripts.core.errors import CineError
from scripts.report.one_shot_figures import (
    candidates_figure,
    correlation_figure,
    curve_figure,
    edges_figure,
    report_correlation,
    report_one_shot,
)
from scripts.search.candidates import Candidate, CandidateFile
from scripts.space.registry import REGISTRY
from scripts.space.sampling import random_subgraph
from scripts.space.space import Space


@pytest.fixture
def space() -> Space:
    return Space(
        **{"layers": 3, "scales": 2, "nodes": 1, "channels": 4, "operations": ("identity", "conv_3x3x3")},
        **{"deployment_size": (16, 16, 3), "start": "any", "end": "any", "join": "mean", "share_cells": False},
    )


@pytest.fixture
def found(space) -> list[Candidate]:
    architectures = [random_subgraph(space, Random(seed), 0.7) for seed in range(4)]
    dice = [(0.3, None), (0.5, 0.6), (0.4, 0.7), (0.2, None)]
    return [Candidate(a, 10.0 + i, *values) for i, (a, values) in enumerate(zip(architectures, dice, strict=True))]


@pytest.fixture
def content(found, tmp_path):
    file = CandidateFile(tmp_path / "search" / "candidates.json", {"most": 12.5, "cost": "ms"})
    file.save(found, now=True)
    return json.loads(file.path.read_text())


EPOCHS = [{"epoch": i + 1, "weight_loss": 2.0 - 0.2 * i, "annealed": max(0, i - 2) / 2} for i in range(5)]


def test_edges_are_drawn_in_the_colour_of_their_operation(found):
    architecture = found[1].architecture
    lines = {line.get_gid(): line for line in edges_figure(architecture).axes[0].lines}
    for cell in architecture.space.trellis.cells:
        if cell in architecture.union:
            ((_, name),) = architecture.nodes_of(cell)
            assert to_hex(lines[f"chosen {cell.name}"].get_color()) == REGISTRY[name].colour
        else:
            assert f"other {cell.name}" in lines


def test_the_curve_shows_the_loss_and_the_annealing():
    loss, share = curve_figure(EPOCHS).axes
    assert list(loss.lines[0].get_ydata()) == [entry["weight_loss"] for entry in EPOCHS]
    assert list(share.lines[0].get_ydata()) == [0, 0, 0, 0.5, 1]
    assert len(curve_figure([{**entry, "annealed": 0.0} for entry in EPOCHS]).axes) == 1


def test_candidates_show_cost_dice_fine_tuning_and_the_chosen_one(content, found):
    axes = candidates_figure(content, found[2].architecture).axes[0]
    dots = {collection.get_label(): collection.get_offsets().tolist() for collection in axes.collections}
    assert dots["shared weights"] == [[10, 0.3], [11, 0.5], [12, 0.4], [13, 0.2]]
    assert dots["fine-tuned"] == [[11, 0.6], [12, 0.7]]
    assert dots["chosen"] == [[12, 0.7]]
    assert any(line.get_xdata()[0] == 12.5 for line in axes.lines)  # the constraint


def test_correlation_shows_both_estimates_against_training_from_scratch():
    rows = [
        {"dice": 0.1, "fine_tuned_dice": 0.2, "scratch_dice": 0.7},
        {"dice": 0.3, "fine_tuned_dice": 0.4, "scratch_dice": 0.8},
    ]
    ranks = {"kendall_tau": 0.22, "spearman_rho": 0.4}
    left, right = correlation_figure({"architectures": rows, "dice": ranks, "fine_tuned_dice": ranks}).axes
    assert left.collections[0].get_offsets().tolist() == [[0.1, 0.7], [0.3, 0.8]]
    assert right.collections[0].get_offsets().tolist() == [[0.2, 0.7], [0.4, 0.8]]
    assert "tau 0.22" in left.get_title() and "rho 0.40" in right.get_title()


def test_reports_write_complete_pictures(content, found, tmp_path, make_table):
    architecture = found[2].architecture
    architecture.save(tmp_path / "architecture.json")
    (tmp_path / "search" / "one_shot.json").write_text(json.dumps({"format": "rtdnas-one-shot-1", "epochs": EPOCHS}))
    report_one_shot(str(tmp_path), make_table(architecture.space))
    for name in ("trellis", "curves", "candidates", "latency"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000
    with pytest.raises(CineError, match=r"correlation\.json"):
        report_correlation(str(tmp_path))
