from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from small_search import judge_of, random_mixing

from scripts.core import manifest
from scripts.core.errors import CineError
from scripts.latency.timer import Timing
from scripts.latency.visits import Measured
from scripts.runtime.deploy import Runtime
from scripts.search import judge as judging
from scripts.search import verify as verification
from scripts.search.acceptance import derive_from_search, derive_within_budget
from scripts.search.constraint import BudgetMissed, Constraint
from scripts.search.derive import Deriver
from scripts.search.history import save_history
from scripts.search.relaxation import uniform_mixing
from scripts.search.verify import verify
from scripts.space.architecture import Architecture
from scripts.space.space import Space

fastest = partial(Deriver, fitness="latency")  # RT-DNAS


@pytest.fixture
def space():
    return Space(layers=6, scales=3, nodes=1, channels=4, deployment_size=(16, 16, 3))


@pytest.fixture
def runtime():
    return Runtime("cpu", "float32")


@pytest.fixture
def clock(monkeypatch):
    """A device on which every cell takes 1 ms; the 95th percentile is 10 % above the median."""
    measured = []

    def measure(network, runtime, reference_ms=None):
        architecture = network.architecture
        measured.append(architecture)
        ms = float(len(architecture.union))
        timing = Timing(ms, ms, 1.1 * ms, 0.0, 10)
        return Measured(timing, timing, 5, 5, 1.0)

    monkeypatch.setattr(judging, "measure_network", measure)
    monkeypatch.setattr(verification, "measure_network", measure)
    return measured


def test_the_budget_is_for_the_95th_percentile_and_the_throughput_for_the_mean():
    constraint = Constraint(50.0, 22.0)
    assert constraint.kept_by(Timing(40, 41, 50, 1, 9))
    assert not constraint.kept_by(Timing(40, 41, 50.1, 1, 9))
    assert not constraint.kept_by(Timing(40, 46, 49, 1, 9))  # 21.7 volumes a second


def test_auto_uses_the_most_paths_that_meet_the_measured_budget(space, make_table, clock):
    table = make_table(space)
    mixing = random_mixing(space)
    architecture = derive_within_budget(mixing, fastest(), judge_of(space, 20.0, table))
    count = len(architecture.paths)
    assert 1.1 * len(architecture.union) <= 20
    for more in range(count + 1, 9):  # every larger number of paths was measured and refused
        tried = [a for a in clock if len(a.paths) == more]
        assert tried
        assert all(1.1 * len(a.union) > 20 for a in tried)
    assert architecture.provenance.budget_ms == 20.0
    assert architecture.provenance.measured_ms["p95_ms"] == pytest.approx(1.1 * len(architecture.union))
    assert architecture.provenance.volumes_per_second == pytest.approx(1000 / len(architecture.union))


def test_a_prediction_is_not_enough_for_acceptance(space, make_table, clock):
    """The table predicts 0.1 ms per cell, the device takes 1."""
    table = make_table(space, lambda name, scale: 0.01)
    with pytest.raises(CineError):
        derive_within_budget(random_mixing(space), fastest(paths=3), judge_of(space, 5.0, table))


def test_an_infeasible_budget_names_the_fastest_network(space, make_table, clock):
    with pytest.raises(CineError, match="single path") as caught:
        derive_within_budget(random_mixing(space), fastest(), judge_of(space, 2.0, make_table(space)))
    named = clock[-1]
    assert len(named.paths) == 1
    assert "".join(map(str, named.paths[0])) in str(caught.value)
    assert "p95 of 6.6 ms" in str(caught.value)  # six cells
    assert "Raise budget_ms" in str(caught.value)


def test_fewer_than_three_paths_are_a_last_resort_and_reported(space, make_table, clock, caplog):
    architecture = derive_within_budget(random_mixing(space), fastest(), judge_of(space, 7.0, make_table(space)))
    assert len(architecture.paths) == 1  # six cells take 6.6 ms, and any second path adds one
    assert "No network of 3 paths or more meets the budget" in caplog.text


