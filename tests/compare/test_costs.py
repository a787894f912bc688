from __future__ import annotations

import json

import numpy as np
import pytest

from scripts.compare import costs
from scripts.compare.costs import measure_costs, quietest, slowdown, time_side_by_side
from scripts.latency.timer import Timing
from scripts.runtime.deploy import Runtime
from scripts.space.space import Space

RUNTIME = Runtime("cpu", "float32", "eager")
EMPTY = {"slowdown": 1.0, "networks": {}}


def test_networks_take_turns_and_the_quietest_round_counts(monkeypatch):
    """Three rounds; in the second one the machine was busy."""
    order: list[str] = []
    rounds = {"a": iter([[2, 2, 5], [90, 90, 90], [1, 3, 3]]), "b": iter([[5, 7], [60, 60], [6, 6]])}

    def time_in_turn(calls, device, seconds):
        (call,) = calls
        order.append(call())
        return np.array(next(rounds[call()]), dtype=float)[:, None]

    monkeypatch.setattr(costs, "time_in_turn", time_in_turn)
    timings = time_side_by_side([lambda: "a", lambda: "b"], "cpu", rounds=3)
    assert order == ["a", "b"] * 3
    first, second = map(quietest, timings)
    assert (first.median_ms, first.mean_ms, first.runs) == (2, 3, 3)
    assert (second.median_ms, second.runs) == (6, 2)
    assert slowdown(timings) == (90 / 2 + 60 / 6) / 2
    assert slowdown([]) == 1


@pytest.fixture
def plan(make_plan, architecture, space, monkeypatch):
    """Two networks of an architecture, trained already, timed for a moment."""
    monkeypatch.setattr(costs, "SECONDS", 0.0)
    monkeypatch.setattr("scripts.compare.plan.Plan.space_of", lambda *_: space)
    architecture.save(path := make_plan().entries[0].folder.parent / "a.json")
    plan = make_plan([{"name": name, "system": "s", "architecture": str(path)} for name in ("one", "two")])
    for network in plan.entries:
        architecture.save(network.architecture_file)
        (network.folder / "model.pt").write_text("weights")
    return plan


def test_costs_are_measured_once_while_nothing_changes(plan, space: Space, monkeypatch):
    content = measure_costs(plan, {}, RUNTIME)
    assert content["of"]["deployment_size"] == list(space.deployment_size)
    one, two = content["networks"]["one"], content["networks"]["two"]
    assert all(one[key] == two[key] for key in ("parameters", "flops", "peak_memory"))
    assert one["volumes_per_second"] == 1000 / one["mean_ms"]
    file = plan.entries[0].folder.parents[1] / "costs.json"
    assert json.loads(file.read_text()) == json.loads(json.dumps(content))
    measured: list[list[str]] = []
    monkeypatch.setattr(costs, "_measure", lambda networks, *_: measured.append(list(networks)) or EMPTY)
    assert measure_costs(plan, {}, RUNTIME) == content
    assert measured == []
    (plan.entries[0].folder / "model.pt").write_text("other weights")
    measure_costs(plan, {}, RUNTIME)
    measure_costs(plan, {"one": "failed"}, RUNTIME)
    file.write_text("{")
    measure_costs(plan, {}, RUNTIME)
    assert measured == [["one", "two"], ["two"], ["one", "two"]]


def test_without_networks_there_is_nothing_to_measure(plan):
    assert measure_costs(plan, {"one": "", "two": ""}, RUNTIME)["networks"] == {}


@pytest.mark.parametrize(("speeds", "said"), [((1.0, 1.05, 1.0), False), ((1.0, 1.25, 1.1), True)])
def test_a_busy_machine_is_told_of(plan, monkeypatch, caplog, speeds, said):
    rounds = [Timing(ms, ms, ms, 0.0, 5) for ms in speeds]
    monkeypatch.setattr(costs, "time_side_by_side", lambda calls, device: [rounds for _ in calls])
    content = measure_costs(plan, {}, RUNTIME)
    assert (content["slowdown"], content["networks"]["one"]["median_ms"]) == (max(speeds), 1.0)
    assert ("took 25 % longer in the busiest round" in caplog.text) is said
