from __future__ import annotations

import json
import signal

import pytest
import torch
from conftest import table_of
from identical import identical
from small_search import SPACE, discrete_search, small_search

from scripts.core.errors import CineError
from scripts.latency.expectation import LatencyExpectation
from scripts.search.history import load_history
from scripts.space.supernet import Supernet
from scripts.space.trellis import cells_of


@pytest.fixture
def space():
    return SPACE


@pytest.fixture
def build(tmp_path):
    """``build(**changes)`` makes a small search in which all randomness comes from its seed."""
    return lambda work_dir=tmp_path, **changes: small_search(work_dir, **changes)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_neither_step_touches_the_other_s_parameters(build):
    searcher = build()
    batch = next(iter(searcher.weights.loader))
    weights, architecture = state(searcher.supernet), state(searcher.relaxation)
    searcher.weight_step(batch)
    assert same(architecture, state(searcher.relaxation))
    assert not same(weights, state(searcher.supernet))
    weights = state(searcher.supernet)
    searcher.architecture_step(batch, list(searcher.supernet.space.trellis.paths()), 1.0)
    assert same(weights, state(searcher.supernet))
    assert not same(architecture, state(searcher.relaxation))
    assert all(parameter.requires_grad for parameter in searcher.supernet.parameters())


def test_the_optimisers_are_disjoint_and_complete(build):
    searcher = build()

    def held(optimizer):
        return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}

    weights, architecture = held(searcher.weight_optimizer), held(searcher.architecture_optimizer)
    assert weights == {id(parameter) for parameter in searcher.supernet.parameters()}
    assert architecture == {id(parameter) for parameter in searcher.relaxation.parameters()}
    assert not weights & architecture


def test_warm_up_does_not_change_the_architecture(build):
    searcher = build(epochs=2, warm_up_epochs=1)
    searcher.run()
    first, second = searcher.history
    assert first["accuracy_loss"] is None
    assert first["entropy"] == pytest.approx({"contracting": 1, "non_scaling": 1, "expanding": 1, "beta": 1})
    assert second["accuracy_loss"] > 0
    assert second["entropy"]["non_scaling"] < 1


def test_the_weight_loss_falls(build):
    searcher = build(epochs=12)
    searcher.run()
    assert searcher.history[-1]["weight_loss"] < searcher.history[0]["weight_loss"]


class Interrupted(Exception):
    pass


def test_a_resumed_search_equals_an_uninterrupted_one(build, tmp_path):
    whole = build(tmp_path / "whole")
    whole.run()

    broken = build(tmp_path / "broken")
    broken_step, steps = broken.weight_step, iter(range(7))

    def step(batch):  # stops in the middle of the third epoch
        if next(steps, None) is None:
            raise Interrupted
        return broken_step(batch)

    broken.weight_step = step
    with pytest.raises(Interrupted):
        broken.run()
    resumed = build(tmp_path / "broken")
    resumed.run()
    assert same(state(whole.supernet), state(resumed.supernet))
    assert same(state(whole.relaxation), state(resumed.relaxation))
    assert load_history(tmp_path / "whole") == load_history(tmp_path / "broken")


@pytest.mark.parametrize(
    ("build", "step"),
    [(small_search, 5), (small_search, 6), (small_search, 8), (discrete_search, 5), (discrete_search, 8)],
)
def test_a_search_ended_by_a_signal_saves_its_last_step(build, tmp_path, step):
    whole = build(tmp_path / "whole")
    whole.run()
    broken = build(tmp_path / "broken")
    broken_step, steps = broken.weight_step, iter(range(1, 13))

    def weight_step(batch):
        if next(steps) == step:
            signal.raise_signal(signal.SIGINT)
        return broken_step(batch)

    broken.weight_step = weight_step
    with pytest.raises(KeyboardInterrupt, match="The same command continues from there"):
        broken.run()
    resumed = build(tmp_path / "broken")
    counted, resumed_step = [], resumed.weight_step
    resumed.weight_step = lambda batch: counted.append(1) or resumed_step(batch)
    resumed.run()
    assert len(counted) == 12 - step
    assert load_history(tmp_path / "whole") == load_history(tmp_path / "broken")
    files = [tmp_path / name / "search" / "checkpoint.pt" for name in ("whole", "broken")]
    whole_state, resumed_state = (torch.load(file, weights_only=True) for file in files)
    assert identical(resumed_state, whole_state)


def test_an_out_of_memory_error_names_shape_and_key(build):
    searcher = build(identity={"search_batch_size": 3, "search_patch_size": [8, 8, 2]})
    searcher.weight_step = lambda batch: torch.empty(2**60)
    with pytest.raises(CineError, match="search_batch_size") as caught:
        searcher.run()
    assert "a step on 3 patches of [8, 8, 2]: found not enough memory" in str(caught.value)


