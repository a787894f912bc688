from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from scripts.space.kernels import pool_2x2x1, pool_3x3x3


def channels_last(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64).to(memory_format=torch.channels_last_3d).requires_grad_()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("ours", "library"),
    [
        (pool_3x3x3, lambda x: F.max_pool3d(x, 3, stride=1, padding=1)),
        (pool_2x2x1, lambda x: F.max_pool3d(x, (2, 2, 1))),
    ],
)
def test_pooling_equals_the_library_s(ours, library, batch):
    x = channels_last(batch, 4, 6, 8, 3)
    found, expected = ours(x), library(x)
    assert torch.equal(found, expected)
    g = torch.randn_like(found)
    torch.testing.assert_close(torch.autograd.grad(found, x, g), torch.autograd.grad(expected, x, g))


def test_pooling_keeps_no_input():
    """The library keeps its input and 8 bytes per index."""
    x, saved = channels_last(1, 4, 8, 8, 2), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
        pool_2x2x1(x)
    assert sum(saved) == x.numel() // 4 * 4
