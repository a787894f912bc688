"""A latency table from another computer that would mislead the search or stop it."""

from __future__ import annotations

import json

import pytest

from scripts.core.errors import CineError
from scripts.latency.table import LatencyTable, relevant
from scripts.runtime.deploy import Runtime

CHANGES = {
    "negative": {"ms": -1.0},
    "beyond any latency": {"ms": 1e300},
    "text": {"ms": "fast"},
    "no number": {"ms": None},
    "a truth": {"ms": True},
    "no such scale": {"scale": -1},
    "a scale of another universe": {"scale": 10**12},
    "a scale between scales": {"scale": 0.5},
    "an operation that is no name": {"operation": ["conv"]},
    "an operation without end": {"operation": "x" * 10_000},
    "no runs": {"runs": 0},
    "another field": {"_target_": "os.system"},
}


@pytest.fixture
def content(space, tmp_path, make_table):
    make_table(space).save(tmp_path / "latency.json")
    return {**json.loads((tmp_path / "latency.json").read_text()), "space": relevant(space)}


def load(content, space, tmp_path):
    (tmp_path / "latency.json").write_text(json.dumps(content))
    return LatencyTable.load(tmp_path / "latency.json", space, Runtime("cpu", "float32"), "foreign")


def test_the_table_itself_is_accepted(content, space, tmp_path):
    assert load(content, space, tmp_path).foreign


@pytest.mark.parametrize("name", CHANGES)
def test_an_entry(content, space, tmp_path, name):
    entries = [{**content["entries"][0], **CHANGES[name]}, *content["entries"][1:]]
    with pytest.raises(CineError, match=r"latency.json, field entries"):
        load({**content, "entries": entries}, space, tmp_path)


def test_entries_without_end(content, space, tmp_path):
    entries = [{"operation": str(n)} for n in range(100_000)]
    with pytest.raises(CineError, match="maxItems 1000"):
        load({**content, "entries": entries}, space, tmp_path)


def test_a_repeated_entry(content, space, tmp_path):
    with pytest.raises(CineError, match="the same operation and scale twice"):
        load({**content, "entries": [*content["entries"], content["entries"][0]]}, space, tmp_path)


@pytest.mark.parametrize("name", ["space", "device", "runtime", "calibration"])
def test_an_invalid_section(content, space, tmp_path, name):
    with pytest.raises(CineError, match=f"latency.json, field {name}"):
        load({**content, name: [1, 2]}, space, tmp_path)
