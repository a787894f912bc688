"""A label_map with exchanged structures is detected by a network's predictions."""

from __future__ import annotations

import itertools

import pytest
import torch

from scripts.report.label_order import better_label_map, count_pairs, format_hint

DEFAULT = {"1": 1, "2": 2, "3": 3}


@pytest.fixture
def label():
    label = torch.zeros(12, 12, 4)
    label[1:5, 1:5], label[6:10, 6:10], label[10, 6:10] = 1, 3, 2
    return label


def renumbered(label, order):
    """Structure 1 to 3 -> its value in ``order``."""
    return torch.tensor([0, *order])[label.long()]


def test_pairs_are_counted_by_hand():
    label, pred = torch.tensor([0, 1, 1, 3]).reshape(1, 1, 4), torch.tensor([0, 1, 2, 3]).reshape(1, 1, 4)
    expected = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(count_pairs(pred, label), expected)


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3)))[1:])
def test_every_exchange_is_found_with_the_correcting_map(label, order):
    stored = renumbered(label, order)
    hint = better_label_map(count_pairs(label, stored), DEFAULT)
    assert hint is not None and hint["dice"] == 1.0 and hint["dice_now"] < 0.4
    mended = torch.tensor([0, *(hint["label_map"][str(value)] for value in (1, 2, 3))])[stored]
    torch.testing.assert_close(mended, label.long())
    assert f'with --label_map "{hint["label_map"]}" the mean Dice would be 1.000, not 0.' in format_hint(hint)


def test_the_hint_is_based_on_the_map_in_use(label):
    """Values 500, 200 and 600 are read as LV, MYO and RV; they are RV, MYO and LV."""
    hint = better_label_map(count_pairs(label, renumbered(label, (3, 2, 1))), {"500": 3, "200": 2, "600": 1, "700": 0})
    assert hint is not None and hint["label_map"] == {"500": 1, "200": 2, "600": 3, "700": 0}
    assert hint["dice_now"] == pytest.approx(1 / 3)


def test_labels_without_rv_are_judged_by_the_others(label):
    stored = renumbered(torch.where(label == 1, 0.0, label), (1, 3, 2))
    hint = better_label_map(count_pairs(label, stored), DEFAULT)
    assert hint is not None and hint["label_map"] == {"1": 1, "2": 3, "3": 2}


def test_without_a_clear_gain_there_is_no_hint(label):
    pred = label.clone()
    pred[1:4, 1:5] = 2  # RV is mostly predicted as MYO: an exchange of both would fit only slightly better
    for found in (label, pred, torch.zeros_like(label)):
        assert better_label_map(count_pairs(found, label), DEFAULT) is None
    assert better_label_map(count_pairs(label, torch.zeros_like(label)), DEFAULT) is None


def test_a_network_with_a_low_dice_gives_no_hint(label, monkeypatch):
    """RV and LV are exchanged, and found in one of four slices: Dice 2 * 16 / (64 + 16) instead of 0."""
    label[label == 2] = 0
    pred = torch.zeros_like(label)
    pred[..., 0] = torch.tensor([0, 3, 2, 1])[label[..., 0].long()]
    assert better_label_map(count_pairs(pred, label), DEFAULT) is None
    monkeypatch.setattr("scripts.report.label_order.MIN_DICE", 0.3)
    hint = better_label_map(count_pairs(pred, label), DEFAULT)
    assert hint is not None and (hint["dice"], hint["dice_now"]) == (pytest.approx(0.4), 0)
