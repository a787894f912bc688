"""Steps as processes, with a stand-in for MONAI's command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from comparing import HISTORY

from scripts import BUNDLE_ROOT
from scripts.compare import steps
from scripts.compare.plan import Step
from scripts.compare.steps import name_failures, run_plan, run_step
from scripts.core.errors import CineError
from scripts.space.architecture import Architecture


@pytest.fixture
def step(tmp_path) -> Step:
    (tmp_path / "base.json").write_text("{}")
    (tmp_path / "input").write_text("1")
    return Step(
        "train", "a", tmp_path, (str(tmp_path / "base.json"),), {"x": 1}, (tmp_path / "input",), tmp_path / "out"
    )


@pytest.fixture
def ran(monkeypatch, step) -> list[str]:
    """The list of runs, by a command that writes the output."""
    ran: list[str] = []

    def execute(command, log):
        ran.append(command[4])
        step.output.write_text("done")
        return 0, ""

    monkeypatch.setattr(steps, "_execute", execute)
    return ran


def test_a_step_runs_only_once(step, ran):
    assert run_step(step) and not run_step(step)
    assert ran == ["train"]


@pytest.mark.parametrize("name", ["input", "base.json", "out"])
def test_a_step_runs_again_if_its_input_configuration_or_output_changed(step, ran, name):
    step = replace(step, step="evaluate")
    run_step(step)
    if name == "out":
        step.output.unlink()
    else:
        (step.folder / name).write_text('{"y": 2}')
    assert run_step(step) and not run_step(step)


@pytest.mark.parametrize("name", ["input", "base.json"])
def test_a_training_with_other_settings_or_another_network_is_not_reused(step, ran, name):
    run_step(step)
    (step.folder / name).write_text('{"y": 2}')
    with pytest.raises(CineError, match=rf"a training with other settings.*delete {step.folder}"):
        run_step(step)
    assert ran == ["train"]


def test_other_settings_of_a_training_are_refused_before_anything_runs(make_plan, monkeypatch):
    trained = next(step for step in make_plan().steps if step.step == "train")
    monkeypatch.setattr(steps, "_execute", lambda command, log: (0, ""))
    for path in trained.inputs:
        path.write_text("{}")
    run_step(trained)
    monkeypatch.setattr(steps, "run_step", lambda step: pytest.fail("ran"))
    with pytest.raises(CineError, match=r"genetic in .*a training with other settings"):
        run_plan(make_plan(overrides={"train_epochs": 3}))


def test_a_failed_step_is_reported_with_its_last_lines_and_runs_again(step, monkeypatch):
    monkeypatch.setattr(steps, "_execute", lambda command, log: (2, "Error: no exams."))
    for _ in range(2):
        with pytest.raises(
            CineError, match=r"the step train with exit code 2 and the message: Error: no exams; expected"
        ) as error:
            run_step(step)
    assert str(step.folder / "log.txt") in str(error.value)


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        ("print('fine')", 0, "fine"),
        ("print('on its way')\nraise SystemExit('Error: found this\\nand that')", 1, "Error: found this and that"),
        ("print('\\n'.join(map(str, range(9))) + '\\r10%\\r99%'); exit(3)", 3, "4 5 6 7 99%"),
    ],
)
def test_the_log_keeps_all_output_and_the_last_lines_are_reported(tmp_path, program, code, said):
    log = tmp_path / "log.txt"
    log.write_text("Error: of yesterday\n")
    assert steps._execute([sys.executable, "-c", program], log) == (code, said)
    assert log.read_text().startswith("Error: of yesterday\n$ [")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such signal")
def test_a_step_stops_when_the_comparison_is_killed(tmp_path):
    step = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('saved').touch(), sys.exit()))\n"
        "pathlib.Path('begun').touch()\n"
        "time.sleep(60)"
    )
    program = f"from scripts.compare.steps import _execute; _execute([{sys.executable!r}, '-c', {step!r}], Path('log'))"
    command = [sys.executable, "-W", "ignore", "-c", f"from pathlib import Path; {program}"]
    parent = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(BUNDLE_ROOT)})
    wait_for(tmp_path / "begun")
    parent.kill()
    parent.wait()
    wait_for(tmp_path / "saved")


def wait_for(path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"no {path}")


@pytest.fixture
def outcomes(monkeypatch, make_plan):
    """A plan whose steps only write their outputs, except those that must fail."""
    failing: set[tuple[str, str]] = set()
    ran: list[tuple[str, str]] = []

    def run(step):
        ran.append((step.owner, step.step))
        if (step.owner, step.step) in failing:
            raise CineError(step.folder, "a fault", "none", "")
        step.output.parent.mkdir(parents=True, exist_ok=True)
        step.output.write_text("{}")
        if step.step == "search":
            (step.folder / "search").mkdir(exist_ok=True)
            (step.folder / "search" / "history.json").write_text(json.dumps(HISTORY))

    monkeypatch.setattr(steps, "run_step", run)
    return make_plan(), failing, ran


def test_each_network_starts_from_its_origin(outcomes):
    plan, _, ran = outcomes
    assert run_plan(plan) == {}
    assert ran == [(step.owner, step.step) for step in plan.steps]
    genetic, _, plain, chance = plan.entries
    assert json.loads(genetic.history_file.read_text()) == HISTORY
    assert plain.architecture_file.read_text() == "{}"
    architecture = Architecture.load(chance.architecture_file)
    assert (architecture.provenance.method, architecture.provenance.seed) == ("random", 7)
    run_plan(plan)
    assert Architecture.load(chance.architecture_file) == architecture


def test_deriving_from_a_one_shot_search_is_an_error(outcomes):
    plan, _, _ = outcomes
    (search,) = plan.used_searches
    (search.folder / "search").mkdir(parents=True)
    (search.folder / "search" / "one_shot.json").write_text("{}")
    failures = run_plan(plan)
    assert list(failures) == ["genetic", "auto"]
    assert "a one-shot search (HyperSegNAS)" in failures["auto"]


def test_a_failed_network_does_not_stop_the_others(outcomes):
    plan, failing, ran = outcomes
    failing.add(("genetic", "train"))
    failures = run_plan(plan)
    assert list(failures) == ["genetic"]
    assert ("genetic", "evaluate") not in ran and ("chance", "evaluate") in ran
    with pytest.raises(CineError, match=r"1 failed searches and networks.*other 3 networks.*\n- genetic: .*a fault"):
        name_failures(plan, failures)
    name_failures(plan, {})


def test_networks_of_a_failed_search_fail_and_random_ones_continue(outcomes):
    plan, failing, _ = outcomes
    failing.add(("rt", "search"))
    failures = run_plan(plan)
    assert list(failures) == ["search rt", "genetic", "auto", "plain"]
    assert failures["plain"] == "search rt failed"
