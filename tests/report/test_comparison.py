from __future__ import annotations

import csv
import json
from random import Random

import pytest

from scripts.compare.plan import Plan
from scripts.report.comparison import report_comparison
from scripts.runtime.deploy import Runtime
from scripts.space.architecture import Architecture
from scripts.space.sampling import random_architecture

RUNTIME = Runtime("cpu", "float32", "eager")
STATISTICS = {"mean": 0.75, "std": 0.05, "count": 4}
COST = {"median_ms": 10.0, "p95_ms": 12.0, "mean_ms": 10.0, "volumes_per_second": 100.0, "fast_visits": 6}
COST |= {"parameters": 100, "flops": 2_000, "peak_memory": 3_000}


@pytest.fixture
def plan(tmp_path, make_table, monkeypatch) -> Plan:
    """A derived network, a random one of its search's space, and a failed one."""
    networks = [
        {"name": "derived", "system": "RT", "search": "rt", "derive": {"paths": 3}},
        {"name": "chance", "system": "random", "search": "rt", "random": 7},
        {"name": "bad", "system": "RT", "search": "rt", "derive": {"paths": 4}},
    ]
    settings = {"budget_ms": 11.0, "volumes_per_second": 22.0, "fold": 0, "folds": 5}
    plan = Plan(str(tmp_path), [{"name": "rt"}], networks, settings, overlays=["demo"])
    derived, chance, _ = plan.entries
    space = plan.space_of(derived.search)
    architecture = random_architecture(space, Random(7), paths=3)
    architecture.with_provenance(predicted_ms=9.5, method="genetic").save(derived.architecture_file)
    architecture.with_provenance(method="random").save(chance.architecture_file)
    table = make_table(space)
    monkeypatch.setattr("scripts.report.comparison.LatencyTable.load", lambda *_, **__: table)
    (tmp_path / plan.latency_file(derived.search)).write_text("{}")
    metrics = {"patients": 2, "dice": {name: {"all": STATISTICS} for name in ("RV", "MYO", "LV")}}
    metrics["dice"]["mean"] = STATISTICS
    for network in (derived, chance):
        (network.folder / "metrics.json").write_text(json.dumps(metrics))
    write_run(derived.search.folder, "search", weights=["p1"], architecture=["p2"], test=["p3", "p4"])
    write_run(derived.folder, "evaluate", train=["p1", "p2"], test=["p3", "p4"])
    return plan


def write_run(folder, step, **patients):
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": "rtdnas-run-1", "steps": {step: {"patients": patients}}}
    (folder / "run.json").write_text(json.dumps(content))


@pytest.fixture
def rows(plan, tmp_path):
    def report():
        of = {"device": {"kind": "cpu", "name": "x", "units": 1}, "deployment_size": [96, 96, 8]}
        of["runtime"] = {"backend": "eager", "dtype": "float32"}
        costs = {"of": of, "states": None, "networks": {"derived": COST, "chance": {**COST, "p95_ms": 10.5}}}
        report_comparison(plan, {"bad": "no exams"}, costs, RUNTIME)
        return {row["name"]: row for row in json.loads((tmp_path / "comparison.json").read_text())["networks"]}

    return report


def test_a_row_contains_the_results_of_the_steps(rows, plan, make_table):
    derived, chance = (rows()[name] for name in ("derived", "chance"))
    assert (derived["predicted_ms"], derived["method"], derived["paths"]) == (9.5, "genetic", 3)
    expected = make_table(plan.space_of()).predict(Architecture.load(plan.entries[1].architecture_file))
    assert chance["predicted_ms"] == expected  # from the table, since its provenance has no prediction
    assert (derived["kept"], chance["kept"]) == (False, True)  # p95 of 12 and 10.5 ms, 11 allowed
    assert derived["dice"]["LV"] == STATISTICS
    assert (derived["patients"], derived["flops"]) == (2, 2000)


def test_a_network_is_marked_if_its_search_read_scored_exams(rows, plan):
    assert (rows()["derived"]["seen"], rows()["chance"]["seen"]) == (False, False)
    write_run(plan.entries[0].search.folder, "search", weights=["p1"], architecture=["p4"], test=[])
    assert rows()["derived"]["seen"] is True
    (plan.entries[0].search.folder / "run.json").unlink()
    assert rows()["derived"]["seen"] is None


def test_files_for_spreadsheets_programs_and_people(rows, tmp_path):
    assert rows()["bad"]["failure"] == "no exams"
    with open(tmp_path / "comparison.csv") as file:
        derived, _, bad = csv.DictReader(file)
    assert (derived["name"], derived["dice_MYO_mean"], derived["dice_mean_std"]) == ("derived", "0.75", "0.05")
    assert (derived["median_ms"], derived["kept"], derived["failure"]) == ("10.0", "False", "")
    assert (bad["dice_RV_mean"], bad["median_ms"], bad["failure"]) == ("", "", "no exams")
    assert "- bad: no exams" in (tmp_path / "comparison.md").read_text()
    assert (tmp_path / "figures" / "scatter.png").stat().st_size > 10_000
