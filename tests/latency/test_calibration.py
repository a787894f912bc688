"""The fit, on a device that is made up: its true costs are known."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from scripts.latency.calibration import agreement, calibrate, divide_drift_out
from scripts.latency.network import Sample, Visit
from scripts.latency.table import counts_of, keys_of
from scripts.latency.timer import Timing
from scripts.space.sampling import random_architecture
from scripts.space.space import Space


@pytest.fixture(scope="module")
def space():
    return Space(layers=6, scales=3, nodes=2, channels=4, deployment_size=(16, 16, 3))


@pytest.fixture(scope="module")
def truth(space):
    random = Random(0)
    return {key: random.uniform(0.1, 2.0) for key in sorted(keys_of(space))}


def sample(space, truth, count=60, noise=0.0, drift=lambda number: 1.0):
    """Networks, each visited twice, the second time five networks later."""
    random = Random(1)
    samples = []
    for index in range(count):
        architecture = random_architecture(space, random)
        ms = sum(n * truth[key] for key, n in counts_of(architecture).items())
        numbers = 2 * index, 2 * index + 11
        visits = tuple(Visit(ms * drift(n) * (1 + noise * random.uniform(-1, 1)), 2.0 * drift(n), n) for n in numbers)
        samples.append(Sample(architecture, visits))
    return samples


def isolated(truth, factor=0.7):
    return {key: Timing(factor * ms, factor * ms, factor * ms, 0.01, 9) for key, ms in truth.items()}


def test_what_a_network_adds_to_its_operations_is_found(space, truth):
    """Operations timed apart say 30 % too little; the networks tell the truth."""
    entries, report = calibrate(sample(space, truth, noise=0.01), isolated(truth))
    assert report["operations_timed_apart"]["bias"] == pytest.approx(-0.3, abs=0.01)
    assert report["held_out"]["within_10"] == 1.0
    assert abs(report["held_out"]["bias"]) < 0.01
    assert report["held_out"]["kendall_tau"] > 0.95
    error = [abs(entries[key].ms / truth[key] - 1) for key in truth]
    assert np.median(error) < 0.1
    assert all(entry.ms >= 0 for entry in entries.values())


def test_entries_that_no_network_informs_keep_their_prior(space, truth):
    known = {**isolated(truth), ("conv_3x3x3", 7): Timing(0.5, 0.5, 0.5, 0.0, 9)}
    entries, _ = calibrate(sample(space, truth), known)
    assert entries["conv_3x3x3", 7].ms == pytest.approx(0.5)


def test_networks_kept_out_do_not_inform_their_own_prediction(space, truth):
    """Networks of random latency: a fit that had seen them would follow them, one that has not cannot."""
    samples = [
        Sample(one.architecture, tuple(Visit(Random(i).uniform(5, 50), 2.0, visit.number) for visit in one.visits))
        for i, one in enumerate(sample(space, truth))
    ]
    _, report = calibrate(samples, isolated(truth))
    assert abs(report["held_out"]["kendall_tau"]) < 0.3


def test_drift_of_the_machine_divides_out(space, truth):
    """The device slows by 40 % half way, the reference kernel with it."""
    steady, _ = divide_drift_out(sample(space, truth))
    slowed, _ = divide_drift_out(sample(space, truth, drift=lambda number: 1.4 if number > 60 else 1.0))
    ratio = slowed / steady
    assert ratio.std() / ratio.mean() < 0.02


def test_a_visit_that_was_disturbed_does_not_count(space, truth):
    samples = sample(space, truth, 20)
    ms, _ = divide_drift_out(samples)
    first, second = samples[3].visits
    samples[3] = Sample(samples[3].architecture, (Visit(9 * first.ms, 8.0, first.number), second))
    both = samples[5].visits
    samples[5] = Sample(samples[5].architecture, tuple(Visit(9 * v.ms, 8.0, v.number) for v in both))
    disturbed, _ = divide_drift_out(samples)
    assert disturbed[3] == pytest.approx(ms[3])
    assert np.isnan(disturbed[5])
    assert np.isfinite(np.delete(disturbed, 5)).all()


def test_agreement_by_hand():
    figures = agreement(np.array([90.0, 105.0, 112.0, 130.0]), np.full(4, 100.0) + np.arange(4) * 1e-9)
    assert figures["bias"] == pytest.approx((-10 + 5 + 12 + 30) / 400)
    assert (figures["within_10"], figures["within_15"], figures["kendall_tau"]) == (0.5, 0.75, 1.0)