def test_a_search_without_constraint_is_measured_and_its_miss_is_logged(space, make_table, clock, caplog):
    with caplog.at_level("INFO"):
        architecture = derive_within_budget(
            random_mixing(space), fastest("dijkstra", paths=4), judge_of(space, 0.5, make_table(space), enforced=False)
        )
    assert len(architecture.paths) == 4
    assert architecture.provenance.measured_ms["p95_ms"] > architecture.provenance.budget_ms == 0.5
    assert "accepted, though it misses" in caplog.text
    with pytest.raises(CineError, match="which no derived network of 4 paths"):
        derive_within_budget(
            random_mixing(space), fastest("dijkstra", paths=4), judge_of(space, 0.5, make_table(space))
        )


def test_auto_budget_is_0_6_of_the_eight_best_paths(space, make_table, clock):
    mixing = random_mixing(space)
    judge = judge_of(space, "auto", make_table(space)).resolved(mixing, fastest())
    assert len(clock[0].paths) == 8
    assert judge.constraint.budget_ms == pytest.approx(0.6 * len(clock[0].union), abs=0.005)
    given = judge.under(7.0)
    assert given.resolved(mixing, fastest()) == given


def test_an_auto_budget_can_be_met_with_any_cells(space, make_table, clock, tmp_path):
    save_history(tmp_path, 0.1, True, [entry(random_mixing(space))])  # the search's aim does not matter any more
    architecture = derive_from_search(str(tmp_path), fastest(), judge_of(space, "auto", make_table(space)))
    eight = fastest("dijkstra").propose(random_mixing(space), make_table(space), space, (8, 8))[0]
    assert architecture.provenance.budget_ms == pytest.approx(0.6 * len(eight.union), abs=0.005)
    assert 1.1 * len(architecture.union) <= architecture.provenance.budget_ms


def test_the_uniform_pool_is_compared_with_the_searched_one(space, make_table, clock):
    mixing = uniform_mixing(space)
    provenance = derive_within_budget(mixing, fastest(), judge_of(space, 50.0, make_table(space))).provenance
    assert provenance.notes["uniform_pool"] == provenance.notes["pool"]
    assert provenance.notes["uniform_pool_overlap"] == 1.0


def test_deriving_again_needs_only_the_history(space, make_table, clock, tmp_path):
    save_history(tmp_path, 30.0, False, [entry(random_mixing(space))], ["p1 ED a", "p2 ED b"])
    deriver = fastest("dijkstra", paths=4)
    architecture = derive_from_search(str(tmp_path), deriver, judge_of(space, "auto", make_table(space)))
    assert Architecture.load(tmp_path / "architecture.json") == architecture
    assert architecture.provenance.budget_ms == 30.0
    assert architecture.provenance.searched_exams == ["p1 ED a", "p2 ED b"]
    assert len(architecture.paths) == 4


def test_a_repeated_search_command_keeps_the_accepted_network_on_a_busy_device(space, make_table, clock, tmp_path):
    save_history(tmp_path, 30.0, False, [entry(random_mixing(space))])
    again = partial(derive_from_search, str(tmp_path), keep=True)
    judge = judge_of(space, 30.0, make_table(space))
    before = again(fastest("exhaustive"), judge)
    measured = len(clock)
    assert again(fastest("exhaustive"), judge) == before
    assert len(clock) == measured, "it was measured again"
    assert len(again(fastest("exhaustive", paths=3), judge).paths) == 3, "other settings derive again"
    assert again(fastest("exhaustive", paths=3), judge.under(29.0)).provenance.budget_ms == 29.0


def test_a_network_accepted_without_constraint_is_not_kept_under_a_constraint(space, make_table, clock, tmp_path):
    save_history(tmp_path, 1.0, False, [entry(random_mixing(space))])
    again = partial(derive_from_search, str(tmp_path), fastest(), keep=True)
    assert again(judge_of(space, 1.0, make_table(space), enforced=False)).provenance.measured_ms["p95_ms"] > 1
    with pytest.raises(BudgetMissed):
        again(judge_of(space, 1.0, make_table(space)))


