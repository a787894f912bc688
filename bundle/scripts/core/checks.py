"""What stops a step before it does harm: losses that are no numbers, memory that does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from scripts.core.errors import CineError


def check_finite(loss: torch.Tensor, name: str) -> None:
    """CineError where a loss is NaN or infinite, which waits for the device; call it before the optimiser's step."""
    if not torch.isfinite(loss):
        raise CineError(
            name,
            str(loss.item()),
            "a finite number",
            "The last checkpoint is whole. Lower the learning rate in another work_dir, or look at the exams.",
        )


@contextmanager
def explaining_memory(shape: str, action: str) -> Iterator[None]:
    """Turn memory that does not suffice, of a CPU or a GPU, into a CineError with the shape at work and what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise CineError(shape, "not enough memory", "a step that fits", action) from error
