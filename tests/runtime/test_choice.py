from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scripts.runtime import choice
from scripts.runtime.backends import BACKENDS
from scripts.runtime.choice import choose_runtime, race
from scripts.runtime.deploy import Runtime


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rtdnas"


@pytest.fixture
def races(monkeypatch):
    """Counts the races; the last backend wins."""
    held = []

    def race(runtimes):
        held.append(runtimes)
        return {runtime.backend: 10.0 - index for index, runtime in enumerate(runtimes)}

    monkeypatch.setattr(choice, "race", race)
    monkeypatch.setattr(choice, "_candidates", lambda *_: [Runtime("cpu", "float32"), Other("cpu", "float32")])
    return held


class Other(Runtime):
    """A second runtime that needs no package."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "backend", "compile")


def test_the_fastest_is_measured_once_and_kept(races, cache):
    assert choose_runtime().backend == "compile"
    assert choose_runtime().backend == "compile"
    assert len(races) == 1
    (path,) = cache.glob("backends-*.json")
    assert json.loads(path.read_text())["median_ms"] == {"eager": 10.0, "compile": 9.0}


@pytest.mark.parametrize("damage", ["", "{", '{"format": "rtdnas-backends-1", "median_ms": {"eager": -1}}'])
def test_a_damaged_choice_is_measured_again(races, cache, damage):
    choose_runtime()
    (path,) = cache.glob("backends-*.json")
    path.write_text(damage)
    assert choose_runtime().backend == "compile"
    assert len(races) == 2


def test_a_named_backend_is_taken_without_a_race(races):
    assert choose_runtime("cpu", "float32", "eager") == Runtime("cpu", "float32", "eager")
    assert not races


def test_a_backend_that_fails_is_left_out(monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("out of order")

    monkeypatch.setitem(BACKENDS, "broken", replace(BACKENDS["eager"], compile=fail))
    monkeypatch.setattr(choice, "RUNS", 1)
    times = race([Runtime("cpu", "float32", "eager"), Runtime("cpu", "float32", "broken")])
    assert times.keys() == {"eager"}
    assert "Backend broken fails here (RuntimeError: out of order)" in caplog.text
