"""A trained network on disk and the archive of its weights, which tests make hostile."""

from __future__ import annotations

import json
import zipfile

import pytest

from scripts.space.network import CineNet
from scripts.train import checkpoint, weights


@pytest.fixture
def model_dir(architecture, tmp_path):
    architecture.save(tmp_path / "architecture.json")
    network = CineNet(architecture)
    checkpoint.save(tmp_path / "model.pt", network.state_dict())
    card = {"format": weights.FORMAT, "architecture": architecture.digest, "exams": []}
    (tmp_path / "model.json").write_text(json.dumps(card))
    return tmp_path


@pytest.fixture
def opens():
    """Open a model's folder in the same way as inference."""

    def open_model(folder):
        weights.load_model(folder / "model.pt", CineNet(str(folder / "architecture.json")))

    return open_model


@pytest.fixture
def repack(model_dir):
    """Write weights.pt again from its entries, after ``change`` of their [(ZipInfo, content)]."""

    def write(change):
        path = model_dir / "model.pt"
        with zipfile.ZipFile(path) as archive:
            entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
        with zipfile.ZipFile(path, "w") as archive:
            for entry, content in change(entries):
                archive.writestr(entry, content)
        return path

    return write


@pytest.fixture
def with_pickle(repack):
    """Replace the pickle in weights.pt."""

    def write(content):
        return repack(lambda entries: [(e, content if e.filename.endswith("/data.pkl") else c) for e, c in entries])

    return write


@pytest.fixture
def edit(model_dir):
    """Change fields of architecture.json."""

    def write(**fields):
        path = model_dir / "architecture.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
        return path

    return write
