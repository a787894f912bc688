"""Bit for bit equality of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def identical(first: Any, second: Any) -> bool:
    """Whether nested values have the same tensors, bit for bit, and equal other values."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(identical(first[key], second[key]) for key in first)
    if isinstance(first, Sequence) and not isinstance(first, str):
        return len(first) == len(second) and all(map(identical, first, second))
    return bool(first == second)
