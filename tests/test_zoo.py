"""The bundle as others get it: packed, downloaded, checked like in the model zoo's CI, run, loaded.

The network is tiny and its weights are random; only the distribution of a bundle is tested.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Thread

import nibabel as nib
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from tiny_exams import write_exams

from release.pack import NAME, files_of, pack
from scripts import BUNDLE_ROOT
from scripts.core import manifest
from scripts.core.files import sha256
from scripts.space.network import CineNet
from scripts.space.sampling import random_architecture
from scripts.space.space import Space
from scripts.train import checkpoint, weights

ROOT = BUNDLE_ROOT.parent
PROJECT = (ROOT / "pyproject.toml").read_text()
METADATA = json.loads((BUNDLE_ROOT / "configs" / "metadata.json").read_text())
SPACE = Space(layers=2, scales=2, nodes=1, channels=4, stem_stride=2, deployment_size=(16, 16, 3))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def python(*arguments, cwd):
    """A separate Python, which finds only its bundle's code and leaves no caches."""
    left_out = {"PYTHONPATH", "http_proxy", "HTTP_PROXY", "META_SCHEMA"}
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-W", "ignore", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def shipped(place):
    """A bundle with a model, like a release, and its network."""
    bundle = shutil.copytree(BUNDLE_ROOT, place / "released", ignore=shutil.ignore_patterns("__pycache__"))
    torch.manual_seed(0)
    architecture = random_architecture(SPACE, Random(0), paths=2)
    network = CineNet(architecture)
    architecture.save(bundle / "models" / "architecture.json")
    checkpoint.save(bundle / "models" / "model.pt", network.state_dict())
    card = {"format": weights.FORMAT, "architecture": architecture.digest, "exams": []}
    (bundle / "models" / "model.json").write_text(json.dumps(card))
    manifest.write(bundle / "models")
    return bundle, network


@pytest.fixture(scope="module")
def downloaded(shipped, place):
    """The zip after MONAI's own command, read-only, in a folder with a space in its name."""
    path = pack(place / "dist", shipped[0])
    bundles = place / "a place" / "bundles"
    bundles.mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=path.parent))
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{path.name}"
    try:
        command = ("-m", "monai.bundle", "download", "--name", NAME, "--url", url, "--bundle_dir", bundles)
        python(*command, "--progress", "False", cwd=place)
    finally:
        server.shutdown()
        server.server_close()
    everything = [bundles / NAME, *(bundles / NAME).rglob("*")]
    for found in everything:
        found.chmod(0o555 if found.is_dir() else 0o444)
    yield bundles / NAME
    for found in everything:
        found.chmod(0o755)


def contents(bundle):
    """Every file and folder, by name. root may write anywhere, so they are compared instead of write-protected."""
    return {path.relative_to(bundle): path.is_file() and sha256(path) for path in bundle.rglob("*")}


@pytest.fixture(scope="module")
def cine(place):
    voxels = np.random.default_rng(0).random((16, 16, 3, 2), np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.5, -1.5, 8, 1])), place / "cine.nii.gz")
    return place / "cine.nii.gz"


@pytest.fixture(scope="module")
def exams(place):
    return write_exams(place)


@pytest.fixture(scope="module")
def checked(downloaded, cine, exams, place):
    """The zoo's checks, run from a separate folder that contains another search."""
    folder = place / "ci"
    folder.mkdir()
    random_architecture(SPACE, Random(1), paths=1).save(folder / "runs" / "rtdnas" / "architecture.json")
    schema = os.environ.get("META_SCHEMA")
    settings = {"schema": schema and shutil.copy(schema, folder), "datalist": str(exams), "cine": str(cine)}
    (folder / "settings.json").write_text(json.dumps(settings))
    before = contents(downloaded)
    relative = os.path.relpath(downloaded, folder)  # the form that the zoo's CI uses
    python(Path(__file__).with_name("zoo_ci.py"), relative, "settings.json", cwd=folder)
    assert contents(downloaded) == before
    return folder