def test_a_network_accepted_by_prediction_is_measured_by_a_search_on_the_device_itself(
    space, make_table, clock, tmp_path
):
    save_history(tmp_path, 30.0, False, [entry(random_mixing(space))])
    again = partial(derive_from_search, str(tmp_path), fastest(), keep=True)
    table = make_table(space)
    assert again(judge_of(space, 30.0, replace(table, foreign=True))).provenance.measured_ms is None
    assert again(judge_of(space, 30.0, table)).provenance.measured_ms is not None


def test_the_step_derive_measures_again(space, make_table, clock, tmp_path):
    save_history(tmp_path, 30.0, False, [entry(random_mixing(space))])
    again = partial(derive_from_search, str(tmp_path), fastest(), judge_of(space, 30.0, make_table(space)))
    again()
    measured = len(clock)
    again()
    assert len(clock) > measured


def test_deriving_from_a_one_shot_search_is_refused_with_an_action(space, make_table, tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "one_shot.json").write_text("{}")
    with pytest.raises(CineError, match="with another --budget_ms"):
        derive_from_search(str(tmp_path), fastest(), judge_of(space, 50.0, make_table(space)))


def test_a_missing_search_is_reported(space, make_table, tmp_path):
    with pytest.raises(CineError, match="Run the step search first"):
        derive_from_search(str(tmp_path), fastest(), judge_of(space, "auto", make_table(space)))


@pytest.mark.parametrize("budget", [0, -3.0, "fast", None, True, float("nan")])
def test_an_invalid_budget_is_refused(budget):
    with pytest.raises(CineError, match=r"^budget_ms: found"):
        Constraint(budget)


@pytest.mark.parametrize("rate", [0, "fast", "auto"])
def test_an_invalid_throughput_is_refused(rate):
    with pytest.raises(CineError, match=r"^volumes_per_second: found"):
        Constraint(50.0, rate)


def entry(mixing):
    return {"epoch": 1, "latency_ms": 1.0, "entropy": {}, "parameter_free_share": {}, "mixing": mixing.to_lists()}


def foreign(table):
    device = {"kind": "cuda", "name": "the scanner's GPU", "units": 80, "driver": "12.9"}
    return replace(table, foreign=True, device=device, runtime={"backend": "cuda_graph"})


def test_a_foreign_table_gives_predictions_that_are_marked(space, make_table, clock):
    """Every entry is 1 ms: a cell of one node takes 2, so the budget decides without a measurement."""
    table = foreign(make_table(space))
    architecture = derive_within_budget(random_mixing(space), fastest(), judge_of(space, 30.0, table))
    assert not clock  # nothing was measured
    provenance = architecture.provenance
    assert provenance.verdict == "predicted, not measured"
    assert provenance.measured_ms is None
    assert provenance.device["name"] == "the scanner's GPU"
    assert table.predict(architecture) <= 30
    with pytest.raises(BudgetMissed, match="single path"):
        derive_within_budget(random_mixing(space), fastest(), judge_of(space, 3.0, table))


def test_verify_measures_a_predicted_network(space, make_table, runtime, clock, tmp_path):
    file = str(tmp_path / "architecture.json")
    derive_within_budget(random_mixing(space), fastest(), judge_of(space, 30.0, foreign(make_table(space)))).save(file)
    verified = verify(file, runtime)
    assert Architecture.load(file) == verified
    cells = len(verified.union)
    assert verified.provenance.verdict == "measured"
    assert verified.provenance.measured_ms["median_ms"] == cells
    assert verified.provenance.device["kind"] == "cpu"
    assert verified.provenance.predicted_ms > 0  # the prediction stays


def test_verify_updates_the_manifest(space, make_table, runtime, clock, tmp_path):
    file = tmp_path / "architecture.json"
    derive_within_budget(random_mixing(space), fastest(), judge_of(space, 30.0, foreign(make_table(space)))).save(file)
    for name in ("model.pt", "model.json"):
        (tmp_path / name).write_text("trained")
    manifest.write(tmp_path)
    verify(str(file), runtime)
    manifest.verify(tmp_path)


