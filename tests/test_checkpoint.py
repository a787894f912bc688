from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.transforms import RandGaussianNoise

from scripts import checkpoint
from scripts.files import CineError
from scripts.space.network import CineNet


def train(folder, epochs, stop_in=None, **identity):
    """A small regression under ignite, with random augmentation and momentum."""
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    data = list(torch.linspace(0, 1, 12).reshape(4, 3))
    dataset = Dataset(data, RandGaussianNoise(prob=1.0, std=0.5))
    loader = DataLoader(dataset, batch_size=2, shuffle=True, generator=torch.Generator())

    def step(engine, batch):
        optimizer.zero_grad()
        loss = (network(batch) + random.random() - np.random.rand()).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    trainer = Engine(step)
    parts = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
    handler = checkpoint.EpochCheckpoint(
        str(folder / "c.pt"), str(folder / "model.pt"), parts, loader, seed=5, identity={"exams": ["a"], **identity}
    )
    handler.attach(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: scheduler.step())
    if stop_in is not None:

        @trainer.on(Events.ITERATION_COMPLETED(once=stop_in))
        def _():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trainer.run(loader, max_epochs=epochs)
    else:
        trainer.run(loader, max_epochs=epochs)
    return network


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole = train(tmp_path / "whole", 5)
    train(tmp_path / "broken", 5, stop_in=7)  # in the middle of the fourth epoch
    resumed = train(tmp_path / "broken", 5)
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)


def test_the_model_is_a_plain_state_dict(tmp_path):
    network = train(tmp_path, 2)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert state.keys() == network.state_dict().keys()
    assert torch.equal(state["weight"], network.weight)


def test_another_configuration_does_not_resume(tmp_path):
    train(tmp_path, 2)
    with pytest.raises(CineError, match="a list of 1, entry 0 being 'a'; expected a list of 1 with 'b' there"):
        train(tmp_path, 3, exams=["b"])


def test_an_epoch_s_random_numbers_depend_on_seed_and_epoch_alone():
    def draws(seed, epoch):
        checkpoint.seed_epoch(seed, epoch, [])
        return float(torch.rand(())), float(np.random.rand()), random.random()

    first = draws(1, 2)
    draws(3, 4)
    assert draws(1, 2) == first
    assert len({draws(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


def test_a_truncated_checkpoint_says_so(tmp_path):
    train(tmp_path, 2)
    content = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(CineError, match="a file that cannot be read") as caught:
        train(tmp_path, 2)
    assert "Delete it to start anew" in str(caught.value)


def test_a_training_without_a_whole_batch_is_refused():
    assert checkpoint.count_steps([1, 2], 3) == 6
    with pytest.raises(CineError, match="batch_size: found no whole batch"):
        checkpoint.count_steps([], 3)


@pytest.fixture
def trained(architecture, tmp_path):
    """A network's weights and the card beside them."""
    network = CineNet(architecture)
    checkpoint.save(tmp_path / "model.pt", network.state_dict())
    card = {"format": checkpoint.FORMAT, "architecture": architecture.digest, "exams": ["p1 ED a", "p2 ED b"]}
    (tmp_path / "model.json").write_text(json.dumps(card))
    return network, tmp_path / "model.pt"


def load_model(path, architecture, exams=()):
    network = CineNet(architecture)
    engine = Engine(lambda engine, batch: None)
    checkpoint.ModelLoader(str(path), network, exams).attach(engine)
    engine.run([0])
    return network


def test_a_model_is_loaded_into_its_own_architecture(trained, architecture):
    network, path = trained
    loaded = load_model(path, architecture, ["p3 ED c"]).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())


def test_a_model_of_another_architecture_is_refused_even_where_its_weights_fit(trained, architecture):
    """Which input a node reads leaves no trace in the weights' shapes."""
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


def test_exams_that_the_model_saw_are_not_evaluated(trained, architecture):
    _, path = trained
    with pytest.raises(CineError, match="trained on 1 of the 2 exams"):
        load_model(path, architecture, ["p2 ED b", "p3 ED c"])


def test_a_missing_or_truncated_model_says_what_to_run(trained, architecture):
    _, path = trained
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CineError, match="Run the step train"):
        load_model(path, architecture)
    path.unlink()
    with pytest.raises(CineError, match="no such file"):
        load_model(path, architecture)
