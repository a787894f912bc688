"""The table of storage orders, rotations and few slices."""

from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from scripts.report.variants import ROWS, VariantMetrics, format_variants

AFFINE = torch.diag(torch.tensor([1.5, 1.5, 8.0, 1.0], dtype=torch.float64))


@pytest.fixture
def label():
    label = torch.zeros(12, 12, 5)
    label[0:3], label[4:7], label[8:11] = 1, 2, 3
    return label


def run(items, folder):
    """Items of (variant, prediction, label), each a batch."""

    def evaluate(engine, item):
        variant, pred, label = item
        engine.state.batch = [{"variant": variant}]
        return [{"pred": pred[None], "label": MetaTensor(label[None], affine=AFFINE)}]

    engine = Engine(evaluate)
    VariantMetrics(str(folder), {"fold": 0}).attach(engine)
    engine.run(items)
    return json.loads((folder / "variants.json").read_text())


def test_each_variant_has_a_row_and_the_whole_stack_is_scored_at_the_same_slices(label, tmp_path):
    """The RV is predicted only in the middle slice: in whole stacks 1 of 5, in the 1, 2 and 3 middle slices one."""
    pred = torch.where(label == 1, 0.0, label)
    pred[0:3, :, 2] = 1
    found = run(
        [("as stored", pred, label), ("turned 180", label, label), ("1 slice", *2 * [label[..., 2:3]])], tmp_path
    )
    dice = {row: values["RV"]["mean"] for row, values in found["dice"].items()}
    assert found["fold"] == 0 and list(dice) == [row for row in ROWS if row in dice]
    assert dice == pytest.approx(
        {
            "as stored": 2 / 6,
            "turned 180": 1.0,
            "1 slice": 1.0,
            "1 slice of the whole stack": 1.0,
            "2 slices of the whole stack": 2 / 3,
            "3 slices of the whole stack": 2 / 4,
        }
    )
    assert "| turned 180 | 1.000 | 1.000 | 1.000 | 1.000" in format_variants(found["dice"])


def test_unlabelled_parts_are_not_scored(label, tmp_path):
    cavity = torch.where(label == 3, label, 0.0)
    cavity[..., 0] = 0
    found = run([("as stored", label, cavity), ("mirrored x", label, torch.zeros_like(label))], tmp_path)["dice"]
    assert found["as stored"]["RV"] == {"mean": None, "std": None, "count": 0}
    assert found["as stored"]["LV"]["mean"] == found["as stored"]["mean"]["mean"] == 1.0
    assert found["mirrored x"]["mean"]["count"] == 0
