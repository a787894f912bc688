from __future__ import annotations

import math

import pytest

from scripts.core.errors import CineError
from scripts.report.training_figures import dice_box_figure, training_curves_figure


def rows(structure, phase, values):
    return [{"patient": f"p{i}", "structure": structure, "phase": phase, "dice": v} for i, v in enumerate(values)]


def test_loss_and_dice_are_drawn_where_they_were_measured():
    history = [
        {"epoch": e, "loss": 1 / e, "lr": 0.1, **({"val_dice": 0.2 * e} if e % 2 == 0 else {})} for e in (1, 2, 3, 4)
    ]
    loss, dice = training_curves_figure(history).axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 1], [2, 1 / 2], [3, 1 / 3], [4, 1 / 4]]
    assert dice.lines[0].get_xydata().tolist() == [[2, 0.4], [4, 0.8]]
    assert "Only monitored" in dice.get_title()


def test_training_without_validation_has_one_panel():
    assert len(training_curves_figure([{"epoch": 1, "loss": 0.5, "lr": 0.1}]).axes) == 1


@pytest.mark.parametrize("history", [[], [{"epoch": 1}]])
def test_history_without_losses_is_refused(history):
    with pytest.raises(CineError, match="epoch and loss"):
        training_curves_figure(history)


def test_boxes_points_and_means_show_every_exam_that_has_a_dice():
    table = [
        *rows("RV", "ED", [0.7, 0.9]),
        *rows("LV", "ED", [0.8, None, 0.9, math.nan]),
        *rows("LV", "ES", [0.6, 0.7, 0.8]),
        *rows("MYO", "ES", [None]),
    ]
    axes = dice_box_figure(table).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["RV ED\nn = 2", "LV ED\nn = 2", "LV ES\nn = 3"]
    assert [text.get_text() for text in axes.texts] == ["0.800", "0.850", "0.700"]
    points = axes.collections[::2]
    assert [sorted(scatter.get_offsets()[:, 1].tolist()) for scatter in points] == [
        [0.7, 0.9],
        [0.8, 0.9],
        [0.6, 0.7, 0.8],
    ]
    assert axes.get_ylim()[0] < 0.6
    assert f"{(0.7 + 0.9 + 0.8 + 0.9 + 0.6 + 0.7 + 0.8) / 7:.3f}" in axes.get_title()


def test_rows_read_from_csv_are_accepted():
    axes = dice_box_figure(rows("RV", "ED", ["0.5", "", "0.7"])).axes[0]
    assert axes.texts[0].get_text() == "0.600"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "no row with a dice"),
        (rows("RV", "ED", [None]), "no row with a dice"),
        (rows("RV", "ED", ["much"]), "metrics, row 1"),
        (rows("LA", "ED", [0.5]), "LA"),
        ([{"structure": "RV"}], "phase"),
    ],
)
def test_invalid_tables_are_refused(table, message):
    with pytest.raises(CineError, match=message):
        dice_box_figure(table)
