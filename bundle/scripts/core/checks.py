"""Checks that stop a step before it does harm: losses that are not finite, and too little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from scripts.core.errors import CineError


def check_finite(loss: torch.Tensor, name: str) -> None:
    """Raise CineError if a loss is NaN or infinite. It waits for the device; call it before the optimiser's step."""
    if not torch.isfinite(loss):
        raise CineError(
            name,
            str(loss.item()),
            "a finite number",
            "The last checkpoint is intact. Lower the learning rate in another work_dir, or check the exams.",
        )


@contextmanager
def explaining_memory(shape: str, action: str) -> Iterator[None]:
    """Turn an out-of-memory error of a CPU or GPU into a CineError that gives the shape and what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise CineError(shape, "not enough memory", "a step that fits", action) from error
