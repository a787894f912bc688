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

from scripts.report.metrics import ExamMetrics, measure_exam, summarise
from scripts.report.metrics_table import format_summary

SPACING = (1.5, 1.0, 8.0)


@pytest.fixture
def label():
    label = torch.zeros(12, 12, 4)
    label[1:5, 1:5, 1:3] = 1
    label[6:10, 6:10, 1:3] = 3
    label[10, 6:10, 1:3] = 2
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


def test_a_structure_that_is_not_found_scores_0_and_has_no_distance(label):
    pred = label.clone()
    pred[pred == 3] = 0
    row = by_name(measure_exam(pred, label, SPACING))["LV"]
    assert (row["dice"], row["hd95_mm"], row["volume_ml"]) == (0.0, None, 0.0)


def test_an_unlabelled_structure_is_not_scored(label):
    """In a label without RV, the empty slices 0 and 3 do not count either: their voxels of LV are not errors."""
    partial = torch.where(label == 1, 0.0, label)
    pred = label.clone()
    pred[6:10, 6:10] = 3
    rows = by_name(measure_exam(pred, partial, SPACING))
    assert [rows["RV"][key] for key in ("dice", "hd95_mm", "reference_ml", "dice_base")] == [None] * 4
    assert rows["LV"]["dice"] == rows["MYO"]["dice"] == 1.0 and rows["LV"]["hd95_mm"] == 0
    assert (rows["LV"]["scored_slices"], rows["LV"]["slices"]) == (2, 4)
    assert rows["LV"]["volume_ml"] == pytest.approx(32 * 12 / 1000)


def test_every_slice_of_a_whole_label_counts(label):
    pred = label.clone()
    pred[6:10, 6:10, 0] = 3  # 16 voxels next to the 32 of the reference
    row = by_name(measure_exam(pred, label, SPACING))["LV"]
    assert row["dice"] == pytest.approx(64 / (48 + 32)) and row["scored_slices"] == row["slices"] == 4


def test_a_slice_without_label_between_labelled_ones_does_not_count():
    label = torch.zeros(8, 8, 5)
    label[0:2, :, 1:4], label[3:5, :, 1:4], label[6:8, :, 1:4] = 1, 2, 3
    pred = label.clone()
    label[..., 2] = 0
    rows = by_name(measure_exam(pred, label, SPACING))
    assert [rows[name]["dice"] for name in rows] == [1.0] * 3 and rows["LV"]["scored_slices"] == 2


def test_missing_labels_are_reported_and_their_volumes_not_compared(label):
    exams = {"whole": label, "cavity only": torch.where(label == 3, label, 0.0), "nothing": torch.zeros_like(label)}
    rows = [
        {"patient": name, "group": "NOR", "phase": "ED", **row}
        for name, partial in exams.items()
        for row in measure_exam(label, partial, SPACING)
    ]
    summary = summarise(rows)
    assert summary["not_labelled"] == {"RV": 1, "MYO": 1, "LV": 0}
    assert (summary["partly_labelled"], summary["without_label"], summary["patients"]) == (1, 1, 2)
    assert [entry["patient"] for entry in summary["function"]["patients"]] == ["whole"]
    text = format_summary(summary)
    assert "Exams without a label of RV: 1; RV is not scored there." in text
    assert "Exams that are partly labelled: 1;" in text and "Exams without any label: 1; they are not scored." in text
    assert "label" not in format_summary(summarise(rows[:3]))


def test_labels_in_few_slices_of_a_stack_are_partial():
    """All structures, without a gap, in 3 of 8 slices: predictions in the others are not errors; in 4 of 8 they are."""
    pred = torch.zeros(8, 8, 8)
    pred[0:2], pred[3:5], pred[6:8] = 1, 2, 3
    for labelled, dice in ((3, 1.0), (4, 2 * 4 / (4 + 8))):
        label = torch.zeros_like(pred)
        label[..., :labelled] = pred[..., :labelled]
        assert by_name(measure_exam(pred, label, SPACING))["LV"]["dice"] == pytest.approx(dice)


def test_levels_are_scored_separately():
    """A square RV of 6x6 in slices 1 to 5 of 7; the prediction misses some rows and adds others."""
    label = torch.zeros(12, 12, 7)
    label[2:8, 2:8, 1:6] = 1
    label[11, 11, 1:6], label[11, 0, 1:6] = 2, 3
    pred = label.clone()
    pred[2:5, :, 1] = 0  # base, slices 1 and 2: 18 + 36 of 72 voxels found
    pred[8:11, 2:8, 3] = 1  # middle, slice 3: 36 voxels and 18 too many
    pred[..., 4:6] = 0  # apex, slices 4 and 5: nothing found
    pred[2:8, 2:8, 0] = 1  # beyond the base: counts only in the whole exam
    row = by_name(measure_exam(pred, label, SPACING))["RV"]
    assert row["dice_base"] == pytest.approx(2 * 54 / (54 + 72))
    assert row["dice_middle"] == pytest.approx(2 * 36 / (54 + 36))
    assert row["dice_apex"] == 0.0
    found = 18 + 36 + 54 + 36
    assert row["dice"] == pytest.approx(2 * (18 + 36 + 36) / (found + 5 * 36))


