"""The alternating optimisation of weights and architecture parameters (RT-DNAS 3.1, first order)."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scripts import checkpoint
from scripts.files import CineError, replacing
from scripts.interruption import Interruption, interrupted
from scripts.latency.expectation import LatencyExpectation
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import autocast, keep_memory
from scripts.safety import check_finite, explaining_memory
from scripts.search.constraint import Constraint
from scripts.search.derive import Deriver
from scripts.search.history import save_history
from scripts.search.memory import SMALLER
from scripts.search.objective import LatencyObjective, WeightedLatency
from scripts.search.relaxation import Relaxation, entropies, parameter_free_share, uniform_mixing
from scripts.space.architecture import PARAMETER_FREE
from scripts.space.supernet import Mixing, Supernet
from scripts.space.trellis import Path as TrellisPath

logger = logging.getLogger(__name__)
Batch = dict[str, torch.Tensor]


class Searcher:
    """Searches mixing weights; checkpoints each epoch and resumes from the newest checkpoint.

    Args:
        supernet: the relaxed network.
        relaxation: the architecture parameters; called, it gives the mixing weights.
        weight_loader: batches of "image" B 1 H W D and "label" of the weight half.
        architecture_loader: batches of the architecture half.
        weight_loss, architecture_loss: logits and labels to a scalar; the latter is L_a.
        objective: L_a and L_t to the architecture's loss.
        expectation: mixing weights to L_t.
        deriver: says which cells would be derived now.
        constraint: latency and throughput; an "auto" budget is resolved once, when the search starts.
        runtime: measures what an "auto" budget refers to.
        weight_optimizer, architecture_optimizer: parameters to an optimizer.
        work_dir: checkpoints and ``history.json`` go to its folder ``search``.
        epochs: all epochs.
        warm_up_epochs: the first epochs, which train the weights alone.
        final_lr: the share of the learning rates that is left at the end of a cosine.
        seed: with the epoch's number it seeds every epoch, so that a resumed search repeats an uninterrupted one.
        device: where to search.
        amp: bfloat16 autocast of the supernet where the device computes in bfloat16; architecture parameters and
            latency stay float32.
        identity: what a resumed search must share with the checkpoint (exams, space ...).
    """

    def __init__(
        self,
        supernet: Supernet,
        relaxation: Relaxation,
        weight_loader: Iterable[Batch],
        architecture_loader: Iterable[Batch],
        weight_loss: Callable[..., torch.Tensor],
        architecture_loss: Callable[..., torch.Tensor],
        objective: LatencyObjective | WeightedLatency,
        expectation: LatencyExpectation,
        deriver: Deriver,
        constraint: Constraint,
        runtime: Runtime,
        weight_optimizer: Callable[..., torch.optim.Optimizer],
        architecture_optimizer: Callable[..., torch.optim.Optimizer],
        work_dir: str,
        epochs: int,
        warm_up_epochs: int = 0,
        final_lr: float = 0.1,
        seed: int = 0,
        device: str | torch.device = "cpu",
        amp: bool = True,
        identity: dict[str, Any] | None = None,
    ):
        if not 0 <= warm_up_epochs < epochs:
            raise CineError("warm_up_epochs", str(warm_up_epochs), f"0 to {epochs - 1}", "epochs counts them in.")
        for half, loader in (("weight", weight_loader), ("architecture", architecture_loader)):
            if not len(loader):  # type: ignore[arg-type]
                expected = "at least one batch"
                raise CineError(
                    "search_batch_size", f"no batch in the {half} half", expected, "Lower it, or add exams."
                )
        self.device = torch.device(device)
        if self.device.type == "cpu":
            keep_memory()
        checkpoint.initialise(supernet, seed)
        self.supernet = supernet.to(self.device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.relaxation = relaxation.to(self.device)
        self.weight_loader, self.architecture_loader = weight_loader, architecture_loader
        self.weight_loss, self.architecture_loss = weight_loss, architecture_loss
        self.objective, self.expectation = objective, expectation
        self.deriver, self.constraint, self.runtime = deriver, constraint, runtime
        self.weight_optimizer = weight_optimizer(self.supernet.parameters())
        self.architecture_optimizer = architecture_optimizer(self.relaxation.parameters())
        self.weight_scheduler = _cosine(self.weight_optimizer, epochs, final_lr)
        self.architecture_scheduler = _cosine(self.architecture_optimizer, epochs - warm_up_epochs, final_lr)
        self.folder = Path(work_dir) / "search"
        self.epochs, self.warm_up_epochs, self.seed, self.amp = epochs, warm_up_epochs, seed, amp
        self.identity = {
            "epochs": epochs,
            "warm_up_epochs": warm_up_epochs,
            "seed": seed,
            "budget_ms": constraint.budget_ms,
            "space": asdict(expectation.space),
            "latency_table_sha256": expectation.table.digest,
            **(identity or {}),
        }
        self.history: list[dict[str, Any]] = []
        self.round = 1
        # L_ub of this round; "auto" is resolved when the search starts
        self.aim_ms = math.nan if constraint.budget_ms == "auto" else constraint.budget_ms
        self._begun: dict[str, Any] | None = None  # of an epoch that an interruption cut short
        self._where = ""
        self._initial = {name: copy.deepcopy(part.state_dict()) for name, part in self._parts.items()}

    @property
    def _parts(self) -> dict[str, Any]:
        return {
            "supernet": self.supernet,
            "relaxation": self.relaxation,
            "weight_optimizer": self.weight_optimizer,
            "architecture_optimizer": self.architecture_optimizer,
            "weight_scheduler": self.weight_scheduler,
            "architecture_scheduler": self.architecture_scheduler,
        }

    def run(self) -> Mixing:
        """Search to the end, from the newest checkpoint where there is one; returns the final mixing weights."""
        if not self.history and self.round == 1:
            self._resume()
        first = len(self.history)
        if first < self.epochs:
            total = self.epochs * len(self.weight_loader)  # type: ignore[arg-type]
            initial = first * (total // self.epochs) + (self._begun["steps"] if self._begun else 0)
            bar = tqdm(total=total, initial=initial, desc="search", unit="step")
            with Interruption() as interruption, self._explaining_memory(), bar:
                for epoch in range(first, self.epochs):
                    self.history.append(self._epoch(epoch, bar, interruption))
                    self._begun = None
                    self._save()
            self._warn_of_collapse()
        with torch.no_grad():
            return self.relaxation()

    def restart(self, aim_ms: float) -> None:
        """Begin the next round: all as it was at the start, under another L_ub; the last round's history is kept."""
        history = self.folder / "history.json"
        with replacing(history.with_name(f"history_round{self.round}.json")) as kept:
            shutil.copyfile(history, kept)
        for name, part in self._parts.items():
            part.load_state_dict(copy.deepcopy(self._initial[name]))
        self.history, self.round, self.aim_ms = [], self.round + 1, aim_ms
        self._save_checkpoint()

    def _epoch(self, epoch: int, bar: tqdm, interruption: Interruption) -> dict[str, Any]:
        checkpoint.seed_epoch(self.seed, epoch, (self.weight_loader, self.architecture_loader))
        alternating = epoch >= self.warm_up_epochs
        progress = (epoch - self.warm_up_epochs) / (self.epochs - self.warm_up_epochs)
        architecture_batches = _endless(self.architecture_loader)
        begun = self._begun or {"steps": 0, "sums": torch.zeros(3), "derived": self._derived_paths()}
        sums, derived = begun["sums"].to(self.device), [tuple(path) for path in begun["derived"]]
        for step, batch in enumerate(self.weight_loader, start=1):
            architecture_batch = next(architecture_batches) if alternating else None
            if step <= begun["steps"]:
                continue  # drawn again, so that the random numbers of the next steps are the same
            if step == begun["steps"] + 1 and "random" in begun:
                checkpoint.restore_random_states(begun["random"])
            if interruption.wanted:
                self._begun = {"steps": step - 1, "sums": sums, "derived": derived}
                self._begun["random"] = checkpoint.random_states()
                self._save_checkpoint()
                raise KeyboardInterrupt(interrupted(self.folder))
            self._where = f"epoch {epoch + 1}, step {step}: "
            weight_loss = self.weight_step(batch)
            accuracy_loss = loss = torch.zeros((), device=self.device)
            if architecture_batch is not None:
                accuracy_loss, loss = self.architecture_step(architecture_batch, derived, progress)
            sums += torch.stack([weight_loss, accuracy_loss, loss])
            bar.update()
        self.weight_scheduler.step()
        if alternating:
            self.architecture_scheduler.step()
        with torch.no_grad():
            mixing = self.relaxation()
            latency_ms = float(self.expectation(mixing, derived))
        means = (sums / len(self.weight_loader)).tolist()  # type: ignore[arg-type]
        bar.set_postfix(epoch=f"{epoch + 1}/{self.epochs}", loss=f"{means[0]:.3f}", ms=f"{latency_ms:.2f}")
        return {
            "epoch": epoch + 1,
            "weight_loss": means[0],
            "accuracy_loss": means[1] if alternating else None,
            "objective": means[2] if alternating else None,
            "latency_ms": latency_ms,
            "penalty_weight": self.objective.weight_at(progress) if alternating else 0.0,
            "entropy": entropies(mixing, self.supernet.space),
            "parameter_free_share": parameter_free_share(mixing, self.supernet.space),
            "mixing": mixing.to_lists(),
        }

    def weight_step(self, batch: Batch) -> torch.Tensor:
        """One step of the weights under the plain segmentation loss; the architecture parameters stay."""
        with torch.no_grad():
            mixing = self.relaxation()
        loss = self._loss(self.weight_loss, batch, mixing)
        loss.backward()
        check_finite(loss, self._where + "weight loss")
        self.weight_optimizer.step()
        self.weight_optimizer.zero_grad()  # memory that the architecture step can have
        return loss.detach()

    def architecture_step(
        self, batch: Batch, derived: list[TrellisPath], progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of the architecture parameters under Eq. 2; the weights stay. Returns L_a and the loss."""
        self.supernet.requires_grad_(False)
        try:
            self.architecture_optimizer.zero_grad()
            mixing = self.relaxation()
            accuracy_loss = self._loss(self.architecture_loss, batch, mixing)
            latency_ms = self.expectation(self.relaxation.for_latency(progress), derived)
            loss = self.objective(accuracy_loss, latency_ms, self.aim_ms, progress)
            loss.backward()
            check_finite(loss, self._where + "architecture loss")
            self.architecture_optimizer.step()
        finally:
            self.supernet.requires_grad_(True)
        return accuracy_loss.detach(), loss.detach()

    def _loss(self, loss: Callable[..., torch.Tensor], batch: Batch, mixing: Mixing) -> torch.Tensor:
        # plain tensors: MONAI's MetaTensor would follow every operation
        image, label = (batch[key].as_subclass(torch.Tensor) for key in ("image", "label"))
        image = image.to(self.device, non_blocking=True, memory_format=torch.channels_last_3d)
        with autocast(self.device, self.amp):
            logits = self.supernet(image, mixing)
        return loss(logits.float(), label.to(self.device, non_blocking=True))

    def _derived_paths(self) -> list[TrellisPath]:
        """The paths of the network that the deriver would choose now, as few as it may choose.

        The cells are searched for the smallest network, and paths fill what is left of the budget afterwards: if
        more paths came in here as the cells grew cheaper, they would ask for cheaper cells still, down to identity.
        """
        with torch.no_grad():
            mixing = self.relaxation()
        space, table = self.expectation.space, self.expectation.table
        return list(self.deriver.propose(mixing, table, space, self.deriver.fewest(space))[0].paths)

    def _warn_of_collapse(self) -> None:
        with torch.no_grad():
            mixing = self.relaxation()
        operations = self.supernet.space.operations
        for kind, nodes in mixing.nodes.items():
            # before decode_cells replaces repeated nodes, which would hide a collapse
            if all(operations[int(p.argmax()) % len(operations)] in PARAMETER_FREE for p in nodes):
                logger.warning(
                    "Every node of the %s cells favours an operation without parameters: the penalty "
                    "(objective#weight %s) under the budget of %s ms outweighs accuracy. "
                    "Lower the one or raise the other.",
                    kind,
                    self.objective.weight,
                    self.aim_ms,
                )

    def _save(self) -> None:
        self._save_checkpoint()
        auto = self.identity["budget_ms"] == "auto"
        save_history(self.folder.parent, self.aim_ms, auto, self.history)

    def _save_checkpoint(self) -> None:
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        content = {
            "parts": parts,
            "history": self.history,
            "identity": self.identity,
            "round": self.round,
            "aim_ms": self.aim_ms,
            "begun": self._begun,
        }
        checkpoint.save_newest(self.folder / "checkpoint.pt", content)

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        content = checkpoint.load(path, self.device, self.identity)
        if content is None:
            space, table = self.expectation.space, self.expectation.table
            resolved = self.constraint.resolve(uniform_mixing(space), self.deriver, table, space, self.runtime)
            assert resolved.budget_ms != "auto"
            self.aim_ms = resolved.budget_ms
            return
        with checkpoint.fitting(path):
            self.round, self.aim_ms = content["round"], content["aim_ms"]
            for name, part in self._parts.items():
                part.load_state_dict(content["parts"][name])
            self.history, self._begun = content["history"], content["begun"]
        logger.info("Resumed after epoch %d of %d from %s", len(self.history), self.epochs, path)

    def _explaining_memory(self) -> AbstractContextManager[None]:
        batch, patch = (self.identity.get(key) for key in ("search_batch_size", "search_patch_size"))
        return explaining_memory(f"a step on {batch} patches of {patch}", SMALLER)


def _cosine(optimizer: torch.optim.Optimizer, epochs: int, final: float) -> torch.optim.lr_scheduler.LambdaLR:
    """From the learning rate to a share ``final`` of it."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: final + (1 - final) * (1 + math.cos(math.pi * epoch / epochs)) / 2
    )


def _endless(loader: Iterable[Batch]) -> Iterator[Batch]:
    return itertools.chain.from_iterable(itertools.repeat(loader))
