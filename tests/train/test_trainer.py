from __future__ import annotations

import errno
import json
import math
import random
import signal

import numpy as np
import pytest
import torch
from identical import identical
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines.utils import IterationEvents
from monai.transforms import RandGaussianNoise

from scripts.core.errors import CineError
from scripts.train.trainer import EpochCheckpoint, count_steps


def train(folder, epochs, stop_in=None, signal_in=None, nan_in=None, pretrained=None, lr=0.1, **identity):
    """A small regression under ignite, with random augmentation and momentum."""
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    network.digest = "a"
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    data = list(torch.linspace(0, 1, 12).reshape(4, 3))
    dataset = Dataset(data, RandGaussianNoise(prob=1.0, std=0.5))
    loader = DataLoader(dataset, batch_size=1, shuffle=True, generator=torch.Generator())
    weights = []

    def step(engine, batch):
        optimizer.zero_grad()
        loss = (network(batch) + random.random() - np.random.rand() + torch.rand(())).square().mean()
        if engine.state.iteration == nan_in:
            loss = loss * math.nan
        engine.state.output = {"loss": loss}
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        loss.backward()
        optimizer.step()
        weights.append(network.weight.detach().clone())
        return engine.state.output

    trainer = Engine(step)
    trainer.register_events(*IterationEvents)
    parts = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
    known = {"exams": ["a"], **identity}
    handler = EpochCheckpoint(str(folder / "model.pt"), parts, loader, str(folder / "c.pt"), pretrained, 5, known)
    handler.attach(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: scheduler.step())

    @trainer.on(Events.ITERATION_COMPLETED)
    def _(engine):
        if engine.state.iteration == stop_in:
            raise Killed
        if engine.state.iteration == signal_in:
            signal.raise_signal(signal.SIGTERM)

    trainer.run(loader, max_epochs=epochs)
    return network


class Killed(BaseException):
    pass


def trained_state(folder):
    """Parts and random states of the last checkpoint."""
    content = torch.load(folder / "c.pt", weights_only=True)
    return {key: content[key] for key in ("epoch", "iteration", "parts", "random")}


def test_fine_tuning_starts_from_given_weights_and_also_lists_their_exams(tmp_path):
    train(tmp_path / "first", 3, format="rtdnas-model-1", architecture="a", exams=["b"])
    (tmp_path / "first" / "model.json").write_text(
        json.dumps({"format": "rtdnas-model-1", "architecture": "a", "exams": ["b"]})
    )
    origin = str(tmp_path / "first" / "model.pt")
    before = torch.load(origin, weights_only=True)["weight"]
    tuned = train(tmp_path / "tuned", 1, pretrained=origin, lr=0.0)
    assert torch.equal(tuned.weight, before)
    assert json.loads((tmp_path / "tuned" / "model.json").read_text())["exams"] == ["b", "a"]
    with pytest.raises(CineError, match=r"a checkpoint with pretrained = '[0-9a-f]{64}'; expected None"):
        train(tmp_path / "tuned", 1)
    with pytest.raises(CineError, match=r"pretrained: found nowhere.pt, which does not exist"):
        train(tmp_path / "other", 1, pretrained="nowhere.pt")


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    train(tmp_path / "whole", 4)
    with pytest.raises(Killed):
        train(tmp_path / "broken", 4, stop_in=11)  # in the middle of the third epoch
    train(tmp_path / "broken", 4)
    assert identical(trained_state(tmp_path / "broken"), trained_state(tmp_path / "whole"))


@pytest.mark.parametrize("steps", [[5], [8], [1, 6, 7], [15]])
def test_a_training_ended_by_a_signal_saves_its_last_step(tmp_path, steps):
    """In the middle of an epoch, and at its end; also several times."""
    train(tmp_path / "whole", 4)
    before = signal.getsignal(signal.SIGTERM)
    for step in steps:
        with pytest.raises(KeyboardInterrupt, match="The same command continues from there"):
            train(tmp_path / "broken", 4, signal_in=step)
        assert torch.load(tmp_path / "broken" / "c.pt", weights_only=True)["iteration"] == step
        assert signal.getsignal(signal.SIGTERM) == before
    train(tmp_path / "broken", 4)
    assert identical(trained_state(tmp_path / "broken"), trained_state(tmp_path / "whole"))


def test_a_loss_that_is_not_a_number_stops_before_the_step(tmp_path):
    with pytest.raises(CineError, match="epoch 2, step 6: loss: found nan"):
        train(tmp_path, 4, nan_in=6)
    assert trained_state(tmp_path)["iteration"] == 4


def test_the_model_is_a_plain_state_dict(tmp_path):
    network = train(tmp_path, 2)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert state.keys() == network.state_dict().keys()
    assert torch.equal(state["weight"], network.weight)


