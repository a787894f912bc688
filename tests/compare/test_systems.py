"""Every other search by its own overlays, end to end: search, derive, train, evaluate, draw."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from comparing import command
from test_commands import TINY

from scripts.exams.phantom import write_phantom
from scripts.space.architecture import Architecture

SMALL = {"space#layers": 3, "space#channels": 4, "space#deployment_size": [64, 64, 6]}
ONE_SHOT = {"search_epochs": 3, "annealing_epochs": 1, "candidates": 4, "fine_tuned": 2, "fine_tune_steps": 2}
COMPARISON = {
    "overlays": ["tiny.json"],
    "overrides": {"train_epochs": 1},
    "backend": "eager",
    "budget_ms": 5000.0,
    "volumes_per_second": 0.1,
    "searches": [
        {"name": "hw", "configs": ["hw_nas"], "overlays": ["hw_nas_demo", "small.json"]},
        {"name": "ms", "configs": ["ms_nas"], "overlays": ["ms_nas_demo", "small.json"]},
        {
            "name": "hyper",
            "configs": ["hypersegnas"],
            "overlays": ["hypersegnas_demo", "small.json"],
            "overrides": ONE_SHOT,
        },
    ],
    "networks": [
        {"name": "HW-NAS", "system": "HW-NAS", "search": "hw", "derive": {"paths": 1}},
        {"name": "MS-NAS", "system": "MS-NAS", "search": "ms"},
        {"name": "HyperSegNAS", "system": "HyperSegNAS", "search": "hyper"},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("systems")
    write_phantom(folder / "acdc", patients=6)
    tiny = {key: value for key, value in TINY.items() if key != "paths"}
    files = {"tiny": tiny, "small": SMALL, "compare_tiny": COMPARISON}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    done = subprocess.run(command(folder), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "work"


@pytest.mark.parametrize(
    ("name", "search", "paths", "figures"),
    [
        ("hw_nas", "hw", 1, {"trellis", "cells", "evolution", "curves", "latency"}),
        ("ms_nas", "ms", 4, {"trellis", "cells", "evolution", "curves", "latency"}),
        ("hypersegnas", "hyper", None, {"trellis", "curves", "candidates", "latency"}),
    ],
)
def test_a_system_gives_a_trained_and_evaluated_network_with_figures(folder, name, search, paths, figures):
    network = folder / "networks" / name
    architecture = Architecture.load(network / "architecture.json")
    assert paths in (None, len(architecture.paths))
    assert architecture.space.skip == (name != "hypersegnas")
    assert architecture.space.share_cells == (name != "hypersegnas")
    assert architecture.provenance.measured_ms["p95_ms"] > 0
    assert json.loads((network / "metrics.json").read_text())["dice"]["mean"]["count"] > 0
    assert {path.stem for path in (folder / "searches" / search / "figures").iterdir()} == figures
    rows = json.loads((folder / "comparison.json").read_text())["networks"]
    row = next(row for row in rows if row["name"].lower().replace("-", "_") == name)
    assert row["predicted_ms"] > 0 and row["parameters"] > 0


def test_two_searches_of_one_space_share_their_latency_table(folder):
    assert len(list(folder.glob("latency_*.json"))) == 2
