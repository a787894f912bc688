"""Curves for TensorBoard, if it is installed; for MLflow, MONAI has its own switch, ``--tracking mlflow``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai.handlers import MLFlowHandler
from monai.utils import optional_import

from scripts.core.distributed import is_main
from scripts.core.files import writing


class CurveWriter:
    """A SummaryWriter for MONAI's TensorBoardStatsHandler that starts with its first value.

    Without TensorBoard it does nothing.

    A resumed run has its own file. From the first step of that file on, TensorBoard discards older values.

    Args:
        folder: the folder of the event files; one folder for each unit of steps (epochs, optimiser steps).
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._writer: Any = None

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        if not is_main():
            return
        if self._writer is None:
            writer, installed = optional_import("torch.utils.tensorboard", name="SummaryWriter")
            if not installed:
                return
            with writing(self.folder):
                self._writer = writer(str(self.folder), purge_step=step)
        self._writer.add_scalar(tag, value, step)

    def add_entry(self, entry: Mapping[str, Any], step: int) -> None:
        """Add every number of an epoch's entry in a history; numbers of a mapping get the name NAME/KEY."""
        for name, value in entry.items():
            numbers = {f"{name}/{key}": v for key, v in value.items()} if isinstance(value, Mapping) else {name: value}
            for tag, number in numbers.items():
                if isinstance(number, int | float):
                    self.add_scalar(tag, number, step)
        self.flush()

    def flush(self) -> None:
        if self._writer is not None:
            with writing(self.folder):
                self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def end_tracking(handlers: Iterable[Any]) -> None:
    """End the MLflow runs of an evaluator's handlers.

    MONAI only ends those of a trainer. In the next step it would continue a run that was not ended.
    """
    for handler in handlers:
        if isinstance(handler, MLFlowHandler):
            handler.close()
