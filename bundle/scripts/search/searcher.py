"""Alternating optimisation of weights and architecture parameters (RT-DNAS 3.1, first order)."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch

from scripts.core.checks import check_finite
from scripts.core.distributed import average_gradients, mean, on_main
from scripts.core.errors import CineError
from scripts.core.files import replacing
from scripts.latency.expectation import LatencyExpectation
from scripts.run.config_schema import check_phase
from scripts.search.advice import log_how_it_ended, warn_of_a_budget_that_cannot_bind, warn_of_collapse
from scripts.search.derive import Deriver
from scripts.search.descent import Batch
from scripts.search.discrete import draw_network
from scripts.search.history import HISTORY, save_history
from scripts.search.judge import Judge
from scripts.search.loop import Carried, EpochLoop, Half, cosine
from scripts.search.objective import Objective
from scripts.search.relaxation import Relaxation, entropies, parameter_free_share, uniform_mixing
from scripts.space.mixing import Mixing
from scripts.space.supernet import Supernet
from scripts.space.trellis import Path


class Searcher(EpochLoop):
    """Searches mixing weights; checkpoints each epoch and resumes from the newest checkpoint.

    Args:
        supernet: the relaxed network.
        relaxation: the architecture parameters; calling it gives the mixing weights.
        discrete: whether every step computes a discrete network drawn from the mixing weights (``draw_network``), so
            that the shared weights can rank networks; otherwise each step computes the mixture.
        weights: trains the weights.
        architecture: trains the architecture parameters; its loss is L_a.
        objective: computes the loss of the architecture parameters from L_a and L_t.
        expectation: computes L_t from the mixing weights.
        deriver: gives the cells that would be derived now.
        judge: its budget is L_ub; it resolves an "auto" budget once, when the search starts.
        work_dir: checkpoints and ``history.json`` go to its folder ``search``.
        epochs: the number of epochs.
        warm_up_epochs: the number of first epochs, which only train the weights.
        seed: seeds every epoch together with its number, so that a resumed search gives the same result.
        device: where to search.
        amp: bfloat16 autocast of the supernet if the device computes in bfloat16; architecture parameters and
            latency stay float32.
        identity: what a resumed search must share with the checkpoint (exams, space ...).
    """

    def __init__(
        self,
        supernet: Supernet,
        relaxation: Relaxation,
        weights: Half,
        architecture: Half,
        objective: Objective,
        expectation: LatencyExpectation,
        deriver: Deriver,
        judge: Judge,
        work_dir: str,
        epochs: int,
        discrete: bool = False,
        warm_up_epochs: int = 0,
        seed: int = 0,
        device: str | torch.device = "cpu",
        amp: bool = True,
        identity: dict[str, Any] | None = None,
    ):
        check_phase("warm_up_epochs", warm_up_epochs, epochs)
        if discrete and (supernet.partial != 1 or expectation.space.skip):
            found = f"partial_channels {supernet.partial}, skip {expectation.space.skip}"
            expected = "1 and false: discrete networks compute all channels, and have no gates on skip edges"
            raise CineError("discrete", found, expected, "Change them, or search with --discrete False.")
        known = {
            "warm_up_epochs": warm_up_epochs,
            "budget_ms": judge.constraint.budget_ms,
            "discrete": discrete,
            "space": asdict(expectation.space),
            "latency_table_sha256": expectation.table.digest,
            **(identity or {}),
        }
        loaders = {"weight": weights.loader, "architecture": architecture.loader}
        super().__init__(supernet, loaders, work_dir, epochs, seed, device, amp, known)
        self.relaxation = relaxation.to(self.device)
        self.weights, self.architecture = weights, architecture
        self.objective, self.expectation = objective.to(self.device), expectation
        self.deriver, self.judge = deriver, judge
        self.space = expectation.space
        self.discrete, self.generator = discrete, torch.Generator()
        self.weight_optimizer = weights.optimizer(self.supernet.parameters())
        self.architecture_optimizer = architecture.optimizer(self.relaxation.parameters())
        self.weight_scheduler = cosine(self.weight_optimizer, epochs, weights.final_lr)
        alternating = epochs - warm_up_epochs
        self.architecture_scheduler = cosine(self.architecture_optimizer, alternating, architecture.final_lr)
        self.warm_up_epochs = warm_up_epochs
        # L_ub of this round; "auto" is resolved when the search starts
        budget_ms = judge.constraint.budget_ms
        self.aim_ms = math.nan if budget_ms == "auto" else budget_ms
        self._initial = {name: deepcopy(part.state_dict()) for name, part in self.parts.items()}

    @property
    def parts(self) -> dict[str, Any]:
        return {
            "supernet": self.supernet,
            "relaxation": self.relaxation,
            "objective": self.objective,
            "weight_optimizer": self.weight_optimizer,
            "architecture_optimizer": self.architecture_optimizer,
            "weight_scheduler": self.weight_scheduler,
            "architecture_scheduler": self.architecture_scheduler,
        }

    def run(self) -> Mixing:
        """Search to the end, from the newest checkpoint if there is one; returns the final mixing weights."""
        ran = len(self.history)
        self.run_epochs()
        if len(self.history) > ran:
            self._advise()
        with torch.no_grad():
            return self.relaxation()

    def _advise(self) -> None:
        last = self.history[-1]
        bound = self.expectation.network == "union"
        log_how_it_ended(last["latency_ms"], self.aim_ms, must_bind=bound)
        with torch.no_grad():
            mixing = self.relaxation()
        warn_of_collapse(mixing, self.space, last["latency_ms"], self.aim_ms, last["penalty_weight"])

    def restart(self, aim_ms: float) -> None:
        """Begin the next round with the initial state under another L_ub; the last round's history is kept."""
        self._keep_history()
        self.load_parts(self._initial)
        self.history, self.round, self.aim_ms = [], self.round + 1, aim_ms
        self.save_checkpoint()

    @on_main
    def _keep_history(self) -> None:
        history = self.folder / HISTORY
        with replacing(history.with_name(f"history_round{self.round}.json")) as kept:
            shutil.copyfile(history, kept)

    def start_fresh(self) -> None:
        budget_ms = self.judge.resolved(uniform_mixing(self.space), self.deriver).constraint.budget_ms
        assert budget_ms != "auto"
        self.aim_ms = budget_ms
        if self.expectation.network == "union":
            warn_of_a_budget_that_cannot_bind(self.expectation, self.aim_ms)

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
        reads_paths = self.expectation.network in ("derived", "n_best")
        return {"sums": torch.zeros(3, device=self.device), "derived": self._derived_paths() if reads_paths else []}

    def batches(self, epoch: int) -> Iterator[tuple[Batch, Batch | None]]:
        alternating = epoch >= self.warm_up_epochs
        others = itertools.chain.from_iterable(itertools.repeat(self.architecture.loader))
        for batch in self.weights.loader:
            yield batch, next(others) if alternating else None

    def step(self, epoch: int, number: int, batch: tuple[Batch, Batch | None], carried: Carried) -> None:
        weight_batch, architecture_batch = batch
        self.generator.manual_seed(((self.seed * 10_007 + epoch) * 100_003 + number) % 2**63)
        weight_loss = self.weight_step(weight_batch)
        accuracy_loss = loss = torch.zeros((), device=self.device)
        if architecture_batch is not None:
            done = self._progress(epoch, (number - 1) / len(self.weights.loader))  # type: ignore[arg-type]
            accuracy_loss, loss = self.architecture_step(architecture_batch, carried["derived"], done)
        carried["sums"] += torch.stack([weight_loss, accuracy_loss, loss])

    def end_epoch(self, epoch: int, carried: Carried) -> dict[str, Any]:
        alternating = epoch >= self.warm_up_epochs
        self.weight_scheduler.step()
        if alternating:
            self.architecture_scheduler.step()
        with torch.no_grad():
            mixing = self.relaxation()
            latency_ms = float(self.expectation(mixing, carried["derived"]))
        means = (carried["sums"] / len(self.weights.loader)).tolist()  # type: ignore[arg-type]
        return {
            "weight_loss": means[0],
            "accuracy_loss": means[1] if alternating else None,
            "objective": means[2] if alternating else None,
            "latency_ms": latency_ms,
            "penalty_weight": self.objective.weight_at(self._progress(epoch)) if alternating else 0.0,
            "entropy": entropies(mixing, self.space),
            "parameter_free_share": parameter_free_share(mixing, self.space),
            "mixing": mixing.to_lists(),
        }

    def _progress(self, epoch: int, share: float = 0.0) -> float:
        """The share 0..1 of the alternating epochs that have passed, including a share of this one."""
        return (epoch + share - self.warm_up_epochs) / (self.epochs - self.warm_up_epochs)

    def weight_step(self, batch: Batch) -> torch.Tensor:
        """One step of the weights under the plain segmentation loss; the architecture parameters do not change."""
        with torch.no_grad():
            mixing = self.relaxation()
        return self.descend(self.weight_optimizer, self.weights.loss, batch, self._forward(mixing))

    def _forward(self, mixing: Mixing) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function from image to logits: the mixture, or a discrete network drawn from it."""
        if not self.discrete:
            return lambda image_BCHWD: self.supernet(image_BCHWD, mixing)
        network = draw_network(mixing, self.space, self.expectation.count, self.generator)
        return network.forward_of(self.supernet)

    def architecture_step(
        self, batch: Batch, derived: list[Path], progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of the architecture parameters under the objective, with fixed weights. Returns L_a and the loss."""
        self.supernet.requires_grad_(False)
        try:
            self.architecture_optimizer.zero_grad()
            mixing = self.relaxation()
            accuracy_loss = self.loss(self.architecture.loss, batch, self._forward(mixing))
            latency_ms = self.expectation(self.relaxation.for_latency(progress), derived)
            loss = self.objective(accuracy_loss, latency_ms, self.aim_ms, progress)
            loss.backward()
            accuracy_loss, loss = mean(accuracy_loss), mean(loss)
            check_finite(loss, self._where + "architecture loss")
            average_gradients(self.architecture_optimizer)
            self.architecture_optimizer.step()
            self.objective.update(latency_ms.detach(), self.aim_ms, progress)
        finally:
            self.supernet.requires_grad_(True)
        return accuracy_loss, loss

    def _derived_paths(self) -> list[Path]:
        """The paths of the network that the deriver would choose now.

        A deriver of the fastest network uses as few paths as it may. The cells are searched for the smallest network,
        and more paths fill the rest of the budget afterwards. If the number of paths rose here as cells became cheaper,
        the paths would require even cheaper cells, down to identity.
        """
        with torch.no_grad():
            mixing = self.relaxation()
        space, table = self.expectation.space, self.expectation.table
        count = self.deriver.aim(space)
        return list(self.deriver.propose(mixing, table, space, (count, count), (0.0, self.aim_ms))[0].paths)
