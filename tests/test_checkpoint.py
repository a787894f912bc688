from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.transforms import RandGaussianNoise

from scripts import checkpoint
from scripts.files import CineError


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
    with pytest.raises(CineError, match=r"exams = \['a'\]; expected \['b'\]"):
        train(tmp_path, 3, exams=["b"])


def test_an_epoch_s_random_numbers_depend_on_seed_and_epoch_alone():
    def draws(seed, epoch):
        checkpoint.seed_epoch(seed, epoch, [])
        return float(torch.rand(())), float(np.random.rand()), random.random()

    first = draws(1, 2)
    draws(3, 4)
    assert draws(1, 2) == first
    assert len({draws(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16
