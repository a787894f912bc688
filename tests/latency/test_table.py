from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scripts.core.errors import CineError
from scripts.latency.counts import counts_of, keys_of, merges_of, repeats_of
from scripts.latency.profile import load_or_measure, profile
from scripts.latency.table import Entry, LatencyTable, relevant
from scripts.latency.timer import Timing
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.space.architecture import Architecture
from scripts.space.space import Space
from scripts.space.trellis import Cell


@pytest.fixture(scope="module")
def runtime():
    return Runtime("cpu", "float32")


@pytest.fixture
def saved(space, runtime, tmp_path):
    """A table like that of the step profile for this device."""
    timing = Timing(1.0, 1.1, 1.3, 0.1, 5)
    entries = {key: Entry(0.9, timing) for key in keys_of(space)}
    described = relevant(space), describe_device(runtime.device), runtime.describe()
    path = tmp_path / "latency.json"
    LatencyTable(entries, *described, {"networks": 3, "reference_ms": 1.5}).save(path)
    return path


def test_every_entry_of_the_space_exists(space, runtime, saved):
    table = LatencyTable.load(saved, space, runtime)
    expected = {("stem", 0), ("head", 0)}
    expected |= {(o + reads, s) for o in space.operations for s in range(3) for reads in ("", "_chained")}
    expected |= {("max_pool_3x3x3_repeated", s) for s in range(2)}  # only one cell leaves a tile of scale 2
    expected |= {("scaling_contracting", s) for s in (0, 1)} | {("scaling_expanding", s) for s in (1, 2)}
    expected |= {("scaling_non_scaling", s) for s in (0, 1)}  # four layers cannot stay at scale 2
    expected |= {("merge", s) for s in (0, 1)}  # and reach it only from one tile
    assert set(table.entries) == expected == keys_of(space)


def test_loading_returns_the_saved_content(space, runtime, saved):
    table = LatencyTable.load(saved, space, runtime)
    table.save(saved)
    assert LatencyTable.load(saved, space, runtime) == table


def test_profile_measures_fits_saves_and_prints(space, runtime, tmp_path, caplog):
    with caplog.at_level("INFO"):
        table = profile(tmp_path / "t.json", space, runtime, 0.0)
    assert LatencyTable.load(tmp_path / "t.json", space, runtime) == table
    lines = caplog.messages[-1].splitlines()[2:]
    costs = [float(line.split()[2]) for line in lines[: len(keys_of(space))]]
    assert costs == sorted(costs, reverse=True)
    titles = ["the table, for held-out networks", "isolated operations", "the first batch, measured", "fast state"]
    assert all(line.startswith(title) for line, title in zip(lines[len(costs) + 1 :], titles, strict=True))
    assert table.calibration["networks"] + table.calibration["slow_only"] >= 10
    assert table.calibration["reference_ms"] > 0
    assert {"bias", "spread", "within_10", "within_5", "kendall_tau"} < table.calibration["held_out"].keys()


def test_prediction_by_hand(architecture, make_table):
    """Every entry costs its scale + 1 ms; max-pooling of another node costs 10 ms more."""
    table = make_table(architecture.space, lambda name, scale: scale + 1 + 10 * (name == "max_pool_3x3x3_chained"))
    # stem 1, head 1; path 01210 and path 00000, no cell shared; cells of two nodes and a scaling: 3 entries each
    contracting = 3 * 1 + 10, 3 * 2 + 10
    expanding = 3 * 3, 3 * 2
    merge = 1  # both paths end at scale 0
    assert table.predict(architecture) == 2 + sum(contracting) + sum(expanding) + 4 * 3 + merge
    assert table.merges(architecture.union) == merge
    assert table.scaling(Cell(1, 2, 1)) == 3


def test_an_operation_that_two_cells_apply_to_one_tile_is_repeated(space, make_table):
    """Two cells leave the first tile, both with a pooling of it; a third one pools another node."""
    cells = {
        "contracting": ((0, "max_pool_3x3x3"), (0, "identity")),
        "non_scaling": ((0, "conv_3x3x3"), (0, "max_pool_3x3x3")),
        "expanding": ((0, "conv_3x3x3"), (1, "max_pool_3x3x3")),
    }
    architecture = Architecture(space, cells, ((0, 0, 0, 0, 0), (0, 1, 0, 0, 0)))
    counts = counts_of(architecture)
    # cells: 4 + 2 along scale 0, the last two of them shared; one down, one up
    assert repeats_of(architecture, architecture.union) == {0: 1}
    assert (counts["max_pool_3x3x3", 0], counts["max_pool_3x3x3_repeated", 0]) == (4, 1)
    assert counts["max_pool_3x3x3_chained", 1] == 1
    costs = {"max_pool_3x3x3": 5.0, "max_pool_3x3x3_repeated": 0.5}
    table = make_table(space, lambda name, scale: costs.get(name, 0.0))
    assert table.predict(architecture) == 4 * 5.0 + 0.5
    assert table.repeats(architecture, architecture.union) == 0.5 - 5.0