def test_a_structure_may_be_absent_from_a_level_and_a_level_from_an_exam(label):
    label[..., 2][label[..., 2] == 3] = 0  # two labelled slices, base and apex; the LV is only in the first
    rows = by_name(measure_exam(label, label, SPACING))
    assert [rows["LV"][f"dice_{level}"] for level in ("base", "middle", "apex")] == [1.0, None, None]
    assert [rows["RV"][f"dice_{level}"] for level in ("base", "middle", "apex")] == [1.0, None, 1.0]
    more = label.clone()
    more[0, 0, 2] = 3
    assert by_name(measure_exam(more, label, SPACING))["LV"]["dice_apex"] == 0.0
    nothing = by_name(measure_exam(more, torch.zeros_like(label), SPACING))["LV"]
    assert [nothing[f"dice_{level}"] for level in ("base", "middle", "apex")] == [None] * 3


def test_hausdorff_distance_is_in_mm(label):
    """Compared with all pairwise distances of the voxels on the surfaces."""
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
        {"patient": "p1", "group": "NOR", "phase": "ES", "frame": torch.tensor(8), "pred": missing},
    ]

    def evaluate(engine, item):  # like MONAI's evaluator: tensors in the output, the rest in the batch
        engine.state.batch = [item]
        image = torch.rand(1, *label.shape)
        return [{"image": image, "pred": item["pred"][None], "label": MetaTensor(label[None], affine=affine)}]

    engine = Engine(evaluate)
    ExamMetrics(str(tmp_path), {"fold": 3}).attach(engine)
    with caplog.at_level("INFO"):
        engine.run(batches)
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("patient", "group", "phase", "frame", "structure", "dice", "hd95_mm", "volume_ml", "reference_ml"),
        *("dice_base", "dice_middle", "dice_apex", "scored_slices", "slices"),
    ]
    assert [row["frame"] for row in rows] == [""] * 3 + ["9"] * 3  # counted from 1
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["fold"] == 3
    assert summary["patients"] == 1
    assert summary["dice"]["LV"]["ED"] == {"mean": 1.0, "std": None, "count": 1}
    assert summary["dice"]["LV"]["all"] == {"mean": 0.5, "std": pytest.approx(math.sqrt(0.5)), "count": 2}
    assert summary["dice"]["mean"]["mean"] == 0.5
    assert summary["dice_by_level"]["apex"]["LV"]["all"]["mean"] == 0.5
    assert summary["dice_by_level"]["middle"]["mean"]["all"]["count"] == 0  # two labelled slices: base and apex
    assert summary["dice_by_group"]["NOR"]["mean"]["ED"] == {"mean": 1.0, "std": 0.0, "count": 3}
    (function,) = summary["function"]["patients"]
    assert function["reference"]["LV_ef_percent"] == 0.0 and function["predicted"]["LV_ef_percent"] is None
    assert summary["function"]["agreement"]["LV_ef_percent"]["undefined"] == 1
    for name in ("dice", "groups", "agreement", "exams"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000
    assert "0.500 ± 0.707" in caplog.text


def test_another_order_of_labels_is_reported_in_log_and_results(label, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("scripts.report.metrics.save_figure", lambda *_: None)
    swapped = torch.tensor([0, 3, 2, 1])[label.long()].float()
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))

    def evaluate(engine, item):
        engine.state.batch = [item]
        return [{"image": label[None], "pred": label[None], "label": MetaTensor(swapped[None], affine=affine)}]

    engine = Engine(evaluate)
    ExamMetrics(str(tmp_path), label_map={"1": 1, "2": 2, "3": 3}).attach(engine)
    engine.run([{"patient": "p1", "group": "NOR", "phase": "ED"}])
    hint = json.loads((tmp_path / "metrics.json").read_text())["label_map_hint"]
    assert hint == {"label_map": {"1": 3, "2": 2, "3": 1}, "dice": 1.0, "dice_now": pytest.approx(1 / 3)}
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(
        "The label values seem to have another order: with --label_map \"{'1': 3, '2': 2, '3': 1}\""
    )


