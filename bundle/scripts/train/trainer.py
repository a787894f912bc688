"""A training that survives interruptions, as handlers of MONAI's trainer; a search shares their parts."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sized
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from scripts.core.checks import check_finite, explaining_memory
from scripts.core.distributed import any_process, mean, on_main, share_buffers, world_size
from scripts.core.errors import CineError
from scripts.core.files import sha256
from scripts.core.interruption import Interruption, interrupted
from scripts.core.json_files import write_json
from scripts.runtime.quantization import Ranges, observe
from scripts.train.checkpoint import (
    fitting,
    initialise,
    load,
    random_states,
    restore_random_states,
    save,
    save_newest,
    seed_epoch,
)
from scripts.train.weights import FORMAT, load_model, model_card, seen_exams

logger = logging.getLogger(__name__)
OBSERVED = 20  # batches
PRETRAINED_REMEDY = "Put the architecture.json next to these weights into work_dir, or name other weights."


def count_steps(loader: Sized, epochs: int) -> int:
    """Optimiser steps of a training; CineError if the exams do not fill one batch."""
    if not len(loader):
        raise CineError(
            "batch_size", "too few exams for one batch", "at least one full batch", "Lower it, or add exams."
        )
    return epochs * len(loader)


def warm_up_share(steps: int) -> float:
    """The share of a training's steps in which the learning rate rises: a twentieth.

    It is a tenth for a training of 20 steps: torch's OneCycleLR divides by zero if the rate rises in exactly one step.
    """
    return 0.1 if steps == 20 else 0.05


class EpochCheckpoint:
    """Trainer handler: seeds each epoch, saves after each, resumes at the start, writes the model at the end.

    It also stops before the optimiser's step if the loss is not finite, and between two steps on Ctrl-C or SIGTERM.
    The loss in the trainer's output becomes the mean over the processes, for later handlers.

    Args:
        model_path: the output file, a plain state dict of parts["network"], written when training completes; the
            identity is in ``model.json`` next to it.
        parts: the objects with a state, by name; "network" is one of them.
        loader: the training DataLoader, seeded in each epoch.
        path: the checkpoint. None: start from weights that an earlier handler loaded (fine-tuning), and save only the
            model.
        pretrained: a ``model.pt`` with initial weights for a new training; None: random weights.
        seed: seeds every epoch together with its number.
        identity: the values that a resumed run must share with the checkpoint.
    """

    def __init__(
        self,
        model_path: str,
        parts: dict[str, Any],
        loader: Any,
        path: str | None = None,
        pretrained: str | None = None,
        seed: int = 0,
        identity: dict[str, Any] | None = None,
    ):
        self.path, self.model_path, self.parts = path, model_path, parts
        self.loader, self.pretrained, self.seed = loader, pretrained, seed
        if pretrained is not None and not Path(pretrained).is_file():
            raise CineError("pretrained", f"{pretrained}, which does not exist", "a model.pt", "Correct the path.")
        origin = None if pretrained is None else sha256(pretrained)
        self.identity = {"seed": seed, "processes": world_size(), "pretrained": origin, **(identity or {})}
        self.done = 0  # the number of completed steps of an interrupted epoch
        self.random: list[dict[str, Any]] = []
        self.loss: Any = None
        self.interruption = Interruption()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._resume)
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._stop_if_wanted)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._check)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._tell)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self._save_model)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._explain)

    def _resume(self, engine: Engine) -> None:
        self.interruption.__enter__()
        if self.path is None:
            return
        checkpoint = load(self.path, "cpu", self.identity)
        if checkpoint is None:
            initialise(self.parts["network"], self.seed)
            if self.pretrained is not None:
                network, spacing_mm = self.parts["network"], self.identity.get("spacing_mm")
                load_model(self.pretrained, network, spacing_mm=spacing_mm, remedy=PRETRAINED_REMEDY)
            return
        with fitting(self.path):
            for name, part in self.parts.items():
                part.load_state_dict(checkpoint["parts"][name])
            engine.state.epoch, engine.state.iteration = checkpoint["epoch"], checkpoint["iteration"]
            self.done = engine.state.iteration - engine.state.epoch * len(self.loader)
            self.random = checkpoint["random"]
        steps = f" and {self.done} steps" if self.done else ""
        logger.info("Resumed after epoch %d%s from %s", engine.state.epoch, steps, self.path)
        if engine.state.epoch == engine.state.max_epochs:
            logger.info("This training is already complete. Choose another work_dir to train again")

    def _seed(self, engine: Engine) -> None:
        seed_epoch(self.seed, engine.state.epoch, [self.loader])
        # a new iterator: an old one may have used the loader's generator before or after seeding
        batches = iter(self.loader)
        for _ in range(self.done):  # drawn again, so that the next steps get the same random numbers
            next(batches)
        if self.done:
            restore_random_states(self.random)
        engine.state.epoch_length = len(self.loader) - self.done
        engine.set_data(batches)

    def _stop_if_wanted(self, engine: Engine) -> None:
        """Called between two steps, after all handlers of the last one."""
        if any_process(self.interruption.wanted):
            self._save_state(engine.state.epoch - 1, engine.state.iteration)
            raise KeyboardInterrupt(interrupted(self.path) if self.path else "The model stays as it was.")

    def _check(self, engine: Engine) -> None:
        output: Any = engine.state.output
        self.loss = mean(output["loss"])
        check_finite(self.loss, f"epoch {engine.state.epoch}, step {engine.state.iteration}: loss")

    def _tell(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output if isinstance(output, list) else [output]:
            item["loss"] = self.loss

    def _save(self, engine: Engine) -> None:
        self.done, engine.state.epoch_length = 0, len(self.loader)
        share_buffers(self.parts["network"])
        self._save_state(engine.state.epoch, engine.state.iteration)

    def _save_state(self, epoch: int, iteration: int) -> None:
        if self.path is None:
            return
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        state = {"epoch": epoch, "iteration": iteration, "random": random_states()}
        save_newest(self.path, {**state, "parts": parts, "identity": self.identity})

    def _explain(self, engine: Engine, error: BaseException) -> None:
        self.interruption.__exit__()
        shape = f"a step on {self.identity.get('batch_size')} patches of {self.identity.get('patch_size')}"
        with explaining_memory(shape, "Lower batch_size or patch_size."):
            raise error

    def _save_model(self, engine: Engine) -> None:
        self.interruption.__exit__()
        self._write_model()

    def _activations(self) -> Ranges:
        """The input ranges of the convolutions on some crops, which are needed for integer arithmetic."""
        seed_epoch(self.seed, 0, [self.loader])
        batches = itertools.islice(self.loader, OBSERVED)
        return observe(self.parts["network"].eval(), (batch["image"] for batch in batches))

    @on_main
    def _write_model(self) -> None:
        card = {"format": FORMAT, **self.identity}
        origin = self.model_path if self.path is None else self.pretrained
        if origin is not None:  # the refined model has also seen the exams of its first training
            card["exams"] = seen_exams(origin, card.get("exams", []))
        card["activations"] = self._activations()
        save(self.model_path, self.parts["network"].state_dict())
        write_json(model_card(self.model_path), card)
        logger.info("Saved %s", self.model_path)