def test_the_same_seed_gives_the_same_search_and_another_does_not(build, tmp_path):
    runs = [build(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for searcher in runs:
        searcher.run()
    first, again, other = (state(searcher.relaxation) for searcher in runs)
    assert same(first, again)
    assert not same(first, other)


def test_initial_weights_depend_only_on_the_seed(build, tmp_path, space):
    first = build(tmp_path / "a")
    torch.rand(100)
    second, other = build(tmp_path / "b", supernet=Supernet(space, partial=2)), build(tmp_path / "c", seed=1)
    assert same(state(first.supernet), state(second.supernet))
    assert not same(state(first.supernet), state(other.supernet))


def test_a_finished_search_is_not_run_again(build):
    build().run()
    finished = build()
    finished.weight_step = lambda batch: pytest.fail("searched again")
    finished.run()


def test_resuming_under_another_configuration_is_refused(build):
    build().run()
    with pytest.raises(CineError, match="a checkpoint with epochs = 4; expected 5") as caught:
        build(epochs=5).run()
    assert "choose another work_dir" in str(caught.value)
    with pytest.raises(CineError, match="exams"):
        build(identity={"exams": ["a.nii.gz"]}).run()


def test_a_non_finite_loss_stops_before_the_step(build):
    searcher = build(weights={"loss": lambda logits, label: logits.sum() * float("nan")})
    before = state(searcher.supernet)
    with pytest.raises(CineError, match="epoch 1, step 1: weight loss: found nan"):
        searcher.run()
    assert same(before, state(searcher.supernet))


@pytest.mark.parametrize(
    ("budget_ms", "cause"),
    [
        (5.0, "The budget of 5.0 ms (latency weighs 0.1) outweighs accuracy"),
        (500.0, "leaves room in the budget of 500.0 ms. So operations without weights lead"),
    ],
)
def test_collapse_to_operations_without_parameters_is_reported(build, caplog, budget_ms, cause):
    searcher = build(budget_ms=budget_ms)
    identity = searcher.supernet.space.operations.index("identity")
    with torch.no_grad():
        searcher.relaxation.alpha["expanding_1"][0, identity] = 50
    searcher.run()
    assert "Every node of the expanding cells" in caplog.text
    assert cause in caplog.text


def test_a_resumed_search_needs_the_same_latency_table(build, space, make_table):
    build().run()
    dearer = LatencyExpectation(make_table(space, lambda name, scale: 2.0), space)
    with pytest.raises(CineError, match="latency_table_sha256"):
        build(expectation=dearer).run()


def test_a_batch_larger_than_a_half_is_refused(build):
    with pytest.raises(CineError, match="no batch in the architecture half"):
        build(architecture={"loader": []})


def test_warm_up_must_leave_epochs(build):
    with pytest.raises(CineError, match="warm_up_epochs"):
        build(warm_up_epochs=4)


def test_a_restarted_search_is_a_new_one_under_its_budget(build, tmp_path):
    searcher = build(tmp_path / "rounds")
    searcher.run()
    first = searcher.history
    searcher.restart(2.0)
    assert (searcher.round, searcher.aim_ms, searcher.history) == (2, 2.0, [])
    searcher.run()
    fresh = build(tmp_path / "fresh", budget_ms=2.0)
    fresh.run()
    assert searcher.history == fresh.history != first
    assert same(state(searcher.supernet), state(fresh.supernet))
    kept = json.loads((tmp_path / "rounds" / "search" / "history_round1.json").read_text())
    assert kept["epochs"] == first
    assert load_history(tmp_path / "rounds")["budget_ms"] == 2.0


def test_a_killed_search_resumes_in_its_round(build, tmp_path):
    whole = build(tmp_path / "whole")
    whole.run()
    whole.restart(2.0)
    whole.run()
    searcher = build(tmp_path / "killed")
    searcher.run()
    searcher.restart(2.0)  # killed before the second round's first epoch
    resumed = build(tmp_path / "killed")
    resumed.run()
    assert (resumed.round, resumed.aim_ms) == (2, 2.0)
    assert resumed.history == whole.history


def test_a_discrete_step_moves_only_cells_of_the_network_that_it_drew(tmp_path):
    searcher = discrete_search(tmp_path, expectation=LatencyExpectation(table_of(SPACE), SPACE, count=1))
    before = state(searcher.supernet)
    searcher.weight_step(next(iter(searcher.weights.loader)))
    after = state(searcher.supernet)
    moved = {name.split(".")[1] for name in before if "cells." in name and not torch.equal(before[name], after[name])}
    assert len(moved) <= SPACE.layers, "one path has one cell a layer"
    assert any(moved <= {cell.name for cell in cells_of(path)} for path in SPACE.trellis.paths())


def test_the_history_contains_the_multiplier(tmp_path):
    searcher = discrete_search(tmp_path)
    searcher.run()
    weights = [entry["penalty_weight"] for entry in searcher.history]
    assert weights[0] == 0 and weights[-1] == searcher.objective.weight_at(1.0) != 0


@pytest.mark.parametrize(
    ("budget_ms", "said"),
    [(500.0, "All networks are below the budget"), (7.0, None), (4.0, "All networks are above the budget")],
)
def test_a_budget_outside_the_space_is_reported(tmp_path, caplog, budget_ms, said):
    """One path takes 6 ms, and the union of two paths up to 10."""
    discrete_search(tmp_path, budget_ms=budget_ms, epochs=2).run()
    assert said in caplog.text if said else "All networks" not in caplog.text
