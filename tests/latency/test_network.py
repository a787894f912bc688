from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from scripts.latency import network
from scripts.latency.counts import keys_of
from scripts.latency.isolated import build_chains, time_operations
from scripts.latency.network import latency_report, measure_network, reference_network, sample_networks
from scripts.latency.timer import Timing
from scripts.latency.visits import MIN_VISITS, Measured, Visit, Visitor
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.space.network import CineNet

ONCE = Timing.of([1.0])


@pytest.fixture(scope="module")
def runtime():
    return Runtime("cpu", "float32")


def test_a_network_is_measured_and_reported(architecture, runtime, monkeypatch):
    monkeypatch.setattr(network, "MAX_SECONDS", 0.0)
    found = measure_network(CineNet(architecture), runtime)
    assert 0 < found.timing.median_ms <= found.timing.p95_ms and found.visits == MIN_VISITS
    searched = CineNet(architecture.with_provenance(predicted_ms=1.5, budget_ms=9.0))
    report = latency_report(searched, runtime)["latency"]
    assert report["volumes_per_second"] == pytest.approx(1000 / report["mean_ms"])
    assert (report["predicted_ms"], report["budget_ms"], report["deployment_size"]) == (1.5, 9.0, [16, 16, 3])
    assert report["met"]["median_ms"] > 0


def test_a_measurement_continues_until_the_device_is_fast_again(architecture, runtime, monkeypatch):
    """The reference takes 3 ms for four visits, then 1 ms, as it did when the device was profiled."""
    slow, fast = ([[[ms]] * 5 for ms in (*[reference, once] * 3, reference)] for reference, once in ((3, 30), (1, 10)))
    timed = iter(slow * 4 + fast * network.JUDGED)
    monkeypatch.setattr("scripts.latency.visits.time_in_turn", lambda *_: np.array(next(timed)))
    found = measure_network(CineNet(architecture), runtime, reference_ms=1.0)
    assert (found.visits, found.fast_visits, found.timing.median_ms) == (4 + network.JUDGED, network.JUDGED, 10.0)
    assert found.met.p95_ms == 30.0


def test_waiting_for_the_fast_state_ends_at_the_limit(architecture, runtime, monkeypatch):
    monkeypatch.setattr(network, "MAX_SECONDS", 0.0)
    timed = iter([*[[[3.0]], [[30.0]]] * 3, [[3.0]]] * MIN_VISITS)
    monkeypatch.setattr("scripts.latency.visits.time_in_turn", lambda *_: np.array(next(timed)))
    found = measure_network(CineNet(architecture), runtime, reference_ms=1.0)
    assert (found.fast, found.visits, found.timing.median_ms) == (None, MIN_VISITS, 30.0)


def test_the_reference_network_is_the_same_for_all_spaces_that_a_table_fits(space, runtime):
    """Its weights are random, its parts are not."""

    def parts(space):
        return {name: tuple(p.shape) for name, p in reference_network(space, runtime).func.network.named_parameters()}

    assert parts(space) == parts(replace(space, layers=6, operations=("identity", "conv_3x3x3"), start="any"))
    assert parts(space) != parts(replace(space, channels=8))


def test_the_reference_network_stays_as_it_was_when_candidates_are_added(space, monkeypatch):
    """Tables and networks of earlier versions hold its latency."""
    monkeypatch.setattr(network, "deployed_call", lambda network, space, runtime: network)
    digest = "720793924240805d73068c8031b4f97d155a513dc2f1df7fb3e6e9b3ac78c4a5"
    assert reference_network(space, Runtime()).digest == digest


def test_the_reference_of_another_device_does_not_count(architecture, runtime, monkeypatch):
    known = []
    monkeypatch.setattr(
        network, "measure_network", lambda *call: known.append(call[-1]) or Measured(None, ONCE, 1, 0, 1)
    )
    here = {"device": describe_device("cpu"), "runtime": runtime.describe()}
    for provenance in (here, {**here, "device": {"name": "another"}}, {}):
        latency_report(CineNet(architecture.with_provenance(fast_reference_ms=1.5, **provenance)), runtime)
    assert known == [1.5, None, None]


@pytest.mark.parametrize("count", [None, 7])
def test_networks_are_visited_in_rounds_over_those_of_a_batch(space, runtime, monkeypatch, count):
    monkeypatch.setattr(network, "MIN_NETWORKS", 5)
    monkeypatch.setattr(network, "BATCH", 4)
    visited = []
    visitor = Visitor(lambda: None, known_ms=1.0)
    visitor.visit = lambda call: visited.append(call) or [Visit(np.ones(3), 1.0, 1.0)]  # type: ignore[method-assign]
    visitor.references_ms = [(1.0, 1.0)]
    samples = sample_networks(space, runtime, 0.0, Random(0), visitor, count=count)
    assert [len(one.visits) for one in samples] == [MIN_VISITS] * (count or 5)
    assert visited == visited[:4] * 2 + visited[8 : 8 + (count or 5) - 4] * 2
    assert len({one.architecture.digest for one in samples}) == len(set(visited)) == len(samples)


def test_networks_of_the_first_batch_are_measured_twice_on_request(space, runtime, monkeypatch):
    monkeypatch.setattr(network, "BATCH", 2)
    visitor = Visitor(lambda: None, known_ms=1.0)
    visitor.visit = lambda call: [Visit(np.ones(3), 1.0, 1.0)]  # type: ignore[method-assign]
    visitor.references_ms = [(1.0, 1.0)]
    for twice, expected in ((True, [6, 6, 3, 3]), (False, [3] * 4)):
        samples = sample_networks(space, runtime, 60.0, Random(0), visitor, count=4, enough=3, twice=twice)
        assert [len(one.visits) for one in samples] == expected


def test_chains_contain_the_operation_count_times(space, runtime):
    """The longer chain has ``count`` operations more than the shorter one; the numbers of parameters show it."""
    chains = build_chains(("conv_3x3x3", 1), space, runtime)
    longer, shorter = (sum(p.numel() for p in call.func.network.parameters()) for call in chains.calls)
    width = space.width(1)
    folded = width * width * 27 + width  # the norm's shift has become a bias
    assert longer - shorter == chains.count * folded


def test_every_entry_is_timed_separately(space, runtime):
    isolated = time_operations(space, runtime, 0.0, Visitor(reference_network(space, runtime)))
    assert isolated.keys() == keys_of(space)
    assert all(timing.median_ms >= 0 for timing in isolated.values())
    assert isolated["stem", 0].median_ms > 0