def results(checked):
    return json.loads((checked / "checks.json").read_text())


def test_the_download_equals_the_release(shipped, downloaded):
    released = shipped[0]
    assert contents(downloaded) == {
        **{path.relative_to(released): sha256(path) for path in files_of(released)},
        **{
            parent: False for path in files_of(released) for parent in path.relative_to(released).parents if parent.name
        },
    }


def test_no_property_is_missing_from_a_foreign_folder(checked):
    assert results(checked)["missing"] == {"train": [], "train+evaluate": [], "inference": []}


def test_metadata_fits_monai_s_schema(checked):
    if not os.environ.get("META_SCHEMA"):
        pytest.skip("META_SCHEMA names no file: MONAI's metadata schema was not checked")
    assert "metadata" in results(checked)["passed"]


def test_inputs_and_outputs_of_the_network_match_metadata(checked):
    assert "net_in_out" in results(checked)["passed"]


def test_load_gives_the_network_with_its_weights(shipped, downloaded, checked):
    """Its own code and architecture are used, although another search is in the working directory."""
    assert (checked / results(checked)["code"]).resolve() == (downloaded / "scripts" / "space" / "network.py").resolve()
    with torch.no_grad():
        expected = shipped[1].eval()(torch.ones(1, 1, 16, 16, 3))
    assert torch.allclose(torch.load(checked / "logits.pt", weights_only=True), expected, atol=1e-6)


def test_the_export_by_the_zoo_s_script_equals_the_network(shipped, checked):
    image = torch.randn(1, 1, 21, 33, 3)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(checked / "model.ts")(image), shipped[1].eval()(image))


def test_infer_from_the_download(downloaded, cine, place):
    before = contents(downloaded)
    folder = place / "user"
    folder.mkdir()
    config = downloaded / "configs" / "inference.json"
    python("-m", "monai.bundle", "run", "infer", "--config_file", config, "--input", cine, cwd=folder)
    results = folder / "runs" / "rtdnas" / "infer"
    assert nib.load(results / "cine_seg.nii.gz").shape == (16, 16, 3, 2)
    inputs = json.loads((results / "run.json").read_text())["steps"]["infer"]["inputs"]
    assert inputs[str(downloaded / "models" / "model.pt")] == sha256(downloaded / "models" / "model.pt")
    assert contents(downloaded) == before


def test_one_version_everywhere():
    released = re.findall(r"^## (\d\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert METADATA["version"] == released[0]
    assert list(METADATA["changelog"]) == released
    assert f'\nname = "{NAME.replace("_", "-")}"\nversion = "{released[0]}"\n' in PROJECT


def test_required_packages_are_those_of_the_project_as_pinned_and_installed():
    block = re.search(r"^dependencies = (\[.*?^\])", PROJECT, re.MULTILINE | re.DOTALL)
    wanted = {requirement.name: requirement for requirement in map(Requirement, ast.literal_eval(block[1]))}
    named = {
        **{name: METADATA[f"{key}_version"] for name, key in (("monai", "monai"), ("torch", "pytorch"))},
        **{"numpy": METADATA["numpy_version"], **METADATA["required_packages_version"]},
    }
    assert named.keys() == wanted.keys()
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = [Requirement(line) for line in lines]
    for name, version in named.items():
        assert wanted[name].specifier.contains(version)
        mine = [pin for pin in pins if pin.name.lower() == name]
        assert any(pin.specifier.contains(version) for pin in mine), f"{name} {version} is not pinned"
        here = [pin for pin in mine if pin.marker is None or pin.marker.evaluate()]
        assert len(here) == 1 and here[0].specifier.contains(importlib.metadata.version(name)), name


def test_figures_are_only_accepted_for_shipped_weights():
    """``make metrics`` writes them, from an evaluation of these weights."""
    assert bool(METADATA["eval_metrics"]) == (BUNDLE_ROOT / "models" / "model.pt").exists()