def test_verify_refuses_a_network_that_is_too_slow_here_and_keeps_the_file(space, make_table, runtime, clock, tmp_path):
    file = tmp_path / "architecture.json"
    derive_within_budget(random_mixing(space), fastest(), judge_of(space, 30.0, foreign(make_table(space)))).save(file)
    before = file.read_bytes()
    with pytest.raises(BudgetMissed, match="run profile and derive on this device") as caught:
        verify(str(file), runtime, budget_ms=5.0)
    assert "at most 5.0 ms and at least 22.0 volumes a second" in str(caught.value)
    assert file.read_bytes() == before


def test_without_the_last_resort_at_least_three_paths_are_tried(space, make_table, clock):
    with pytest.raises(BudgetMissed) as caught:
        derive_within_budget(
            random_mixing(space), fastest(), judge_of(space, 7.0, make_table(space)), last_resort=False
        )
    tried = clock[:-1]  # the last one is the fastest single path, for the message
    assert min(len(a.paths) for a in tried) == 3
    assert caught.value.excess == pytest.approx(min(1.1 * len(a.union) / 7 for a in tried))


def test_a_busy_hour_does_not_refuse_a_network_and_its_latency_is_reported(space, make_table, monkeypatch, caplog):
    """10 ms in the fast state, up to 90 over all visits of this hour."""
    fast, met = Timing(10.0, 10.0, 11.0, 0.0, 9), Timing(40.0, 50.0, 90.0, 30.0, 30)
    monkeypatch.setattr(judging, "measure_network", lambda *_, **__: Measured(fast, met, 10, 3, 1.5))
    found = derive_within_budget(random_mixing(space), fastest(), judge_of(space, 50.0, make_table(space)))
    assert (found.provenance.measured_ms["p95_ms"], found.provenance.met_ms["p95_ms"]) == (11.0, 90.0)
    assert "the device is slower now (p50 40.0 ms, p95 90.0, 3 of 10 visits" in caplog.text


def test_all_visits_are_used_if_the_device_was_never_fast(space, make_table, monkeypatch, caplog):
    met = Timing(40.0, 41.0, 60.0, 1.0, 30)
    monkeypatch.setattr(judging, "measure_network", lambda *_, **__: Measured(None, met, 10, 0, 1.5))
    with pytest.raises(BudgetMissed):
        derive_within_budget(random_mixing(space), fastest(), judge_of(space, 50.0, make_table(space)))
    derive_within_budget(random_mixing(space), fastest(), judge_of(space, 70.0, make_table(space)))
    assert "never in its fast state" in caplog.text


def test_the_reference_latency_is_stored_with_the_network(space, make_table, monkeypatch):
    known = []
    once = Timing.of([10.0])
    monkeypatch.setattr(
        judging,
        "measure_network",
        lambda *_, reference_ms: known.append(reference_ms) or Measured(once, once, 9, 9, 1.5),
    )
    table = replace(make_table(space), calibration={"reference_ms": 1.25})
    provenance = derive_within_budget(random_mixing(space), fastest(), judge_of(space, 50.0, table)).provenance
    assert set(known) == {1.25} and provenance.fast_reference_ms == 1.5


@pytest.mark.parametrize(("now_ms", "said"), [(1.2, False), (1.0, True)])
def test_a_table_from_a_slower_state_is_reported(space, make_table, monkeypatch, caplog, now_ms, said):
    once = Timing.of([10.0])
    monkeypatch.setattr(judging, "measure_network", lambda *_, **__: Measured(once, once, 9, 9, now_ms))
    table = replace(make_table(space), calibration={"reference_ms": 1.25})
    derive_within_budget(random_mixing(space), fastest(), judge_of(space, 50.0, table))
    assert ("1.25 times as fast as when it was profiled" in caplog.text) is said


@pytest.mark.parametrize(("budget", "rate"), [(0, None), ("auto", None), (None, 0), ("abc", None)])
def test_verify_accepts_only_numbers(space, make_table, runtime, clock, tmp_path, budget, rate):
    file = str(tmp_path / "architecture.json")
    derive_within_budget(random_mixing(space), fastest(), judge_of(space, 30.0, make_table(space))).save(file)
    with pytest.raises(CineError):
        verify(file, runtime, budget, rate)
