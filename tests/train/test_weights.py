from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from ignite.engine import Engine

from scripts.core.errors import CineError
from scripts.space.network import CineNet
from scripts.train import checkpoint, weights


@pytest.fixture
def trained(architecture, tmp_path):
    """A network's weights and the card next to them."""
    network = CineNet(architecture)
    checkpoint.save(tmp_path / "model.pt", network.state_dict())
    card = {"format": weights.FORMAT, "architecture": architecture.digest, "exams": ["p1 ED a", "p2 ED b"]}
    (tmp_path / "model.json").write_text(json.dumps(card))
    return network, tmp_path / "model.pt"


def load_model(path, architecture, exams=()):
    network = CineNet(architecture)
    engine = Engine(lambda engine, batch: None)
    weights.ModelLoader(str(path), network, exams).attach(engine)
    engine.run([0])
    return network


def test_a_model_is_loaded_into_its_own_architecture(trained, architecture):
    network, path = trained
    loaded = load_model(path, architecture, ["p3 ED c"]).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())


def test_a_model_of_another_architecture_is_refused_even_where_its_weights_fit(trained, architecture):
    """Which input a node reads does not show in the shapes of weights."""
    _, path = trained
    other = replace(
        architecture, cells={**architecture.cells, "contracting": ((0, "conv_3x3x3"), (0, "max_pool_3x3x3"))}
    )
    with pytest.raises(CineError, match="run train again"):
        load_model(path, other)
    (path.parent / "model.json").unlink()
    other = replace(architecture, paths=architecture.paths[:1])
    with pytest.raises(CineError, match="weights of another network"):
        load_model(path, other)


def test_training_exams_of_the_model_are_not_evaluated(trained, architecture):
    _, path = trained
    with pytest.raises(CineError, match="trained on 1 of the 2 exams"):
        load_model(path, architecture, ["p2 ED b", "p3 ED c"])


def test_exams_that_the_search_has_read_are_counted(architecture):
    network = CineNet(architecture.with_provenance(searched_exams=["p1 ED a", "p2 ED b"]))
    assert weights.read_by_search(network, ["p2 ED b", "p3 ED c"]) == {"read_by_search": 1}
    assert weights.read_by_search(CineNet(architecture), ["p2 ED b"]) == {"read_by_search": 0}


def test_integers_use_the_ranges_of_the_card(trained, architecture):
    _, path = trained
    network = CineNet(architecture)
    weights.load_model(path, network)
    assert network.activations == {}  # for a model that was trained before ranges were observed
    card = json.loads((path.parent / "model.json").read_text())
    (path.parent / "model.json").write_text(json.dumps({**card, "activations": {"a": [0.0, 2.5]}}))
    weights.load_model(path, network)
    assert network.activations == {"a": [0.0, 2.5]}


def test_an_error_for_a_missing_or_truncated_model_names_the_step_to_run(trained, architecture):
    _, path = trained
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CineError, match="Run the step train"):
        load_model(path, architecture)
    path.unlink()
    with pytest.raises(CineError, match="no such file"):
        load_model(path, architecture)
