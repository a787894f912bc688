"""Checkpoints that are whole or absent, and epochs that repeat: what search and training share to resume."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import set_determinism

from scripts.files import CineError, replacing

logger = logging.getLogger(__name__)


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
    checkpoint = torch.load(path, map_location=device, weights_only=True)
    for key, value in identity.items():
        found = checkpoint["identity"].get(key)
        if found != value:
            raise CineError(
                path,
                f"a run with {key} = {_short(found)}",
                f"{_short(value)}, as configured now",
                "Restore the configuration to resume, or choose another work_dir to start anew.",
            )
    return checkpoint


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


class EpochCheckpoint:
    """Trainer handler: seeds each epoch, saves after each, resumes at the start, writes the model at the end.

    Args:
        path: the checkpoint.
        model_path: a plain state dict of parts["network"], written when training completes.
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
            return
        for name, part in self.parts.items():
            part.load_state_dict(checkpoint["parts"][name])
        engine.state.epoch = checkpoint["epoch"]
        engine.state.iteration = checkpoint["iteration"]
        logger.info("Resumed after epoch %d from %s", engine.state.epoch, self.path)

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
        logger.info("Saved %s", self.model_path)
