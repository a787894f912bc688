"""Visits on an imaginary machine with known states and slowdowns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from scripts.latency.visits import Visit, Visitor


class Machine:
    """Calls take known times (ms), longer in the slow state, by different factors for reference and networks."""

    def __init__(self, monkeypatch):
        self.now, self.slow = 0.0, lambda _: False
        clock = SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr("scripts.latency.timer.time", clock)
        monkeypatch.setattr("scripts.latency.visits.time", clock)

    def call(self, ms, slowdown):
        def run():
            self.now += ms * (slowdown if self.slow(self.now) else 1.0) / 1000

        return run


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def visits_of(machine, visitor, call, count, pause=2.0):
    found = []
    for _ in range(count):
        found += visitor.visit(call)
        machine.now += pause
    return found


def test_only_visits_of_the_fast_state_count(machine):
    """Slow in every second ten seconds, by 1.33 for networks and 1.85 for the reference."""
    machine.slow = lambda now: now % 20 >= 10
    visitor = Visitor(machine.call(8.0, 1.85))
    found = visitor.summarise(visits_of(machine, visitor, machine.call(39.0, 1.33), 20))
    assert found.fast is not None and found.timing is found.fast
    assert (found.fast.median_ms, found.fast.p95_ms) == pytest.approx((39.0, 39.0))
    assert found.met.p95_ms == pytest.approx(39.0 * 1.33)
    assert 5 <= found.fast_visits < found.visits == 20
    states = visitor.states()
    assert states["reference_ms"] == pytest.approx(8.0) and states["slowdown"] == pytest.approx(1.85)
    assert states["fast_share"] == pytest.approx(found.fast_visits / 20)


def test_rounds_continue_for_callables_that_lack_fast_visits(machine):
    """The device is slow from 2 to 20 s. Five visits of each take longer than that first stretch."""
    machine.slow = lambda now: 2 < now < 20
    visitor = Visitor(machine.call(8.0, 1.85))
    first, second = (machine.call(ms, 1.33) for ms in (20.0, 40.0))
    pairs = [(first, []), (second, [])]
    visitor.visit_in_rounds(pairs, end=60.0, enough=5)
    fast = [sum(map(visitor.is_fast, visits)) for _, visits in pairs]
    assert fast == [5, 5] and 20 < machine.now < 25
    assert all(len(visits) > 12 for _, visits in pairs)


def test_rounds_end_with_the_time_after_at_least_two_visits(machine):
    machine.slow = lambda _: True
    visitor = Visitor(machine.call(8.0, 1.85), known_ms=8.0)
    pairs = [(machine.call(20.0, 1.33), []), (machine.call(40.0, 1.33), [])]
    visitor.visit_in_rounds(pairs, end=0.0, enough=9)
    assert [len(visits) for _, visits in pairs] == [2, 2]
    visitor.visit_in_rounds(pairs, end=machine.now + 3.0, enough=9)
    assert all(4 <= len(visits) <= 6 for _, visits in pairs)


def test_networks_never_timed_in_the_fast_state_are_marked(machine):
    machine.slow = lambda now: now > 100
    visitor = Visitor(machine.call(8.0, 1.85))
    early = visits_of(machine, visitor, machine.call(20.0, 1.3), 5)
    machine.now = 101.0
    late = visitor.summarise(visits_of(machine, visitor, machine.call(39.0, 1.33), 5))
    assert visitor.summarise(early).fast_visits == 5
    assert late.fast is None and late.fast_visits == 0
    assert late.timing.median_ms == late.met.median_ms == pytest.approx(39.0 * 1.33)


def test_a_known_reference_latency_reveals_a_slow_machine_at_the_first_visit(machine):
    machine.slow = lambda _: True
    call = machine.call(39.0, 1.33)
    for known, fast in ((8.0, False), (None, True)):
        visitor = Visitor(machine.call(8.0, 1.85), known_ms=known)
        assert visitor.is_fast(visitor.visit(call)[0]) is fast


def test_a_device_that_became_faster_is_not_measured_as_before(machine):
    visitor = Visitor(machine.call(4.0, 1.0), known_ms=8.0)
    found = visitor.summarise(visitor.visit(machine.call(20.0, 1.0)))
    assert visitor.fast_ms == pytest.approx(4.0) and found.timing.median_ms == pytest.approx(20.0)


def test_drift_within_the_fast_state_is_divided_out(machine):
    """All calls take 4 % longer after 10 s; the corrected visits before and after agree."""
    machine.slow = lambda now: now > 10
    visitor = Visitor(machine.call(8.0, 1.04))
    visits = visits_of(machine, visitor, machine.call(39.0, 1.04), 10)
    early, late = (visitor.summarise(half).timing.median_ms for half in (visits[:3], visits[-3:]))
    assert early == pytest.approx(late) and 39.0 <= early <= 39.0 * 1.04
    assert visitor.summarise(visits).fast_visits == 10
    assert visitor.summarise(visits[-3:]).met.median_ms == pytest.approx(39.0 * 1.04)


def test_a_visit_in_which_a_slower_state_begins_does_not_count():
    visitor = Visitor(lambda: None)
    visitor.references_ms = [(8.0, 8.0)] * 5
    assert visitor.is_fast(Visit(np.ones(3), 8.0, 8.5))
    assert not visitor.is_fast(Visit(np.ones(3), 8.0, 9.3))


def test_the_reference_alternates_with_groups_of_calls_whose_first_does_not_count(machine):
    order = []
    visitor = Visitor(lambda: order.append("r") or machine.call(8.0, 1.0)())
    (visit,) = visitor.visit(lambda: order.append("n") or machine.call(100.0, 1.0)())
    assert "".join(order) == "rrrr" + "nnnnrrrr" * 3
    assert visit.times_ms == pytest.approx([100.0] * 9) and visit.reference_ms == pytest.approx(8.0)


def test_a_slower_state_that_begins_during_a_visit_shows(machine):
    machine.slow = lambda now: now > 1.0
    visitor = Visitor(machine.call(8.0, 1.85))
    (visit,) = visitor.visit(machine.call(100.0, 1.33))
    assert visit.reference_ms < 9 and visit.slowest_ms == pytest.approx(8.0 * 1.85)


def test_calls_of_one_visit_alternate(machine):
    visitor = Visitor(machine.call(8.0, 2.0))
    longer, shorter = visitor.visit(machine.call(30.0, 1.3), machine.call(10.0, 1.3))
    assert longer.times_ms == pytest.approx(30.0) and shorter.times_ms == pytest.approx(10.0)
    assert longer.reference_ms == shorter.reference_ms == pytest.approx(8.0)


def test_one_lucky_visit_does_not_make_the_others_slow():
    visitor = Visitor(lambda: None)
    visitor.references_ms = [(8.0, 8.0)] * 60 + [(7.0, 7.0)]
    assert visitor.is_fast(Visit(np.array([1.0]), 8.0, 8.0))
