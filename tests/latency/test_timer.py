from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from scripts.latency.timer import Timing, time_in_turn


@pytest.fixture
def sleep(monkeypatch):
    """Advance the timer's clock by some seconds; no other time passes, even on a busy machine."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("scripts.latency.timer.time", SimpleNamespace(perf_counter=lambda: clock.now))

    def sleep(seconds: float) -> None:
        clock.now += seconds

    return sleep


def test_a_known_pause_is_timed_for_as_long_as_asked(sleep):
    timing = Timing.of(time_in_turn([lambda: sleep(0.005)], seconds=0.1001)[:, 0])
    assert timing.median_ms == timing.p95_ms == pytest.approx(5)
    assert timing.runs == 21


def test_statistics_equal_numpy_s():
    timing = Timing.of([1.0, 2.0, 3.0, 10.0])
    assert timing.median_ms == pytest.approx(2.5)
    assert timing.mean_ms == pytest.approx(4.0)
    assert timing.p95_ms == pytest.approx(np.quantile([1, 2, 3, 10], 0.95))
    assert timing.iqr_ms == pytest.approx(4.75 - 1.75)
    assert timing.runs == 4


def test_callables_alternate_after_warm_up():
    calls = []
    times = time_in_turn([lambda: calls.append("a"), lambda: calls.append("b")], seconds=0, warm_up=2, min_rounds=3)
    assert calls == ["a", "b"] * 5
    assert times.shape == (3, 2)


def test_a_disturbance_affects_all_timed_calls(sleep):
    """Work slows to half its speed half way: the medians of both callables double."""
    pace = iter(np.repeat([0.001, 0.002], 40))
    share = time_in_turn(
        [lambda: sleep(3 * next(pace)), lambda: sleep(next(pace))], seconds=0, warm_up=0, min_rounds=40
    )
    ratio = share[:, 0] / share[:, 1]
    assert share[:20, 0] == pytest.approx(3.0)
    assert share[20:, 0] == pytest.approx(6.0)
    assert ratio == pytest.approx(3)
