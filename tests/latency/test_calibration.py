"""The fit on an imaginary device with known true costs."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from scripts.latency import calibration
from scripts.latency.calibration import agreement, calibrate
from scripts.latency.counts import counts_of, keys_of
from scripts.latency.network import Sample
from scripts.latency.timer import Timing
from scripts.latency.visits import Visit, Visitor
from scripts.space.sampling import random_architecture
from scripts.space.space import Space


@pytest.fixture(scope="module")
def space():
    return Space(layers=6, scales=3, nodes=2, channels=4, deployment_size=(16, 16, 3))


@pytest.fixture(scope="module")
def truth(space):
    random = Random(0)
    return {key: random.uniform(0.1, 2.0) for key in sorted(keys_of(space))}


def sample(space, truth, count=60, noise=0.0, slow=lambda number: False):
    """Networks, each visited eight times in rounds over all of them; visits in the slow state take a third longer."""
    random, visitor = Random(1), Visitor(lambda: None)
    samples = [Sample(random_architecture(space, random)) for _ in range(count)]
    for number in range(8 * count):
        one, factor = samples[number % count], (1.33, 1.85) if slow(number) else (1.0, 1.0)
        ms = sum(n * truth[key] for key, n in counts_of(one.architecture).items())
        times_ms = np.full(3, ms * factor[0] * (1 + noise * random.uniform(-1, 1)))
        one.visits.append(Visit(times_ms, *[2.0 * factor[1]] * 2))
        visitor.references_ms.append((one.visits[-1].reference_ms, one.visits[-1].slowest_ms))
    return samples, visitor


def isolated(truth, factor=0.7):
    return {key: Timing(factor * ms, factor * ms, factor * ms, 0.01, 9) for key, ms in truth.items()}


def fit(space, truth, **changes):
    samples, visitor = sample(space, truth, **changes)
    return calibrate(samples, isolated(truth), visitor)


def test_the_fit_finds_what_a_network_adds_to_its_operations(space, truth):
    """Isolated timings are 30 % too low; the networks show the true costs."""
    entries, report = fit(space, truth, noise=0.01)
    assert report["isolated"]["bias"] == pytest.approx(-0.3, abs=0.01)
    assert report["held_out"]["within_10"] == 1.0
    assert abs(report["held_out"]["bias"]) < 0.01
    assert report["held_out"]["kendall_tau"] > 0.95
    error = [abs(entries[key].ms / truth[key] - 1) for key in truth]
    assert np.median(error) < 0.1
    assert all(entry.ms >= 0 for entry in entries.values())


def test_entries_without_information_are_corrected_like_their_kind(space, truth):
    known = {**isolated(truth), ("conv_3x3x3", 7): Timing(0.5, 0.5, 0.5, 0.0, 9)}
    samples, visitor = sample(space, truth)
    entries, _ = calibrate(samples, known, visitor)
    assert entries["conv_3x3x3", 7].ms == pytest.approx(0.5 / 0.7, rel=0.01)


def test_a_few_networks_correct_the_common_error_of_one_kind_of_entry(space, truth):
    """Isolated timings of scaling are twice too high, others are right; 12 networks cannot determine all entries."""
    timed = {key: 2.0 if key[0].startswith("scaling") else 1.0 for key in truth}
    timed = {key: Timing(*[factor * truth[key]] * 3, 0.0, 9) for key, factor in timed.items()}
    samples, visitor = sample(space, truth, count=12)
    entries, report = calibrate(samples, timed, visitor)
    assert report["isolated"]["bias"] > 0.1
    errors = {key: abs(entries[key].ms / truth[key] - 1) for key in truth}
    assert max(errors.values()) < 0.3 and np.median(list(errors.values())) < 0.05, errors


def test_one_common_factor_is_used_if_a_finer_correction_does_not_help(space, truth, monkeypatch):
    """Networks take 0.7 of the isolated timings, except for two operations."""
    monkeypatch.setattr(calibration, "WEIGHTS", ())
    samples, visitor = sample(space, truth, count=11)
    for one, factor in zip(samples, [0.3, 2.0] + [0.7] * 9, strict=True):
        one.visits[:] = [replace(visit, times_ms=factor * visit.times_ms) for visit in one.visits]
    entries, report = calibrate(samples, isolated(truth, 1.0), visitor)
    assert report["prior_weight"] is None
    assert {key: entry.ms for key, entry in entries.items()} == pytest.approx({k: 0.7 * ms for k, ms in truth.items()})


def test_the_weight_with_the_best_predictions_of_held_out_networks_is_chosen(space, truth, monkeypatch):
    factors = {0.05: 1.3, 0.1: 0.8, 0.2: 1.1, 0.4: 1.2, 0.8: 1.4, None: 1.5}
    monkeypatch.setattr(calibration, "_held_out", lambda fit, counts, measured, weight: factors[weight] * measured)
    samples, visitor = sample(space, truth)
    _, report = calibrate(samples, isolated(truth), visitor)
    assert (report["prior_weight"], report["held_out"]["bias"]) == (0.2, pytest.approx(0.1))


def test_held_out_networks_do_not_influence_their_own_prediction(space, truth):
    """Networks of random latency: a fit that includes them follows them, but one without them cannot."""
    samples, visitor = sample(space, truth)
    for index, one in enumerate(samples):
        one.visits[:] = [replace(v, times_ms=np.full(3, Random(index).uniform(5, 50))) for v in one.visits]
    _, report = calibrate(samples, isolated(truth), visitor)
    assert abs(report["held_out"]["kendall_tau"]) < 0.3


def test_a_slower_state_of_the_machine_does_not_count(space, truth):
    """Slow in every second round, by 1/3 for networks and by 0.85 for the reference."""
    steady, _ = fit(space, truth)
    entries, report = fit(space, truth, slow=lambda number: number // 60 % 2 == 1)
    assert {key: entry.ms for key, entry in entries.items()} == pytest.approx(
        {key: entry.ms for key, entry in steady.items()}
    )
    assert (report["fast_share"], report["slowdown"], report["slow_only"]) == (0.5, pytest.approx(1.85), 0)
    assert report["measured_twice"]["within_2"] == 1.0 and report["measured_twice"]["spread"] == pytest.approx(0)


def test_networks_timed_only_in_the_slower_state_are_not_fitted(space, truth):
    entries, report = fit(space, truth, slow=lambda number: number % 60 < 6)
    assert (report["slow_only"], report["networks"]) == (6, 54)
    assert report["held_out"]["within_10"] == 1.0
    assert entries["conv_3x3x3", 0].ms == pytest.approx(truth["conv_3x3x3", 0], rel=0.1)


def test_agreement_by_hand():
    figures = agreement(np.array([90.0, 104.9, 112.0, 130.0]), np.full(4, 100.0) + np.arange(4) * 1e-9)
    assert figures["bias"] == pytest.approx((-10 + 4.9 + 12 + 30) / 400)
    assert (figures["within_2"], figures["within_5"], figures["within_10"]) == (0.0, 0.25, 0.5)
    assert figures["kendall_tau"] == 1.0
