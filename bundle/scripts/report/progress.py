"""Progress of a training: a bar with the remaining time, a history file, and curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

from scripts.core.distributed import is_main, on_main
from scripts.core.json_files import read_json, write_json
from scripts.report.style import save_figure
from scripts.report.training_figures import training_curves_figure

SCHEMA: dict[str, Any] = {"type": "array", "items": {"type": "object", "required": ["epoch", "loss"]}}


class TrainingProgress:
    """Trainer handler; attach it after the handlers that resume and validate.

    Args:
        folder: ``history.json`` and ``curves.png`` are written here.
        optimizer: its learning rate is recorded.
        evaluator: if given, its key metric is recorded as val_dice after each of its runs.
    """

    def __init__(self, folder: str, optimizer: Any, evaluator: Engine | None = None):
        self.folder, self.optimizer, self.evaluator = Path(folder), optimizer, evaluator
        self.history: list[dict[str, Any]] = []
        self.loss_sum, self.loss_count = 0.0, 0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._record)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        path = self.folder / "history.json"
        if engine.state.epoch and path.exists():  # resumed
            entries = read_json(path, SCHEMA, "Delete it; the curves then start at the epoch that resumes.")
            self.history = [entry for entry in entries if entry["epoch"] <= engine.state.epoch]
        total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        self.bar = tqdm(total=total, initial=engine.state.iteration, desc="train", unit="step", disable=not is_main())

    def _step(self, engine: Engine) -> None:
        # a sum on the device: reading each loss would wait for the device
        output: Any = engine.state.output
        self.loss_sum, self.loss_count = self.loss_sum + output[0]["loss"].detach(), self.loss_count + 1
        self.bar.update()

    def _record(self, engine: Engine) -> None:
        entry = {
            "epoch": engine.state.epoch,
            "loss": float(self.loss_sum) / self.loss_count,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        self.loss_sum, self.loss_count = 0.0, 0
        if self.evaluator is not None and self.evaluator.state.metrics and self._validated(engine):
            entry["val_dice"] = float(next(iter(self.evaluator.state.metrics.values())))
        self.history.append(entry)
        self.bar.set_postfix({k: f"{v:.4g}" for k, v in entry.items() if k != "lr"})
        on_main(write_json)(self.folder / "history.json", self.history)

    def _validated(self, engine: Engine) -> bool:
        """Whether the evaluator ran in this epoch: MONAI numbers its runs by the trainer's epoch."""
        return bool(self.evaluator and self.evaluator.state.epoch == engine.state.epoch)

    def _finish(self, engine: Engine) -> None:
        self.bar.close()
        on_main(self._draw)()

    def _draw(self) -> None:
        save_figure(training_curves_figure(self.history), self.folder / "curves.png")
