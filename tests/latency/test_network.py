from __future__ import annotations

from functools import partial
from random import Random

import numpy as np
import pytest
from tqdm import tqdm

from scripts.latency import network
from scripts.latency.isolated import build_chains, time_operations
from scripts.latency.network import latency_report, measure_network, sample_networks
from scripts.latency.table import keys_of
from scripts.runtime.deploy import Runtime
from scripts.space.network import CineNet


@pytest.fixture(scope="module")
def runtime():
    return Runtime("cpu", "float32")


def test_a_network_is_measured_and_reported(architecture, runtime):
    timing = measure_network(CineNet(architecture), runtime, 0.01)
    assert 0 < timing.median_ms <= timing.p95_ms
    searched = CineNet(architecture.with_provenance(predicted_ms=1.5, budget_ms=9.0))
    report = latency_report(searched, runtime, 0.01)["latency"]
    assert report["volumes_per_second"] == pytest.approx(1000 / report["mean_ms"])
    assert (report["predicted_ms"], report["budget_ms"], report["deployment_size"]) == (1.5, 9.0, [16, 16, 3])


def test_a_run_that_the_machine_disturbed_is_repeated(architecture, runtime, monkeypatch, caplog):
    """The reference kernel takes 3, then 1 ms; it took 1 ms when the device was profiled."""
    runs = iter([[[30.0, 9.0, 3.0]] * 5, [[10.0, 9.0, 1.0]] * 5])
    monkeypatch.setattr(network, "time_in_turn", lambda *_: np.array(next(runs)))
    with caplog.at_level("INFO"):
        assert measure_network(CineNet(architecture), runtime, reference_ms=1.0).median_ms == 10.0
    assert "1/3.00 of its speed" in caplog.text


def test_the_least_disturbed_run_counts_where_none_is_quiet(architecture, runtime, monkeypatch):
    runs = iter([[[30.0, 9.0, 3.0]] * 5, [[20.0, 9.0, 2.0]] * 5, [[25.0, 9.0, 2.5]] * 5])
    monkeypatch.setattr(network, "time_in_turn", lambda *_: np.array(next(runs)))
    assert measure_network(CineNet(architecture), runtime, reference_ms=1.0).median_ms == 20.0


def test_networks_are_visited_twice_some_time_apart(space, runtime, monkeypatch):
    monkeypatch.setattr(network, "tqdm", partial(tqdm, disable=True))  # with TQDM_DISABLE=1 a bar counts nothing
    samples = sample_networks(space, runtime, 0.0, Random(0))
    assert len(samples) >= network.FEWEST
    numbers = [visit.number for sample in samples for visit in sample.visits]
    assert sorted(numbers) == list(range(2 * len(samples)))
    first, second = samples[0].visits
    assert second.number - first.number > network.APART
    assert len({sample.architecture.digest for sample in samples}) > network.FEWEST / 2


def test_chains_hold_the_operation_as_often_as_they_say(space, runtime):
    """The longer chain has ``count`` operations more than the shorter: their parameters tell."""
    chains = build_chains(("conv_3x3x3", 1), space, runtime)
    longer, shorter = (sum(p.numel() for p in call.func.network.parameters()) for call in chains.calls)
    width = space.width(1)
    folded = width * width * 27 + width  # the norm's shift has become a bias
    assert longer - shorter == chains.count * folded


def test_every_entry_is_timed_apart(space, runtime):
    isolated = time_operations(space, runtime, 0.0)
    assert isolated.keys() == keys_of(space)
    assert all(timing.median_ms >= 0 for timing in isolated.values())
    assert isolated["stem", 0].median_ms > 0
