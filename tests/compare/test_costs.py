from __future__ import annotations

import json

import numpy as np
import pytest

from scripts.compare import costs
from scripts.compare.costs import measure_costs, time_side_by_side
from scripts.latency.network import JUDGED
from scripts.latency.timer import Timing
from scripts.latency.visits import Measured
from scripts.runtime.deploy import Runtime
from scripts.space.space import Space

RUNTIME = Runtime("cpu", "float32", "eager")
EMPTY = {"states": None, "networks": {}}


def test_networks_are_timed_in_rounds_and_only_the_fast_state_counts(space, monkeypatch):
    """The device is slow in the second of the rounds; the reference shows it."""
    order: list[str] = []
    ms = {"a": 20.0, "b": 60.0, "reference": 1.0}

    def time_in_turn(calls, *_):
        (call,) = calls
        order.append(call())
        slow = 14 <= len(order) - 1 < 28  # a visit has four groups of the reference and three of the network
        return np.array([[ms[order[-1]] * (1.3 if slow else 1.0)]] * 3)

    monkeypatch.setattr("scripts.latency.visits.time_in_turn", time_in_turn)
    monkeypatch.setattr(costs, "reference_network", lambda *_: lambda: "reference")
    timed, states = time_side_by_side([lambda: "a", lambda: "b"], space, RUNTIME)
    rounds = JUDGED + 1
    assert [name for name in order if name != "reference"] == (["a"] * 3 + ["b"] * 3) * rounds
    assert [one.timing.median_ms for one in timed] == [20.0, 60.0]
    assert [one.met.p95_ms > one.timing.p95_ms for one in timed] == [True, True]
    assert states == {"reference_ms": 1.0, "fast_share": pytest.approx(1 - 1 / rounds), "slowdown": pytest.approx(1.3)}
    assert time_side_by_side([], space, RUNTIME) == ([], None)


@pytest.fixture
def plan(make_plan, architecture, space, monkeypatch):
    """Two already trained networks of an architecture, timed briefly."""
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


@pytest.mark.parametrize("fast", [True, False])
def test_networks_timed_only_in_a_slower_state_are_reported(plan, monkeypatch, caplog, fast):
    timing = Timing(2.0, 2.0, 2.0, 0.0, 5)
    measured = Measured(timing if fast else None, timing, 3, 3 * fast, 1.0)
    monkeypatch.setattr(costs, "time_side_by_side", lambda calls, *_: ([measured for _ in calls], {"fast_share": 0.5}))
    content = measure_costs(plan, {}, RUNTIME)
    assert (content["states"], content["networks"]["one"]["median_ms"]) == ({"fast_share": 0.5}, 2.0)
    assert ("one was never timed in the fast state" in caplog.text) is not fast
