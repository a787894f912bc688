"""The command on a phantom of six patients: stopped, resumed and repeated, with one network that fails."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from comparing import command
from test_commands import TINY

from scripts.exams.phantom import write_phantom
from scripts.space.architecture import Architecture

OVERLAY = {
    "overlays": ["tiny.json"],
    "overrides": {"train_epochs": 2},
    "backend": "eager",
    # generous limits, which a busy machine can meet
    "budget_ms": 5000.0,
    "volumes_per_second": 0.1,
    "searches": [{"name": "rt"}],
    "networks": [
        {
            "name": "genetic",
            "system": "RT-DNAS",
            "search": "rt",
            "derive": {"paths": 3, "method": "genetic", "fitness": "latency"},
        },
        {
            "name": "dijkstra",
            "system": "RT-DNAS",
            "search": "rt",
            "derive": {"paths": 2, "method": "dijkstra", "fitness": "latency"},
        },
        {"name": "lost", "system": "other", "architecture": "nowhere.json"},
        {"name": "random 1", "system": "random", "search": "rt", "random": 1},
    ],
}
TRAINED = ("genetic", "dijkstra", "random_1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    write_phantom(folder / "acdc", patients=6)
    (folder / "tiny.json").write_text(json.dumps(TINY))
    (folder / "compare_tiny.json").write_text(json.dumps(OVERLAY))
    return folder


def written(folder: Path) -> dict[str, int]:
    files = [folder / "work" / "costs.json", folder / "work" / "searches" / "rt" / "architecture.json"]
    files += [folder / "work" / "networks" / name / "model.pt" for name in TRAINED]
    return {str(file): file.stat().st_mtime_ns for file in files}


def test_a_stopped_comparison_continues_and_keeps_completed_steps(folder):
    work = folder / "work"
    process = subprocess.Popen(command(folder), cwd=folder, stderr=subprocess.PIPE, text=True)
    log = work / "searches" / "rt" / "log.txt"
    while not (log.exists() and "search: " in log.read_text()):  # the search itself has begun, or has ended
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 130, said[-3000:]
    assert "The same command continues from there" in said and "Traceback" not in said
    assert not (work / "comparison.json").exists()

    done = subprocess.run(command(folder), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "1 failed searches and networks" in done.stderr and "\n- lost: nowhere.json" in done.stderr
    assert "Traceback" not in done.stderr
    before = written(folder)

    again = subprocess.run(command(folder), cwd=folder, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert written(folder) == before

    wrong = {"overrides": {"train_epocs": 3}}
    refused = subprocess.run(command(folder, **wrong), cwd=folder, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "Did you mean train_epochs?" in refused.stderr
    assert written(folder) == before

    rows = {row["name"]: row for row in json.loads((work / "comparison.json").read_text())["networks"]}
    assert [(rows[name]["method"], rows[name]["paths"]) for name in ("genetic", "dijkstra")] == [
        ("genetic", 3),
        ("dijkstra", 2),
    ]
    for name in ("genetic", "dijkstra", "random 1"):
        row = rows[name]
        assert 0 <= row["dice"]["mean"]["mean"] <= 1
        assert row["median_ms"] > 0 and row["predicted_ms"] > 0 and row["flops"] > 0
        assert (row["kept"], row["seen"], row["failure"]) == (True, False, None)
    assert "nowhere.json" in rows["lost"]["failure"]
    assert len(Architecture.load(work / "networks" / "dijkstra" / "architecture.json").paths) == 2
    with open(work / "comparison.csv") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["genetic", "dijkstra", "lost", "random 1"]
    text = (work / "comparison.md").read_text()
    assert "## Derivations of the search rt" in text and "## Failed" in text
    assert (work / "figures" / "scatter.png").stat().st_size > 10_000
    steps = json.loads((work / "run.json").read_text())["steps"]
    assert "comparison.csv" in steps["compare"]["outputs"]
