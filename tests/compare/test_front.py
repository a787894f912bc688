from __future__ import annotations

import json

import pytest

from scripts.compare import front
from scripts.compare.front import folder_of, load_front, search_front
from scripts.core.errors import CineError
from scripts.report.front_figure import evaluated, front_figure, report_front

FILES, CHANGED = ["search.json", "front.json"], {"budgets": [20.0, 10.0], "seed": 3, "work_dir": "elsewhere"}


@pytest.fixture
def searched(monkeypatch, architecture):
    """Each search finds a network with 0.9 of its budget; returns the steps that ran."""
    steps = []

    def run_step(step):
        steps.append(step)
        step.write_settings()
        ms = 0.9 * step.settings["budget_ms"]
        architecture.with_provenance(
            predicted_ms=0.8 * ms, measured_ms={"median_ms": 0.95 * ms, "p95_ms": ms}, fine_tuned_dice=0.5 + ms / 100
        ).save(step.output)
        return True

    monkeypatch.setattr(front, "files_and_settings", lambda: (list(FILES), dict(CHANGED)))
    monkeypatch.setattr(front, "run_step", run_step)
    return steps


def test_each_budget_runs_the_step_search_in_its_own_folder(searched, tmp_path):
    search_front(str(tmp_path), [20.0, 10.0], "one/latency.json")
    assert [(step.step, step.folder.name) for step in searched] == [("search", "budget_10"), ("search", "budget_20")]
    settings = json.loads((folder_of(tmp_path, 10.0) / "settings_search.json").read_text())
    assert settings == {
        "work_dir": str(tmp_path / "budget_10"),
        "budget_ms": 10.0,
        "latency_file": "one/latency.json",
        "seed": 3,
    }
    assert all(step.files == tuple(FILES) for step in searched)


def test_the_front_lists_the_network_of_each_search(searched, tmp_path):
    search_front(str(tmp_path), [10.0, 20.0], "latency.json")
    found = load_front(tmp_path)
    assert [entry["budget_ms"] for entry in found] == [10.0, 20.0]
    assert [entry["measured_ms"]["p95_ms"] for entry in found] == [9.0, 18.0]
    assert [entry["fine_tuned_dice"] for entry in found] == pytest.approx([0.59, 0.68])


def test_the_figure_shows_budgets_latencies_and_dice(searched, tmp_path):
    search_front(str(tmp_path), [10.0, 20.0], "latency.json")
    report_front(str(tmp_path))
    assert (tmp_path / "figures" / "front.png").stat().st_size > 0
    axes = front_figure(load_front(tmp_path)).axes[0]
    budgets = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert budgets == [10.0, 20.0]
    points = [tuple(collection.get_offsets()[0]) for collection in axes.collections]
    assert points == [pytest.approx((0.95 * 9, 0.59)), pytest.approx((0.95 * 18, 0.68))]
    assert "shared weights" in axes.get_ylabel()


def test_dice_on_unseen_exams_is_shown_if_all_networks_are_evaluated(searched, tmp_path):
    search_front(str(tmp_path), [10.0, 20.0], "latency.json")
    networks = load_front(tmp_path)
    for number, network in enumerate(networks):
        assert evaluated(tmp_path, networks) is None
        metrics = {"dice": {"mean": {"mean": 0.8 + number / 100}}}
        (tmp_path / network["folder"] / "metrics.json").write_text(json.dumps(metrics))
    assert evaluated(tmp_path, networks) == [0.8, 0.81]
    assert "unseen" in front_figure(networks, evaluated(tmp_path, networks)).axes[0].get_ylabel()


def test_a_missing_front_is_reported(tmp_path):
    with pytest.raises(CineError, match="Run the step front"):
        load_front(tmp_path)
