"""One-shot training of a supernet: a new random architecture at every step (HyperSegNAS, CVPR 2022, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from random import Random
from typing import Any, Literal, get_args

import torch

from scripts.core.distributed import on_main
from scripts.core.errors import CineError
from scripts.core.json_files import write_json
from scripts.run.config_schema import check_phase
from scripts.search.assistant import MetaAssistant, Weigh, fixed
from scripts.search.descent import Batch
from scripts.search.history import ONE_SHOT
from scripts.search.loop import Carried, EpochLoop, Half, cosine
from scripts.space.architecture import Architecture
from scripts.space.sampling import random_subgraph
from scripts.space.space import Space
from scripts.space.supernet import Supernet

FORMAT = "rtdnas-one-shot-1"
DENSITY = 0.8  # of the sampled edges; with sparser samples, shared weights train far more slowly (docs/decisions.md)
Assistance = Literal["annealed", "kept", "image", "removed", "none"]


class OneShotSearcher(EpochLoop):
    """Trains the shared weights, with or without the assistant; ``assistance`` selects a row of HyperSegNAS Table 1.

    Args:
        supernet: owns the shared weights; no partial channels.
        space: the space of the architectures.
        assistance: "annealed": the assistant's scalars move to 0.5 over the last epochs, then it is removed.
            "kept": it stays. "image": it stays, but does not read the architecture. "removed": it is removed without
            annealing. "none": the plain one-shot training.
        weights: trains supernet and assistant.
        work_dir: ``checkpoint.pt`` and ``one_shot.json``, the curves, go to its folder ``search``.
        epochs: the number of epochs.
        annealing_epochs: the number of last epochs in which "annealed" moves linearly to the constant.
        seed, device, amp, identity: see ``EpochLoop``.
    """

    RECORD = ONE_SHOT

    def __init__(
        self,
        supernet: Supernet,
        space: Space,
        weights: Half,
        work_dir: str,
        epochs: int,
        annealing_epochs: int,
        assistance: Assistance = "annealed",
        seed: int = 0,
        device: str | torch.device = "cpu",
        amp: bool = True,
        identity: dict[str, Any] | None = None,
    ):
        if assistance not in get_args(Assistance):
            raise CineError("assistance", repr(assistance), f"one of {get_args(Assistance)}", "Change the key.")
        if supernet.partial != 1 or space.nodes != 1 or space.share_cells:
            found = f"partial_channels {supernet.partial}, nodes {space.nodes}, share_cells {space.share_cells}"
            raise CineError("space", found, "1, 1, False: one operation per edge", "Add hypersegnas.json.")
        check_phase("annealing_epochs", annealing_epochs, epochs)
        known = {
            "space": asdict(space),
            "assistance": assistance,
            "annealing_epochs": annealing_epochs,
            **(identity or {}),
        }
        super().__init__(supernet, {"weight": weights.loader}, work_dir, epochs, seed, device, amp, known)
        self.space, self.assistance, self.annealing_epochs = space, assistance, annealing_epochs
        self.assistant: MetaAssistant | None = None
        if assistance != "none":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                assistant = MetaAssistant(space, supernet.space.channels, architecture=assistance != "image")
            self.assistant = assistant.to(self.device)
        self.weights = weights
        trained = [part for part in (self.supernet, self.assistant) if part is not None]
        self.weight_optimizer = weights.optimizer([p for part in trained for p in part.parameters()])
        self.weight_scheduler = cosine(self.weight_optimizer, epochs, weights.final_lr)

    @property
    def parts(self) -> dict[str, Any]:
        parts = {
            "supernet": self.supernet,
            "assistant": self.assistant,
            "weight_optimizer": self.weight_optimizer,
            "weight_scheduler": self.weight_scheduler,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def begin_epoch(self, epoch: int) -> Carried:
        return {"sum": torch.zeros((), device=self.device)}

    def batches(self, epoch: int) -> Iterator[Batch]:
        yield from self.weights.loader

    def step(self, epoch: int, number: int, batch: Batch, carried: Carried) -> None:
        architecture = random_subgraph(self.space, Random(f"{self.seed} {epoch} {number}"), DENSITY)
        annealed = self.annealed_at(epoch, number)
        forward = self._forward(architecture, annealed)
        carried["sum"] += self.descend(self.weight_optimizer, self.weights.loss, batch, forward)

    def annealed_at(self, epoch: int, number: int) -> float:
        """How far the assistant is annealed at a step of an epoch: from 0 to 1 at the very last step."""
        if self.assistance != "annealed":
            return 0.0
        steps = len(self.weights.loader)  # type: ignore[arg-type]
        done = (epoch - (self.epochs - self.annealing_epochs)) * steps + number
        return max(0.0, done / (self.annealing_epochs * steps))

    def end_epoch(self, epoch: int, carried: Carried) -> dict[str, Any]:
        self.weight_scheduler.step()
        steps = len(self.weights.loader)  # type: ignore[arg-type]
        return {"weight_loss": float(carried["sum"]) / steps, "annealed": self.annealed_at(epoch, steps)}

    def save_epoch(self) -> None:
        self.save_checkpoint()
        on_main(write_json)(self.folder / ONE_SHOT, {"format": FORMAT, "epochs": self.history})

    def _forward(self, architecture: Architecture, annealed: float) -> Callable[[torch.Tensor], torch.Tensor]:
        def forward(image_BCHWD: torch.Tensor) -> torch.Tensor:
            weigh: Weigh | None = None
            if self.assistant is not None:
                weigh = self.assistant.weigh(image_BCHWD, architecture, annealed)
            return self.supernet.run_one(image_BCHWD, architecture, weigh)

        return forward

    def forward_of(self, architecture: Architecture) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function from image to logits, with the trained shared weights; the assistant takes part if it is kept."""
        if self.assistance in ("annealed", "removed"):
            return lambda image_BCHWD: self.supernet.run_one(image_BCHWD, architecture, fixed)
        return self._forward(architecture, 0.0)
