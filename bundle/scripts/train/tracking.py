"""Curves for TensorBoard, where that is installed; MLflow comes by MONAI's own switch, ``--tracking mlflow``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai.handlers import MLFlowHandler
from monai.utils import optional_import

from scripts.core.distributed import is_main
from scripts.core.files import writing


class CurveWriter:
    """A SummaryWriter for MONAI's TensorBoardStatsHandler that begins with its first value, and writes none without
    TensorBoard.

    A run that resumes goes on in a file of its own, from whose first step on TensorBoard forgets those before it.

    Args:
        folder: the event files go here; one folder for each unit of the steps (epochs, optimiser steps).
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
        """Every number of an epoch's entry in a history; those of a mapping as NAME/KEY."""
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
    """End the runs of MLflow among an evaluator's handlers; MONAI ends those of a trainer itself, and would go on in
    one that has no end at the next step."""
    for handler in handlers:
        if isinstance(handler, MLFlowHandler):
            handler.close()
