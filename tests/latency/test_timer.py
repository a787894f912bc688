from __future__ import annotations

import time

import numpy as np
import pytest

from scripts.latency.timer import time_call


def test_a_known_pause_is_timed():
    timing = time_call(lambda: time.sleep(0.005), min_seconds=0.1)
    assert 5 <= timing.median_ms < 15
    assert timing.median_ms <= timing.p95_ms
    assert timing.runs >= 2


def test_statistics_are_numpys(monkeypatch):
    class Measured:
        times = (0.001, 0.002, 0.003, 0.010)

    monkeypatch.setattr("scripts.latency.timer.Timer.blocked_autorange", lambda self, min_run_time: Measured)
    timing = time_call(lambda: None)
    assert timing.median_ms == pytest.approx(2.5)
    assert timing.mean_ms == pytest.approx(4.0)
    assert timing.p95_ms == pytest.approx(np.quantile([1, 2, 3, 10], 0.95))
    assert timing.iqr_ms == pytest.approx(4.75 - 1.75)
    assert timing.runs == 4


def test_the_callable_is_warmed_up():
    calls = []
    time_call(lambda: calls.append(1), min_seconds=0.001, warm_up=2)
    assert len(calls) > 2