def test_a_never_labelled_structure_is_left_out_and_exams_are_not_partly_labelled(label):
    """In a data set without RV, every slice counts and the LV's volumes are compared."""
    without_rv = torch.where(label == 1, 0.0, label)
    rows = [
        {"patient": "p", "group": "NOR", "phase": phase, **row}
        for phase in ("ED", "ES")
        for row in measure_exam(label, without_rv, SPACING, ["MYO", "LV"])
    ]
    summary = summarise(rows)
    assert summary["partly_labelled"] == 0 and summary["dice"]["mean"] == {"mean": 1.0, "std": 0.0, "count": 4}
    (function,) = summary["function"]["patients"]
    assert function["reference"]["LV_edv_ml"] == pytest.approx(32 * 12 / 1000)
    assert function["reference"]["RV_edv_ml"] is None
    lines = format_summary(summary).splitlines()
    assert not [line for line in lines if line.startswith("RV")]
    assert [line for line in lines if line.startswith("LV ")]
    assert "None of these exams has a label of RV: it is not in means and tables." in lines


def test_slices_are_found_on_any_axis(label, tmp_path):
    """The same exam, stored with slices first, gives the same figures."""
    pred = label.clone()
    pred[1, :, 1] = 0
    found = []
    for order in ((0, 1, 2), (2, 0, 1)):
        metrics = ExamMetrics(str(tmp_path))
        affine = torch.diag(torch.tensor([*(SPACING[axis] for axis in order), 1.0], dtype=torch.float64))
        affine[:3, :3] = affine[:3, :3][torch.tensor(order).argsort()]
        item = {"image": torch.rand(label.shape), "pred": pred, "label": label}
        item = {key: x.permute(order)[None].contiguous() for key, x in item.items()}
        item["label"] = MetaTensor(item["label"], affine=affine)
        engine = Engine(lambda *_: None)
        engine.state.batch, engine.state.output = [{"patient": "p", "group": "NOR", "phase": "ED"}], [item]
        metrics._collect(engine)
        found.append(metrics.rows)
    assert found[0] == found[1]
    assert found[0][0]["dice_base"] == pytest.approx(2 * 12 / (12 + 16))


def test_the_table_shows_the_content_of_the_summary():
    rows = [
        {
            **{"patient": p, "group": group, "phase": phase, "structure": s, "dice": d, "hd95_mm": 2.0},
            **{"volume_ml": 50.0, "reference_ml": 40.0 if phase == "ES" else 50.0},
            **{"dice_base": d - 0.1, "dice_middle": d, "dice_apex": None, "scored_slices": 9, "slices": 9},
        }
        for p, d, group in (("a", 0.9, "NOR"), ("b", 0.7, "RV"))
        for phase in ("ED", "ES")
        for s in ("RV", "MYO", "LV")
    ]
    latency = {
        "median_ms": 40.0,
        "p95_ms": 44.0,
        "mean_ms": 41.0,
        "met": {"p95_ms": 48.0, "mean_ms": 42.0},
        "fast_visits": 6,
        "volumes_per_second": 24.5,
        "predicted_ms": 38.0,
        "budget_ms": 50.0,
        "volumes_per_second_required": 22.0,
        "deployment_size": [128, 112, 20],
    }
    text = format_summary({**summarise(rows), "latency": latency})
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert lines["RV"].split()[1:4] == ["0.800", "±", "0.141"]
    assert lines["level base"].split()[-3:] == ["0.700", "±", "0.104"]
    assert lines["level apex"].split()[-1] == "-"
    assert lines["group RV"].split()[-3:] == ["0.700", "±", "0.000"]
    assert "group" not in format_summary(summarise(rows[:6]))
    partial = format_summary(summarise(rows[:9]))  # no ES of the group RV
    assert "group RV 0.700 ± 0.000 - 0.700 ± 0.000" in " ".join(partial.split())
    assert lines["LV EF (%)"].split()[3:] == ["-20.0", "±", "0.0", "-20.0", "to", "-20.0", "-", "2"]
    assert "mean Dice 0.800 ± 0.104 over 2 patients" in text
    assert "latency 40.00 ms a volume of 128x112x20 (p95 44.00), 24.5 volumes a second" in text
    assert text.endswith("predicted 38.00 ms; budget 50.00 ms and 22 volumes a second: met")
    for worse in ({"p95_ms": 51.0}, {"mean_ms": 46.0}):
        missed = format_summary({**summarise(rows), "latency": {**latency, **worse}})
        assert missed.endswith("22 volumes a second: not met")
        slowed = format_summary({**summarise(rows), "latency": {**latency, "met": {**latency["met"], **worse}}})
        p95_ms = worse.get("p95_ms", 48.0)
        assert slowed.endswith(f"met in the device's fast state, not over all visits now (p95 {p95_ms:.2f} ms)")
        never = format_summary({**summarise(rows), "latency": {**latency, **worse, "fast_visits": 0}})
        assert never.endswith("not judged, since the device was never in its fast state")
