from __future__ import annotations

import json

import pytest

from release.results import tables
from scripts.core.errors import CineError
from scripts.exams.variants import ORDERS, TURNED
from scripts.report.metrics import LEVEL_COLUMNS, summarise


def write(folder, rv, **more):
    """An evaluation of two exams, both phases: RV as given by exam and phase, MYO .5 and LV .9 everywhere."""
    rows = [
        {
            **{"patient": f"p{i}", "group": ("NOR", "DCM")[i], "phase": phase, "structure": name},
            **{"dice": {"RV": rv[i][k], "MYO": 0.5, "LV": 0.9}[name], "hd95_mm": 4.0},
            **{"reference_ml": (100.0, 40.0)[k], "volume_ml": (100.0, 50.0)[k]},
            **dict.fromkeys(LEVEL_COLUMNS.values(), 0.25),
            **{"scored_slices": 9, "slices": 9},
        }
        for i in range(2)
        for k, phase in enumerate(("ED", "ES"))
        for name in ("RV", "MYO", "LV")
    ]
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({**summarise(rows), **more}))
    text = "".join(f"{row['patient']},{row['dice']}\n" for row in rows)
    (folder / "metrics.csv").write_text(f"patient,dice\n{text}p0,\n")  # the last one is undefined


def cells(text, name):
    """The text of a table in the row with a name."""
    rows = (line.removesuffix(" |") for line in text.splitlines())
    return [row.split(" | ")[1:] for row in rows if row.startswith(f"| {name} |")]


def test_figures_by_hand(tmp_path):
    write(tmp_path / "work", [(0.8, 0.6), (0.7, 0.5)])
    text = tables(tmp_path / "work")
    # sample standard deviations of (.8, .7), of (.6, .5) and of all four
    assert cells(text, "RV") == [["0.750 ± 0.071", "0.550 ± 0.071", "0.650 ± 0.129", "4.0 ± 0.0"]]
    assert cells(text, "group NOR") == [["0.700 ± 0.141", "0.500 ± 0.000", "0.900 ± 0.000", "0.700 ± 0.190"]]
    assert cells(text, "level apex")[0][3] == "0.250 ± 0.000"
    # means of .7 and of .667, whose standard deviation is their difference by the root of two
    assert "standard error 0.017, median 0.683; lowest: p1 0.667, p0 0.700." in text
    # 50 % predicted, 60 % in truth, in both
    assert cells(text, "LV EF (%)")[0][:2] == ["-10.0 ± 0.0", "-10.0 to -10.0"]
    assert "degradation" not in text


def test_each_degradation_is_listed_next_to_the_clean_exams(tmp_path):
    write(tmp_path / "work", [(0.8, 0.6), (0.7, 0.5)])
    write(tmp_path / "work/degraded/noise-0.2", [(0.4, 0.4)] * 2, degradation={"kind": "noise", "severity": 0.2})
    text = tables(tmp_path / "work")
    assert cells(text, "none 0")[0][0] == "0.650 ± 0.129"
    assert cells(text, "noise 0.2")[0][0] == "0.400 ± 0.000"


def test_storage_orders_and_missing_labels_are_shown_if_there_are_any(tmp_path):
    write(tmp_path / "work", [(0.8, 0.6), (0.7, 0.5)], not_labelled={"RV": 0, "MYO": 2, "LV": 0}, partly_labelled=2)
    dice = {name: {"mean": 0.5, "std": 0.25, "count": 4} for name in ("RV", "MYO", "LV", "mean")}
    (tmp_path / "work" / "variants").mkdir()
    (tmp_path / "work" / "variants" / "variants.json").write_text(
        json.dumps({"dice": {name: dice for name in (*ORDERS, TURNED)}})
    )
    text = tables(tmp_path / "work")
    assert cells(text, "turned 180") == [["0.500 ± 0.250"] * 4]
    assert "Exams without a label of MYO: 2; MYO is not scored there." in text and "label of RV" not in text
    assert "Exams that are partly labelled: 2; only their labelled slices count" in text


def test_a_missing_evaluation_is_reported_with_the_step_to_run(tmp_path):
    with pytest.raises(CineError, match="Run the step evaluate"):
        tables(tmp_path)
