"""The tutorial runs, and what it stores is what it made."""

from __future__ import annotations

import json
import re

import nbformat
import pytest

from release.notebook import TUTORIAL, execute

# every step stays; the fastest network is one measurement, and the most accurate one would be several
SMALL = """
PATIENTS = 6
SPACE |= {"space#scales": 2, "space#nodes": 1, "space#channels": 4, "space#operations": ["conv_3x3x3", "identity"]}
SETTINGS["profile"] |= {**SPACE, "profile_seconds": 1}
SETTINGS["search"] |= {**SPACE, "search_epochs": 2, "warm_up_epochs": 1, "search_patch_size": [32, 32, 4]}
SETTINGS["search"] |= {"search_channels": 4, "fitness": "latency", "paths": 2, "budget_ms": 5000.0}
SETTINGS["search"] |= {"pool_size": 4, "generations": 2}
SETTINGS["train"] |= {"train_epochs": 2, "val_interval": 2, "patch_size": [32, 32, 4]}
"""
MAX_BYTES = 1_500_000


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """The kernel writes its results, its connection and its history here."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return tmp_path


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook) -> list[str]:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [kind for output in outputs for kind in output.get("data", {}) if kind.startswith("image/")]


def texts(notebook) -> str:
    """All text of the outputs."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "\n".join(
        [output.get("text", "") for output in outputs]
        + [output.get("data", {}).get(kind, "") for output in outputs for kind in ("text/plain", "text/markdown")]
    )


def test_the_tutorial_runs_and_gives_the_outputs_that_it_stores(own_folders):
    before = TUTORIAL.read_bytes()
    notebook, stored = execute(settings=SMALL), nbformat.read(TUTORIAL, as_version=4)
    assert TUTORIAL.read_bytes() == before
    assert pictures(notebook) == pictures(stored)
    (work,) = own_folders.glob("*/work")
    metrics = json.loads((work / "metrics.json").read_text())
    for name in ("RV", "MYO", "LV"):
        assert f"| {name} | {metrics['dice'][name]['all']['mean']:.3f} |" in texts(notebook)
    steps = json.loads((work / "run.json").read_text())["steps"]
    assert list(steps) == ["profile", "search", "train", "evaluate"]
    assert steps["search"]["config"]["search_epochs"] == 2
    assert {row for row in re.findall(r"^\| (\w+) \| [\d.]+ \|$", texts(stored), re.MULTILINE)} == {"RV", "MYO", "LV"}


def test_stored_outputs_are_whole_and_name_no_folder_of_a_machine():
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert not [o for cell in code_cells(notebook) for o in cell.outputs if o.output_type == "error"]
    assert len(pictures(notebook)) == 7
    assert TUTORIAL.stat().st_size < MAX_BYTES
    assert not re.search(r"(?<![\w./])/[\w.-]+/", texts(notebook)), "an absolute path"
