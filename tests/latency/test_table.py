from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scripts.files import CineError
from scripts.latency.network import latency_report, measure_network
from scripts.latency.table import LatencyTable, keys_of, load_or_measure, measure, profile
from scripts.runtime.deploy import Runtime
from scripts.space.trellis import Cell


@pytest.fixture(scope="module")
def runtime():
    return Runtime("cpu", "float32")


@pytest.fixture
def saved(space, runtime, tmp_path):
    path = tmp_path / "latency.json"
    measure(space, runtime, 0.001).save(path)
    return path


def test_every_entry_of_the_space_is_measured(space, runtime, saved):
    table = LatencyTable.load(saved, space, runtime)
    expected = {("stem", 0), ("head", 0)}
    expected |= {(o, s) for o in space.operations for s in range(3)}
    expected |= {("scaling_contracting", s) for s in (0, 1)} | {("scaling_expanding", s) for s in (1, 2)}
    expected |= {("scaling_non_scaling", s) for s in (0, 1)}  # four layers cannot stay at scale 2
    assert set(table.entries) == expected == keys_of(space)
    assert all(0 < timing.median_ms <= timing.p95_ms + 1e-9 for timing in table.entries.values())


def test_what_is_saved_is_what_is_loaded(space, runtime, saved):
    table = LatencyTable.load(saved, space, runtime)
    table.save(saved)
    assert LatencyTable.load(saved, space, runtime) == table


def test_rows_are_sorted_by_cost_and_printed(space, runtime, tmp_path, caplog):
    with caplog.at_level("INFO"):
        profile(tmp_path / "t.json", space, runtime, 0.001)
    rows = [line.split() for line in caplog.messages[-1].splitlines()[2:]]
    costs = [float(row[2]) for row in rows]
    assert costs == sorted(costs, reverse=True)
    assert len(rows) == len(keys_of(space))


def test_prediction_by_hand(architecture, make_table):
    """Every entry costs its scale + 1 ms, max-pooling 10 ms more."""
    table = make_table(architecture.space, lambda name, scale: scale + 1 + 10 * (name == "max_pool_3x3x3"))
    # stem and head 1 + 1; path 01210 and path 00000, no cell shared; cells of two nodes and a scaling: 3 entries each
    contracting = 3 * 1 + 10, 3 * 2 + 10
    expanding = 3 * 3, 3 * 2
    assert table.predict(architecture) == 2 + sum(contracting) + sum(expanding) + 4 * 3
    assert table.scaling(Cell(1, 2, 1)) == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"channels": 8}, "field space#channels: found 4; expected 8"),
        ({"deployment_size": (16, 16, 4)}, "field space#deployment_size"),
        ({"operations": ("conv_3x3x1",)}, "no entry for"),
    ],
)
def test_a_table_of_another_space_is_refused(space, runtime, saved, change, says):
    with pytest.raises(CineError, match=says) as caught:
        LatencyTable.load(saved, replace(space, **change), runtime)
    assert "run profile" in str(caught.value)


def test_a_table_of_another_device_or_precision_is_refused(space, runtime, saved):
    with pytest.raises(CineError, match="field runtime#dtype"):
        LatencyTable.load(saved, space, Runtime("cpu", "bfloat16"))
    content = json.loads(saved.read_text())
    content["device"]["name"] = "Tesla P100"
    saved.write_text(json.dumps(content))
    with pytest.raises(CineError, match="field device#name: found 'Tesla P100'"):
        LatencyTable.load(saved, space, runtime)


@pytest.mark.parametrize("broken", ["truncated", "negative", "nan", "no entries"])
def test_a_broken_table_is_refused(space, runtime, saved, broken):
    content = json.loads(saved.read_text())
    if broken == "negative":
        content["entries"][0]["median_ms"] = -1
    elif broken == "nan":
        content["entries"][0]["median_ms"] = float("nan")
    elif broken == "no entries":
        content["entries"] = []
    text = json.dumps(content)
    saved.write_text(text[: len(text) // 2] if broken == "truncated" else text)
    with pytest.raises(CineError, match="run profile"):
        LatencyTable.load(saved, space, runtime)


def test_a_table_that_is_there_is_not_measured_again(space, runtime, saved, monkeypatch):
    monkeypatch.setattr("scripts.latency.table.measure", lambda *_: pytest.fail("measured again"))
    assert load_or_measure(saved, space, runtime) == LatencyTable.load(saved, space, runtime)


def test_a_network_is_measured_and_reported(architecture, runtime, tmp_path):
    timing = measure_network(architecture, runtime, 0.01)
    assert 0 < timing.median_ms <= timing.p95_ms
    architecture.with_provenance(predicted_ms=1.5, budget_ms=9.0).save(tmp_path / "a.json")
    report = latency_report(str(tmp_path / "a.json"), runtime, 0.01)["latency"]
    assert report["volumes_per_second"] == pytest.approx(1000 / report["mean_ms"])
    assert (report["predicted_ms"], report["budget_ms"], report["deployment_size"]) == (1.5, 9.0, [16, 16, 3])