def test_cells_that_scale_first_repeat_nothing():
    space = Space(3, 2, 1, 4, 2, ("max_pool_3x3x3",), (16, 16, 3), scaling="before")
    cells = dict.fromkeys(space.trellis.kinds, ((0, "max_pool_3x3x3"),))
    architecture = Architecture(space, cells, ((0, 0, 0, 0), (0, 1, 0, 0)))
    assert not repeats_of(architecture, architecture.union)
    assert not any(name.endswith("_repeated") for name, _ in keys_of(space))


def test_merges_are_one_fewer_than_the_cells_that_end_at_a_tile():
    ends = [Cell(1, 0, 0), Cell(2, 0, 1), Cell(2, 1, 1), Cell(2, 2, 1), Cell(2, 0, 0), Cell(2, 1, 0)]
    assert merges_of(ends) == {("merge", 1): 2, ("merge", 0): 1}


def test_counts_equal_the_operations_that_a_network_executes(architecture):
    counts = counts_of(architecture)
    assert counts["stem", 0] == counts["head", 0] == 1
    assert counts["scaling_non_scaling", 0] == counts["identity", 0] == 4
    assert (counts["conv_3x3x3", 0], counts["conv_3x3x3", 1], counts["conv_3x3x3", 2]) == (1, 1, 0)
    assert (counts["conv_3x3x3_chained", 1], counts["conv_3x3x3_chained", 2]) == (1, 1)
    assert sum(counts.values()) == 2 + 8 * 3 + 1


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
    make_foreign(saved)
    with pytest.raises(CineError, match=r"field device#name: found 'Tesla P100'.*--target foreign"):
        LatencyTable.load(saved, space, runtime)


def make_foreign(path):
    content = json.loads(path.read_text())
    content["device"]["name"] = "Tesla P100"
    path.write_text(json.dumps(content))


def test_a_foreign_table_is_accepted_only_if_requested(space, runtime, saved):
    assert not LatencyTable.load(saved, space, runtime, "foreign").foreign  # since it is of this device
    make_foreign(saved)
    assert load_or_measure(saved, space, runtime, target="foreign").foreign
    with pytest.raises(CineError, match="target: found 'abroad'; expected here or foreign"):
        LatencyTable.load(saved, space, runtime, "abroad")
    with pytest.raises(CineError, match="no such file"):  # a foreign device cannot be measured here
        load_or_measure(saved.with_name("none.json"), space, runtime, target="foreign")
    with pytest.raises(CineError, match="field space#channels"):
        LatencyTable.load(saved, replace(space, channels=8), runtime, "foreign")


@pytest.mark.parametrize(
    "broken", ["truncated", "negative", "nan", "no entries", "another format", "infinite", "all zero", "twice"]
)
def test_a_broken_table_is_refused(space, runtime, saved, broken):
    content = json.loads(saved.read_text())
    if broken == "negative":
        content["entries"][0]["ms"] = -1
    elif broken == "nan":
        content["entries"][0]["ms"] = float("nan")
    elif broken == "no entries":
        content["entries"] = []
    elif broken == "another format":
        content["format"] = "rtdnas-latency-1"
    elif broken == "all zero":
        content["entries"] = [{**entry, "ms": 0.0} for entry in content["entries"]]
    elif broken == "twice":
        content["entries"].append({**content["entries"][0], "ms": 0.1})
    text = json.dumps(content)
    if broken == "infinite":
        text = text.replace('"ms": 0.9', '"ms": 1e999', 1)
    saved.write_text(text[: len(text) // 2] if broken == "truncated" else text)
    with pytest.raises(CineError, match="run profile"):
        LatencyTable.load(saved, space, runtime)


def test_an_existing_table_is_not_measured_again(space, runtime, saved, monkeypatch):
    monkeypatch.setattr("scripts.latency.profile.measure", lambda *_: pytest.fail("measured again"))
    assert load_or_measure(saved, space, runtime) == LatencyTable.load(saved, space, runtime)
