"""Epochs that survive interruptions: the part that all searches share."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scripts.core.checks import explaining_memory
from scripts.core.distributed import any_process, is_main, world_size
from scripts.core.errors import CineError
from scripts.core.interruption import Interruption, interrupted
from scripts.runtime.device import keep_memory
from scripts.search.descent import Batch, Descent, Forward, Loss
from scripts.search.history import HISTORY, refuse_another_search
from scripts.search.memory import SMALLER
from scripts.space.architecture import Architecture
from scripts.space.supernet import Supernet
from scripts.train import checkpoint
from scripts.train.tracking import CurveWriter

logger = logging.getLogger(__name__)
Carried = dict[str, Any]  # what an epoch passes from step to step: tensors and plain values


@dataclass(frozen=True)
class Half:
    """The training of the weights, or of the architecture parameters.

    Args:
        loader: batches of "image" B 1 H W D and "label" of its half of the exams.
        loss: logits and labels to a scalar.
        optimizer: parameters to an optimizer.
        final_lr: the share of the learning rate at the end of a cosine schedule.
    """

    loader: Iterable[Batch]
    loss: Loss
    optimizer: Callable[..., torch.optim.Optimizer]
    final_lr: float = 0.1


class EpochLoop:
    """Epochs of steps on a supernet: each is seeded, saved at its end, and interruptible between two steps.

    Args:
        supernet: the network.
        loaders: seeded in every epoch; the first one determines the steps of an epoch.
        work_dir: ``checkpoint.pt`` goes to its folder ``search``.
        epochs: the number of epochs.
        seed: seeds every epoch together with its number, so that a resumed run gives the same result.
        device: where to search.
        amp: bfloat16 autocast of the supernet if the device computes in bfloat16.
        identity: what a resumed run must share with the checkpoint (exams, space ...).
    """

    RECORD = HISTORY
    """The file that shows which kind of search a folder has."""

    def __init__(
        self,
        supernet: Supernet,
        loaders: dict[str, Iterable[Batch]],
        work_dir: str,
        epochs: int,
        seed: int,
        device: str | torch.device,
        amp: bool,
        identity: dict[str, Any],
    ):
        for half, loader in loaders.items():
            if not len(loader):  # type: ignore[arg-type]
                found = f"no batch in the {half} half"
                raise CineError("search_batch_size", found, "at least one batch", "Lower it, or add exams.")
        self.device = torch.device(device)
        if self.device.type == "cpu":
            keep_memory()
        checkpoint.initialise(supernet, seed)
        self.supernet = supernet.to(self.device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.loaders = list(loaders.values())
        self.folder = Path(work_dir) / "search"
        self.epochs, self.seed, self.amp = epochs, seed, amp
        self.descent = Descent(self.device, amp)
        self.identity = {"epochs": epochs, "seed": seed, "processes": world_size(), **identity}
        self.history: list[dict[str, Any]] = []
        self.round = 1
        self._begun: dict[str, Any] | None = None  # the state of an epoch that was interrupted
        self._resumed = False
        self._where = ""

    @property
    def parts(self) -> dict[str, Any]:
        """All parts with a state, by name."""
        raise NotImplementedError

    def begin_epoch(self, epoch: int) -> Carried:
        """The values that the epoch's first step gets."""
        raise NotImplementedError

    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of the steps of an epoch."""
        raise NotImplementedError

    def step(self, epoch: int, number: int, batch: Any, carried: Carried) -> None:
        """One step; it puts what later steps need into ``carried``."""
        raise NotImplementedError

    def end_epoch(self, epoch: int, carried: Carried) -> dict[str, Any]:
        """The entry of an epoch in the history; its "weight_loss" is shown."""
        raise NotImplementedError

    def start_fresh(self) -> None:
        """Called if there is no checkpoint."""

    def state(self) -> dict[str, Any]:
        """The contents of a checkpoint in addition to parts and history."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""

    def save_epoch(self) -> None:
        """Called after every epoch."""
        self.save_checkpoint()

    def run_epochs(self) -> None:
        """Run to the end, from the newest checkpoint if there is one."""
        if not self._resumed:
            self._resume()
        first, steps = len(self.history), len(self.loaders[0])  # type: ignore[arg-type]
        if first == self.epochs:
            return
        initial = first * steps + (self._begun["steps"] if self._begun else 0)
        bar = tqdm(total=self.epochs * steps, initial=initial, desc="search", unit="step", disable=not is_main())
        batch, patch = (self.identity.get(key) for key in ("search_batch_size", "search_patch_size"))
        explaining = explaining_memory(f"a step on {batch} patches of {patch}", SMALLER)
        curves = CurveWriter(self.folder / "tensorboard" / f"round{self.round}")
        with Interruption() as interruption, explaining, bar, contextlib.closing(curves):
            for epoch in range(first, self.epochs):
                self.history.append(self._epoch(epoch, bar, interruption))
                self._begun = None
                curves.add_entry({k: v for k, v in self.history[-1].items() if k not in ("epoch", "mixing")}, epoch + 1)
                self.save_epoch()

    def _epoch(self, epoch: int, bar: tqdm, interruption: Interruption) -> dict[str, Any]:
        checkpoint.seed_epoch(self.seed, epoch, self.loaders)
        begun = self._begun or {"steps": 0, "carried": self.begin_epoch(epoch)}
        carried = begun["carried"]
        for number, batch in enumerate(self.batches(epoch), start=1):
            if number <= begun["steps"]:
                continue  # drawn anyway, so that the next steps get the same random numbers
            if number == begun["steps"] + 1 and "random" in begun:
                checkpoint.restore_random_states(begun["random"])
            if any_process(interruption.wanted):
                self._begun = {"steps": number - 1, "carried": carried, "random": checkpoint.random_states()}
                self.save_checkpoint()
                raise KeyboardInterrupt(interrupted(self.folder))
            self._where = f"epoch {epoch + 1}, step {number}: "
            self.step(epoch, number, batch, carried)
            bar.update()
        entry = {"epoch": epoch + 1, **self.end_epoch(epoch, carried)}
        bar.set_postfix(epoch=f"{epoch + 1}/{self.epochs}", loss=f"{entry['weight_loss']:.3f}")
        return entry

    def forward_of(self, architecture: Architecture) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function from image to logits, for an architecture with the shared weights."""
        return lambda image_BCHWD: self.supernet.run_one(image_BCHWD, architecture)

    def predict(self, image_BCHWD: torch.Tensor, architecture: Architecture) -> torch.Tensor:
        """Logits of an architecture with the shared weights, for evaluation."""
        return self.descent.predict(image_BCHWD, self.forward_of(architecture))

    def descend(self, optimizer: torch.optim.Optimizer, loss: Loss, batch: Batch, forward: Forward) -> torch.Tensor:
        """One step of the weights; returns the mean loss over the processes."""
        return self.descent.step(optimizer, self.loss(loss, batch, forward), self._where)

    def loss(self, loss: Loss, batch: Batch, forward: Forward) -> torch.Tensor:
        """A loss on a batch; see ``Descent.loss``."""
        return self.descent.loss(loss, batch, forward)

    def save_checkpoint(self) -> None:
        content = {
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "history": self.history,
            "identity": self.identity,
            "begun": self._begun,
            **self.state(),
        }
        checkpoint.save_newest(self.folder / "checkpoint.pt", content)

    def load_parts(self, states: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(copy.deepcopy(states[name]))

    def _resume(self) -> None:
        refuse_another_search(self.folder, self.RECORD)
        path = self.folder / "checkpoint.pt"
        content = checkpoint.load(path, "cpu", self.identity)
        self._resumed = True
        if content is None:
            self.start_fresh()
            return
        with checkpoint.fitting(path):
            self.restore(content)
            self.load_parts(content["parts"])
            self.history, self._begun = content["history"], content["begun"]
            if self._begun:
                carried = self._begun["carried"]
                carried.update({k: v.to(self.device) for k, v in carried.items() if isinstance(v, torch.Tensor)})
        logger.info("Resumed after epoch %d of %d from %s", len(self.history), self.epochs, path)


def cosine(optimizer: torch.optim.Optimizer, epochs: int, final: float) -> torch.optim.lr_scheduler.LambdaLR:
    """A cosine schedule from the learning rate to a share ``final`` of it."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: final + (1 - final) * (1 + math.cos(math.pi * epoch / epochs)) / 2
    )
