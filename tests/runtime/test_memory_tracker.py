from __future__ import annotations

import torch

from scripts.runtime.memory_tracker import LiveTensors


def test_the_sum_of_live_tensors_computed_by_hand():
    """Three tensors of 400 bytes; two of them are in memory at the same time."""
    with LiveTensors() as tensors:
        a = torch.zeros(100, device="meta")
        b = a + 1
        del a
        c = b + 1
        del b, c
    assert (tensors.peak, tensors.now) == (800, 0)
