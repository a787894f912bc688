"""Checkpoints that are whole or absent, and epochs that repeat: what search and training share to resume."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import set_determinism

from scripts.archive import load_whole
from scripts.files import CineError, read_json, replacing, write_json
from scripts.manifest import verify
from scripts.space.network import CineNet

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-model-1"


def seed_epoch(seed: int, epoch: int, loaders: Iterable[Any]) -> None:
    """Seed every random state from (seed, epoch), so that an epoch is the same whether or not a run was resumed."""
    seed = 1_000_003 * seed + epoch
    set_determinism(seed)
    for loader in loaders:
        if getattr(loader, "generator", None) is not None:
            loader.generator.manual_seed(seed)
        transform: Any = getattr(getattr(loader, "dataset", None), "transform", None)
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed % 2**31)


def initialise(network: torch.nn.Module, seed: int) -> None:
    """Draw the weights anew by the seed alone, whatever else drew random numbers before, such as a race of backends."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()


def save(path: str | Path, content: Any) -> None:
    """Write tensors and plain values, whole or not at all."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load(path: str | Path, device: str | torch.device, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """A checkpoint, or None where there is none.

    Args:
        path: the file.
        device: where its tensors go.
        identity: what the run that resumes must share with the run that saved.

    Raises:
        CineError: the checkpoint belongs to another configuration; names the first difference.
    """
    if not Path(path).exists():
        return None
    checkpoint = load_whole(path, device, "Delete it to start anew.")
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("identity"), dict):
        raise CineError(path, "no checkpoint of this project", "one", "Choose another work_dir.")
    for key, value in identity.items():
        found = checkpoint["identity"].get(key)
        if found != value:
            before, now = _difference(found, value)
            raise CineError(
                path,
                f"a run with {key} = {before}",
                f"{now}, as configured now",
                "Restore the configuration to resume, or choose another work_dir to start anew.",
            )
    return checkpoint


def count_steps(loader: Sized, epochs: int) -> int:
    """Optimiser steps of a training; CineError where the exams do not fill one batch."""
    if not len(loader):
        raise CineError("batch_size", "no whole batch of exams", "at least one", "Lower it, or add exams.")
    return epochs * len(loader)


def _difference(found: Any, expected: Any) -> tuple[str, str]:
    """Two values as text; of two lists their first entries that differ."""
    if isinstance(found, list) and isinstance(expected, list):
        pairs = itertools.zip_longest(found, expected, fillvalue="nothing")
        at, (before, now) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        return f"a list of {len(found)}, entry {at} being {before!r}", f"a list of {len(expected)} with {now!r} there"
    return repr(found), repr(expected)


class EpochCheckpoint:
    """Trainer handler: seeds each epoch, saves after each, resumes at the start, writes the model at the end.

    Args:
        path: the checkpoint.
        model_path: a plain state dict of parts["network"], written when training completes; ``model.json`` beside it
            holds the identity.
        parts: the objects with a state, by name; "network" among them.
        loader: the training DataLoader, seeded anew each epoch.
        seed: together with the epoch's number it seeds the epoch.
        identity: what a resumed run must share with the checkpoint.
    """

    def __init__(
        self,
        path: str,
        model_path: str,
        parts: dict[str, Any],
        loader: Any,
        seed: int = 0,
        identity: dict[str, Any] | None = None,
    ):
        self.path, self.model_path, self.parts = path, model_path, parts
        self.loader, self.seed, self.identity = loader, seed, {"seed": seed, **(identity or {})}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._resume)
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self._save_model)

    def _resume(self, engine: Engine) -> None:
        checkpoint = load(self.path, "cpu", self.identity)
        if checkpoint is None:
            initialise(self.parts["network"], self.seed)
            return
        for name, part in self.parts.items():
            part.load_state_dict(checkpoint["parts"][name])
        engine.state.epoch = checkpoint["epoch"]
        engine.state.iteration = checkpoint["iteration"]
        logger.info("Resumed after epoch %d from %s", engine.state.epoch, self.path)
        if engine.state.epoch == engine.state.max_epochs:
            logger.info("This training is complete: nothing is trained. Choose another work_dir to train anew")

    def _seed(self, engine: Engine) -> None:
        seed_epoch(self.seed, engine.state.epoch, [self.loader])
        # a new iterator: an old one drew from the loader's generator before or after the seed, as it happened
        engine.set_data(self.loader)

    def _save(self, engine: Engine) -> None:
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        state = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        save(self.path, {**state, "parts": parts, "identity": self.identity})

    def _save_model(self, engine: Engine) -> None:
        save(self.model_path, self.parts["network"].state_dict())
        write_json(model_card(self.model_path), {"format": FORMAT, **self.identity})
        logger.info("Saved %s", self.model_path)


def model_card(model_path: str | Path) -> Path:
    """The file beside a model that says what it is: ``model.json`` beside ``model.pt``."""
    return Path(model_path).with_suffix(".json")


def load_model(path: str | Path, network: CineNet, exams: Collection[str] = ()) -> None:
    """Load trained weights into a network, after checking that they belong to it.

    Args:
        path: a plain state dict; where ``model.json`` stands beside it, that is checked first.
        network: the network, with its ``architecture``.
        exams: names of exams that the model must not have been trained on.

    Raises:
        CineError: the weights are of another network, not those that the folder's manifest lists, not finite, cannot
            be read, or have seen an exam.
    """
    verify(Path(path).parent)
    action = "Run the step train with this work_dir, or name the work_dir where it ran."
    card_path = model_card(path)
    if card_path.exists():
        card = read_json(card_path, CARD_SCHEMA, action)
        if card["architecture"] != network.architecture.digest:
            found = f"weights of the architecture {card['architecture'][:12]}"
            expected = f"{network.architecture.digest[:12]}, that of architecture.json"
            raise CineError(
                path,
                found,
                expected,
                "It was derived anew since: delete the folder train beside it, run train again.",
            )
        seen = sorted(set(card["exams"]) & set(exams))
        if seen:
            found = f"a model that was trained on {len(seen)} of the {len(exams)} exams to evaluate"
            action = "Evaluate with the fold, seed and dataset_dir of its training."
            raise CineError(path, found, "exams that it never saw", action)
    state = load_whole(path, "cpu", action)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CineError(path, "weights of another network", "those of architecture.json", action) from error
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise CineError(path, "weights that are not finite", "numbers", "Train anew.")


class ModelLoader:
    """Evaluator handler: loads trained weights at the start, after checking that they belong here.

    Args:
        path, network, exams: as of ``load_model``.
    """

    def __init__(self, path: str, network: CineNet, exams: Iterable[str] = ()):
        self.path, self.network, self.exams = path, network, list(exams)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        load_model(self.path, self.network, self.exams)


CARD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "architecture", "exams"],
    "properties": {
        "format": {"const": FORMAT},
        "architecture": {"type": "string"},
        "exams": {"type": "array", "items": {"type": "string"}},
        "spacing_mm": {
            "type": "array",
            "minItems": 2,
            "maxItems": 2,
            "items": {"type": "number", "exclusiveMinimum": 0},
        },
    },
}
