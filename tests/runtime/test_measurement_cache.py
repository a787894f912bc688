from __future__ import annotations

import json
from unittest.mock import Mock

import pytest

from scripts.core.errors import CineError, cine_error_of
from scripts.runtime import measurement_cache
from scripts.runtime.measurement_cache import measured_once


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rtdnas"


@pytest.fixture
def measure():
    """Measures, and counts how often."""
    calls = []

    def measure():
        calls.append(1)
        return {"fast": 1.0, "slow": 2.0}

    measure.calls = calls
    return measure


def once(measure, device="this one"):
    return measured_once("things", "things-1", {"device": device}, ("fast", "slow"), measure)


def test_a_device_is_measured_once(measure, cache):
    assert once(measure) == once(measure) == {"fast": 1.0, "slow": 2.0}
    assert len(measure.calls) == 1
    (path,) = cache.glob("things-*.json")
    assert json.loads(path.read_text())["device"] == "this one"


def test_another_device_is_also_measured(measure):
    once(measure)
    once(measure, "another")
    assert len(measure.calls) == 2


@pytest.mark.parametrize(
    "damage",
    ["", "{", '{"format": "things-1", "median_ms": {"fast": -1}}', '{"format": "things-1", "median_ms": {"x": 1}}'],
)
def test_a_damaged_file_is_measured_again(measure, cache, damage):
    once(measure)
    (path,) = cache.glob("things-*.json")
    path.write_text(damage)
    assert once(measure)["fast"] == 1.0
    assert len(measure.calls) == 2


def test_an_error_of_a_measurement_is_not_taken_for_a_missing_file():
    """An error whose context is a CineError would otherwise be reported as that one."""

    def fail():
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError) as error:
        once(fail)
    assert cine_error_of(error.value) is None


def test_a_full_cache_is_reported(measure, monkeypatch, caplog):
    monkeypatch.setattr(
        measurement_cache, "write_json", Mock(side_effect=CineError("cache", "no room", "some", "Make room."))
    )
    assert once(measure)["fast"] == 1.0
    assert "repeated each time" in caplog.text
