from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from scipy.spatial.distance import cdist

from scripts.report.metrics import ExamMetrics, format_summary, measure_exam, summarise

SPACING = (1.5, 1.0, 8.0)


@pytest.fixture
def label():
    label = torch.zeros(12, 12, 4)
    label[1:5, 1:5, 1:3] = 1
    label[6:10, 6:10, 1:3] = 3
    return label


def by_name(rows):
    return {row["structure"]: row for row in rows}


def test_values_by_hand(label):
    pred = label.clone()
    pred[1, 1:5, 1:3] = 0  # RV loses a quarter of its 32 voxels: Dice 2 * 24 / (24 + 32)
    rows = by_name(measure_exam(pred, label, SPACING))
    assert rows["RV"]["dice"] == pytest.approx(48 / 56)
    assert rows["RV"]["reference_ml"] == pytest.approx(32 * 12 / 1000)
    assert rows["RV"]["volume_ml"] == pytest.approx(24 * 12 / 1000)
    assert rows["LV"]["dice"] == 1
    assert rows["LV"]["hd95_mm"] == 0


def test_a_structure_absent_from_both_counts_nowhere_and_from_one_0(label):
    pred = label.clone()
    pred[pred == 3] = 0
    rows = by_name(measure_exam(pred, label, SPACING))
    assert (rows["MYO"]["dice"], rows["MYO"]["hd95_mm"]) == (None, None)
    assert (rows["LV"]["dice"], rows["LV"]["hd95_mm"]) == (0.0, None)
    assert by_name(measure_exam(label, pred, SPACING))["LV"]["dice"] == 0.0


def test_hausdorff_distance_is_in_mm(label):
    """Against all pairwise distances of the voxels on the surfaces."""
    pred = torch.zeros_like(label)
    pred[3:7, 1:5, 1:3] = 1

    def surface(mask):
        inside = np.pad(mask, 1)
        return np.array(
            [
                p
                for p in np.argwhere(mask)
                if not all(inside[tuple(p + 1 + d)] for axis in np.eye(3, dtype=int) for d in (axis, -axis))
            ]
        )

    a, b = (surface((x == 1).numpy()) * SPACING for x in (pred, label))
    distances = cdist(a, b)
    expected = max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))
    assert by_name(measure_exam(pred, label, SPACING))["RV"]["hd95_mm"] == pytest.approx(expected)


def test_the_handler_writes_rows_and_summary(label, tmp_path, caplog):
    perfect, missing = label, torch.zeros_like(label)
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    batches = [
        {"patient": "p1", "group": "NOR", "phase": "ED", "pred": perfect},
        {"patient": "p1", "group": "NOR", "phase": "ES", "pred": missing},
    ]

    def evaluate(engine, item):  # as MONAI's evaluator: tensors in the output, the rest in the batch
        engine.state.batch = [item]
        return [{"pred": item["pred"][None], "label": MetaTensor(label[None], affine=affine)}]

    engine = Engine(evaluate)
    ExamMetrics(str(tmp_path), {"fold": 3}).attach(engine)
    with caplog.at_level("INFO"):
        engine.run(batches)
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["patient", "group", "phase", "structure", "dice", "hd95_mm", "volume_ml", "reference_ml"]
    assert len(rows) == 6
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["fold"] == 3
    assert summary["patients"] == 1
    assert summary["dice"]["LV"]["ED"] == {"mean": 1.0, "std": None, "count": 1}
    assert summary["dice"]["LV"]["all"] == {"mean": 0.5, "std": pytest.approx(math.sqrt(0.5)), "count": 2}
    assert summary["dice"]["MYO"]["all"]["mean"] is None
    assert summary["dice"]["mean"]["mean"] == 0.5
    assert (tmp_path / "figures" / "dice.png").stat().st_size > 1000
    assert "0.500 ± 0.707" in caplog.text


def test_the_table_shows_what_the_summary_holds():
    rows = [
        {"patient": p, "phase": phase, "structure": s, "dice": d, "hd95_mm": 2.0}
        for p, d in (("a", 0.9), ("b", 0.7))
        for phase in ("ED", "ES")
        for s in ("RV", "MYO", "LV")
    ]
    latency = {
        "median_ms": 40.0,
        "p95_ms": 44.0,
        "volumes_per_second": 24.5,
        "predicted_ms": 38.0,
        "budget_ms": 50.0,
        "volumes_per_second_required": 22.0,
        "deployment_size": [128, 112, 20],
    }
    text = format_summary({**summarise(rows), "latency": latency})
    assert "RV       0.800 ± 0.141" in text
    assert "mean Dice 0.800 ± 0.104 over 2 patients" in text
    assert "latency 40.00 ms a volume of 128x112x20 (p95 44.00), 24.5 volumes a second" in text
    assert text.endswith("predicted 38.00 ms; budget 50.00 ms and 22 volumes a second: kept")
    for worse in ({"p95_ms": 51.0}, {"volumes_per_second": 21.0}):
        missed = format_summary({**summarise(rows), "latency": {**latency, **worse}})
        assert missed.endswith("not kept in this measurement")