def test_another_configuration_does_not_resume(tmp_path):
    train(tmp_path, 2)
    with pytest.raises(CineError, match="a list of 1 where entry 0 is 'a'; expected a list of 1 with 'b' there"):
        train(tmp_path, 3, exams=["b"])


def halve(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_the_earlier_checkpoint_replaces_a_truncated_one(tmp_path, caplog):
    train(tmp_path / "whole", 4)
    train(tmp_path / "broken", 3)
    halve(tmp_path / "broken" / "c.pt")
    train(tmp_path / "broken", 4)
    assert "c.pt: found a file that cannot be read" in caplog.text
    assert "Continuing from the checkpoint before it" in caplog.text
    assert identical(trained_state(tmp_path / "broken"), trained_state(tmp_path / "whole"))


def test_a_run_killed_between_two_renames_finds_the_earlier_checkpoint(tmp_path):
    train(tmp_path / "whole", 4)
    train(tmp_path / "broken", 3)
    (tmp_path / "broken" / "c.pt").unlink()
    train(tmp_path / "broken", 4)
    assert identical(trained_state(tmp_path / "broken"), trained_state(tmp_path / "whole"))


def test_partial_files_of_a_killed_run_are_removed(tmp_path):
    train(tmp_path, 2)
    (tmp_path / ".partial-abc.pt").write_bytes(b"half")
    train(tmp_path, 3)
    assert not list(tmp_path.glob(".partial-*"))


def test_unreadable_checkpoints_are_reported(tmp_path):
    train(tmp_path, 2)
    for path in (tmp_path / "c.pt", tmp_path / "c.before.pt"):
        halve(path)
    with pytest.raises(CineError, match="a file that cannot be read") as caught:
        train(tmp_path, 2)
    assert "Delete it to start again" in str(caught.value)


def test_a_checkpoint_of_other_parts_is_refused(tmp_path):
    train(tmp_path, 2)
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    del content["parts"]["scheduler"]
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(CineError, match=r"parts that do not fit .KeyError"):
        train(tmp_path, 3)


@pytest.mark.parametrize("error", [RuntimeError("unexpected pos"), OSError(errno.ENOSPC, "No space left on device")])
def test_a_full_disk_does_not_destroy_the_earlier_checkpoint(tmp_path, monkeypatch, error):
    train(tmp_path, 2)
    before = (tmp_path / "c.pt").read_bytes()

    def full(content, path):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CineError, match="a path that cannot be written") as caught:
        train(tmp_path, 3)
    assert "no data were lost" in str(caught.value)
    assert (tmp_path / "c.pt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.before.pt", "c.pt", "model.json", "model.pt"]


def test_a_training_without_a_full_batch_is_refused():
    assert count_steps([1, 2], 3) == 6
    with pytest.raises(CineError, match="batch_size: found too few exams for one batch"):
        count_steps([], 3)


def fine_tune(folder, weights, exams, epochs=2, signal_in=None):
    """A training without a checkpoint; an earlier handler loads weights at the start."""
    network = torch.nn.Linear(3, 1)
    loader = DataLoader(list(torch.ones(2, 3)), batch_size=1)

    def step(engine, batch):
        engine.state.output = {"loss": network(batch).mean()}
        if engine.state.iteration == signal_in:
            signal.raise_signal(signal.SIGTERM)
        return engine.state.output

    trainer = Engine(step)
    trainer.register_events(*IterationEvents)
    trainer.add_event_handler(Events.STARTED, lambda: network.load_state_dict(weights))
    identity = {"architecture": "d", "exams": exams}
    EpochCheckpoint(str(folder / "model.pt"), {"network": network}, loader, identity=identity).attach(trainer)
    trainer.run(loader, max_epochs=epochs)


def test_without_a_checkpoint_a_training_starts_from_the_loaded_weights(tmp_path):
    weights = {"weight": torch.tensor([[1.0, 2.0, 3.0]]), "bias": torch.tensor([4.0])}
    fine_tune(tmp_path, weights, ["a", "b"])
    assert identical(torch.load(tmp_path / "model.pt", weights_only=True), weights)
    fine_tune(tmp_path, weights, ["b", "c"])
    assert json.loads((tmp_path / "model.json").read_text())["exams"] == ["a", "b", "c"]  # all exams that it has seen
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "model.json"}


def test_a_signal_ends_it_and_leaves_the_model(tmp_path):
    weights = {"weight": torch.zeros(1, 3), "bias": torch.zeros(1)}
    with pytest.raises(KeyboardInterrupt, match="The model stays as it was"):
        fine_tune(tmp_path, weights, ["a"], signal_in=1)
    assert not list(tmp_path.iterdir())
