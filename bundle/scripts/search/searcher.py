"""The alternating optimisation of weights and architecture parameters (RT-DNAS 3.1, first order)."""

from __future__ import annotations

import itertools
import logging
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch

from scripts.distributed import average_gradients, mean, on_main
from scripts.files import CineError, replacing
from scripts.latency.expectation import LatencyExpectation
from scripts.runtime.deploy import Runtime
from scripts.safety import check_finite
from scripts.search.constraint import Constraint
from scripts.search.derive import Deriver
from scripts.search.history import save_history
from scripts.search.loop import Batch, Carried, EpochLoop, cosine
from scripts.search.objective import LatencyObjective, WeightedLatency
from scripts.search.relaxation import Relaxation, entropies, parameter_free_share, uniform_mixing
from scripts.space.space import PARAMETER_FREE
from scripts.space.supernet import Mixing, Supernet
from scripts.space.trellis import Path

logger = logging.getLogger(__name__)

NEAR = 0.9  # a share of the budget above which the penalty is felt


class Searcher(EpochLoop):
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
        known = {
            "warm_up_epochs": warm_up_epochs,
            "budget_ms": constraint.budget_ms,
            "space": asdict(expectation.space),
            "latency_table_sha256": expectation.table.digest,
            **(identity or {}),
        }
        loaders = {"weight": weight_loader, "architecture": architecture_loader}
        super().__init__(supernet, loaders, work_dir, epochs, seed, device, amp, known)
        self.relaxation = relaxation.to(self.device)
        self.weight_loader, self.architecture_loader = weight_loader, architecture_loader
        self.weight_loss, self.architecture_loss = weight_loss, architecture_loss
        self.objective, self.expectation = objective, expectation
        self.deriver, self.constraint, self.runtime = deriver, constraint, runtime
        self.weight_optimizer = weight_optimizer(self.supernet.parameters())
        self.architecture_optimizer = architecture_optimizer(self.relaxation.parameters())
        self.weight_scheduler = cosine(self.weight_optimizer, epochs, final_lr)
        self.architecture_scheduler = cosine(self.architecture_optimizer, epochs - warm_up_epochs, final_lr)
        self.warm_up_epochs = warm_up_epochs
        # L_ub of this round; "auto" is resolved when the search starts
        self.aim_ms = math.nan if constraint.budget_ms == "auto" else constraint.budget_ms
        self._initial = {name: deepcopy(part.state_dict()) for name, part in self.parts.items()}

    @property
    def parts(self) -> dict[str, Any]:
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
        ran = len(self.history)
        self.run_epochs()
        if len(self.history) > ran:
            self._warn_of_collapse()
        with torch.no_grad():
            return self.relaxation()

    def restart(self, aim_ms: float) -> None:
        """Begin the next round: all as it was at the start, under another L_ub; the last round's history is kept."""
        self._keep_history()
        self.load_parts(self._initial)
        self.history, self.round, self.aim_ms = [], self.round + 1, aim_ms
        self.save_checkpoint()

    @on_main
    def _keep_history(self) -> None:
        history = self.folder / "history.json"
        with replacing(history.with_name(f"history_round{self.round}.json")) as kept:
            shutil.copyfile(history, kept)

    def start_anew(self) -> None:
        space, table = self.expectation.space, self.expectation.table
        resolved = self.constraint.resolve(uniform_mixing(space), self.deriver, table, space, self.runtime)
        assert resolved.budget_ms != "auto"
        self.aim_ms = resolved.budget_ms

    def state(self) -> dict[str, Any]:
        return {"round": self.round, "aim_ms": self.aim_ms}

    def restore(self, state: dict[str, Any]) -> None:
        self.round, self.aim_ms = state["round"], state["aim_ms"]

    def save_epoch(self) -> None:
        self.save_checkpoint()
        save_history(
            self.folder.parent,
            self.aim_ms,
            self.identity["budget_ms"] == "auto",
            self.history,
            self.identity.get("exams", []),
        )

    def begin_epoch(self, epoch: int) -> Carried:
        return {"sums": torch.zeros(3, device=self.device), "derived": self._derived_paths()}

    def batches(self, epoch: int) -> Iterator[tuple[Batch, Batch | None]]:
        alternating = epoch >= self.warm_up_epochs
        others = itertools.chain.from_iterable(itertools.repeat(self.architecture_loader))
        for batch in self.weight_loader:
            yield batch, next(others) if alternating else None

    def step(self, epoch: int, number: int, batch: tuple[Batch, Batch | None], carried: Carried) -> None:
        weight_batch, architecture_batch = batch
        weight_loss = self.weight_step(weight_batch)
        accuracy_loss = loss = torch.zeros((), device=self.device)
        if architecture_batch is not None:
            accuracy_loss, loss = self.architecture_step(architecture_batch, carried["derived"], self._progress(epoch))
        carried["sums"] += torch.stack([weight_loss, accuracy_loss, loss])

    def end_epoch(self, epoch: int, carried: Carried) -> dict[str, Any]:
        alternating = epoch >= self.warm_up_epochs
        self.weight_scheduler.step()
        if alternating:
            self.architecture_scheduler.step()
        with torch.no_grad():
            mixing = self.relaxation()
            latency_ms = float(self.expectation(mixing, carried["derived"]))
        means = (carried["sums"] / len(self.weight_loader)).tolist()  # type: ignore[arg-type]
        return {
            "weight_loss": means[0],
            "accuracy_loss": means[1] if alternating else None,
            "objective": means[2] if alternating else None,
            "latency_ms": latency_ms,
            "penalty_weight": self.objective.weight_at(self._progress(epoch)) if alternating else 0.0,
            "entropy": entropies(mixing, self.supernet.space),
            "parameter_free_share": parameter_free_share(mixing, self.supernet.space),
            "mixing": mixing.to_lists(),
        }

    def _progress(self, epoch: int) -> float:
        return (epoch - self.warm_up_epochs) / (self.epochs - self.warm_up_epochs)

    def weight_step(self, batch: Batch) -> torch.Tensor:
        """One step of the weights under the plain segmentation loss; the architecture parameters stay."""
        with torch.no_grad():
            mixing = self.relaxation()
        return self.descend(self.weight_optimizer, self.weight_loss, batch, lambda image: self.supernet(image, mixing))

    def architecture_step(
        self, batch: Batch, derived: list[Path], progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of the architecture parameters under the objective; the weights stay. Returns L_a and the loss."""
        self.supernet.requires_grad_(False)
        try:
            self.architecture_optimizer.zero_grad()
            mixing = self.relaxation()
            accuracy_loss = self.loss(self.architecture_loss, batch, lambda image: self.supernet(image, mixing))
            latency_ms = self.expectation(self.relaxation.for_latency(progress), derived)
            loss = self.objective(accuracy_loss, latency_ms, self.aim_ms, progress)
            loss.backward()
            accuracy_loss, loss = mean(accuracy_loss), mean(loss)
            check_finite(loss, self._where + "architecture loss")
            average_gradients(self.architecture_optimizer)
            self.architecture_optimizer.step()
        finally:
            self.supernet.requires_grad_(True)
        return accuracy_loss, loss

    def _derived_paths(self) -> list[Path]:
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
        operations, latency_ms = self.supernet.space.operations, self.history[-1]["latency_ms"]
        if latency_ms > NEAR * self.aim_ms:
            cause = f"the penalty (objective#weight {self.objective.weight}) under the budget of {self.aim_ms} ms "
            cause += "outweighs accuracy. Lower the one or raise the other"
        else:
            cause = (
                f"L_t, {latency_ms:.1f} ms, leaves room in the budget of {self.aim_ms} ms, so it is what works without "
            )
            cause += "learning that leads. Raise warm_up_epochs, or leave some of them out of space#operations"
        for kind, nodes in mixing.nodes.items():
            # before decode_cells replaces repeated nodes, which would hide a collapse
            if all(operations[int(p.argmax()) % len(operations)] in PARAMETER_FREE for p in nodes):
                text = "Every node of the %s cells favours an operation without parameters: %s."
                logger.warning(text, kind, cause)
