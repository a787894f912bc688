from __future__ import annotations

import logging

import psutil
import pytest

from scripts.run.busy import warn_if_busy


@pytest.fixture
def cores(monkeypatch):
    """Two cores for this process, cores 0 and 2 of three; returns how to set their load."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [0, 2], raising=False)
    return lambda *percents: monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: list(percents))


def test_a_busy_core_is_reported_with_what_to_do(cores, caplog):
    cores(99.0, 0.0, 1.0)
    warn_if_busy()
    assert "keep 1.0 of the 2 cores busy" in caplog.text
    assert "export OMP_WAIT_POLICY=PASSIVE" in caplog.text


@pytest.mark.parametrize("load", [(20.0, 0.0, 20.0), (0.0, 100.0, 0.0)], ids=["little load", "load on another core"])
def test_quiet_cores_are_not_reported(cores, load, caplog):
    cores(*load)
    warn_if_busy()
    assert not caplog.records


@pytest.mark.parametrize("value", ["PASSIVE", "passive"])
def test_threads_that_sleep_while_they_wait_are_not_reported(cores, value, monkeypatch, caplog):
    cores(100.0, 100.0, 100.0)
    monkeypatch.setenv("OMP_WAIT_POLICY", value)
    caplog.set_level(logging.DEBUG)
    warn_if_busy()
    assert not caplog.records
