from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scripts.core.errors import CineError
from scripts.runtime import autotune
from scripts.runtime.autotune import accepted_precision, choose_runtime, race
from scripts.runtime.backends import BACKENDS
from scripts.runtime.deploy import Runtime
from scripts.space.network import CineNet


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rtdnas"


@pytest.fixture
def races(monkeypatch):
    """Counts the measurements; the last runtime is the fastest."""
    held = []

    def race(runtimes):
        held.append(list(runtimes))
        return {name: 10.0 - index for index, name in enumerate(runtimes)}

    monkeypatch.setattr(autotune, "race", race)
    monkeypatch.setattr(autotune, "has_native_bfloat16", lambda device: True)
    monkeypatch.setattr(autotune, "BACKENDS", {name: BACKENDS[name] for name in ("compile", "eager")})
    return held


def test_the_fastest_runtime_is_measured_once_and_cached(races, cache):
    assert choose_runtime() == Runtime("cpu", "bfloat16", "eager")
    assert choose_runtime() == Runtime("cpu", "bfloat16", "eager")
    assert len(races) == 1
    (path,) = cache.glob("backends-*.json")
    assert list(json.loads(path.read_text())["median_ms"])[-1] == "eager bfloat16"


def test_a_processor_with_bfloat16_may_be_slower_in_it(races, monkeypatch):
    monkeypatch.setattr(autotune, "race", lambda runtimes: {"eager float32": 1.0, "eager bfloat16": 1.3})
    assert choose_runtime(backend="eager") == Runtime("cpu", "float32", "eager")


def test_both_precisions_of_a_named_backend_are_timed(races):
    choose_runtime(backend="eager")
    assert races == [["eager float32", "eager bfloat16"]]


def test_only_a_named_precision_is_timed(races):
    choose_runtime(dtype="float32")
    assert all(name.endswith("float32") for name in races[0])


def test_without_bfloat16_no_precisions_are_timed(races, monkeypatch):
    monkeypatch.setattr(autotune, "has_native_bfloat16", lambda device: False)
    assert choose_runtime(backend="eager") == Runtime("cpu", "float32", "eager")
    assert not races


def test_an_unknown_precision_is_refused_by_name():
    with pytest.raises(CineError, match="dtype"):
        choose_runtime(dtype="float8")


def test_a_named_backend_is_used_without_autotuning(races):
    assert choose_runtime("cpu", "float32", "eager") == Runtime("cpu", "float32", "eager")
    assert not races


def test_a_backend_that_fails_is_left_out(monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("out of order")

    monkeypatch.setitem(BACKENDS, "broken", replace(BACKENDS["eager"], compile=fail))
    monkeypatch.setattr(autotune, "RUNS", 1)
    runtimes = {f"{name} float32": Runtime("cpu", "float32", name) for name in ("eager", "broken")}
    assert race(runtimes).keys() == {"eager float32"}
    assert "Backend broken float32 fails here (RuntimeError: out of order)" in caplog.text


def test_integers_are_used_only_if_requested(races, monkeypatch):
    monkeypatch.setattr(autotune, "BACKENDS", {name: BACKENDS[name] for name in ("compile", "eager", "openvino")})
    choose_runtime()
    choose_runtime(dtype="int8")
    assert races == [
        [f"{name} {dtype}" for name in ("compile", "eager", "openvino") for dtype in ("float32", "bfloat16")],
        ["eager int8", "openvino int8"],
    ]


@pytest.mark.parametrize(("dtype", "precision"), [("int8", "int8"), ("bfloat16", "auto"), (None, "auto")])
def test_a_network_that_was_accepted_in_integers_runs_in_integers(architecture, dtype, precision):
    runtime = {} if dtype is None else {"runtime": {"dtype": dtype}}
    assert accepted_precision(CineNet(architecture.with_provenance(**runtime))) == precision
