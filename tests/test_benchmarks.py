"""Run benchmarks from their options to their figures, in this process and at minimal size; the figures have no meaning.

``derivation``, ``equal_time`` and ``search_quality`` need a search and trainings, ``interrupt`` kills whole processes,
``latency_model`` ranks many timed networks, and ``exports`` takes half a minute for the same as
runtime/test_exports.py. For these, test_documents.py checks that they start.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from documents import ROOT, load_benchmark
from scipy import ndimage
from tiny_exams import write_exams

from scripts.space.network import CineNet
from scripts.train import checkpoint

SPACE = {"_target_": "scripts.space.space.Space", "layers": 6, "scales": 4, "nodes": 2, "channels": 4, "stem_stride": 2}
SMALL = {
    "space": {**SPACE, "deployment_size": [48, 16, 4]},
    **{"search_channels": 4, "search_patch_size": [48, 32, 4], "search_batch_size": 1, "partial_channels": 1},
}
STEP = {**SMALL, "space": {**SPACE, "layers": 4, "scales": 3, "deployment_size": [48, 16, 4]}}
ONE_SHOT = {
    "space": {
        **SPACE,
        **{"layers": 2, "scales": 2, "nodes": 1, "operations": ["identity", "conv_3x3x3"]},
        **{"start": "any", "end": "any", "join": "mean", "share_cells": False, "deployment_size": [16, 16, 4]},
    },
    **{"search_channels": 4, "search_patch_size": [16, 16, 4], "search_batch_size": 1, "partial_channels": 1},
    **{"num_workers": 0, "folds": 2},
}
PLAIN = ["--backend", "eager", "--precision", "float32"]


def once(module, **constants):
    """Sizes and durations that make a run short."""
    return [(module, name, value) for name, value in constants.items()]


# name -> options, overlay over all configurations, and values to reduce in the module
RUNS = {
    "one_shot": (["--epochs", "2", *PLAIN], ONE_SHOT, lambda m: once(m, ROWS={"none": "one-shot"}, ARCHITECTURES=2)),
    "robustness": (
        ["--mutations", "1", "--commands", "0"],
        {},
        lambda m: once(m, named_cases=lambda voxels: [("as it was", m.nifti(voxels), True)], real_volume=volume),
    ),
    "runtime": (
        ["--baselines", *PLAIN],
        SMALL,
        lambda m: once(m, ROUNDS=1, SECONDS=0.001, SIZES=((48, 16, 4),), BACKENDS=["eager"]),
    ),
    "step_profile": (["--rounds", "1"], STEP, lambda m: []),
    "serve": (
        ["--work_dir", "model", "--input", "cine.nii.gz", "--seconds", "0.2", *PLAIN],
        {},
        lambda m: [],
    ),
    "stream": (
        ["--model_dir", "model", "--input", "cine.nii.gz", "--seconds", "0.2", *PLAIN],
        {},
        lambda m: [],
    ),
    "supernet": (["--sizes", "demo", "--rounds", "1"], STEP, lambda m: once(m, peak_mib=lambda *_, **__: 1.0)),
}


def volume() -> np.ndarray:
    """Smooth labels, since masks in many pieces would be slow to draw."""
    noise = np.random.default_rng(0).random((48, 48, 6))
    return (1e5 * ndimage.gaussian_filter(noise, 5)).astype(np.int16)


@pytest.fixture
def place(architecture, tmp_path, monkeypatch) -> Path:
    """A folder with a small network, a cine and exams; changes of the process by a benchmark are undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ACDC_DIR", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    handler = signal.getsignal(signal.SIGTERM)
    architecture.save(tmp_path / "model" / "architecture.json")
    checkpoint.save(tmp_path / "model" / "model.pt", CineNet(architecture).state_dict())
    image = nib.Nifti1Image(np.stack([volume()] * 2, axis=-1), np.diag([-1.5, -1.5, 8, 1]))
    nib.save(image, tmp_path / "cine.nii.gz")
    with warnings.catch_warnings():
        yield tmp_path
    logging.disable(logging.NOTSET)
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_gives_its_figures(name, place, monkeypatch):
    options, overlay, small = RUNS[name]
    module = load_benchmark(ROOT / "benchmarks" / f"{name}.py", [*options, "--json", "figures.json"], monkeypatch)
    for part, attribute, value in small(module):
        monkeypatch.setattr(part, attribute, value)
    over = {**overlay, **({"datalist": str(write_exams(place))} if overlay is ONE_SHOT else {})}
    (place / "over.json").write_text(json.dumps(over))
    config_files = sys.modules["shared"].config_files
    monkeypatch.setattr(sys.modules["shared"], "config_files", lambda *names: [*config_files(*names), "over.json"])
    module.main()
    figures = json.loads((place / "figures.json").read_text())
    assert figures and "NaN" not in json.dumps(figures)
    if name == "robustness":
        assert figures["escaped"] == 0 and figures["right"] >= 1
