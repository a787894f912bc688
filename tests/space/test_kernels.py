from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from scripts.space.kernels import NormalisedSum, pool_2x2x1, pool_3x3x3


def channels_last(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64).to(memory_format=torch.channels_last_3d).requires_grad_()


def test_normalised_sum_is_batch_norm_times_scale_summed():
    first, second = channels_last(2, 6, 4, 5, 3), channels_last(2, 3, 4, 5, 3)
    scale = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    terms = [*first.split(3, dim=1), second]
    expected = sum(
        p[:, None, None, None] * F.batch_norm(term, None, None, training=True)
        for term, p in zip(terms, scale, strict=True)
    )
    found = NormalisedSum.apply(scale, first, second)
    torch.testing.assert_close(found, expected)
    g = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad(found, (scale, first, second), g),
        torch.autograd.grad(expected, (scale, first, second), g),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_normalised_sum_against_finite_differences():
    y, scale = channels_last(2, 4, 2, 2, 2), torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda scale, y: NormalisedSum.apply(scale, y), (scale, y))


def test_a_constant_channel_stays_finite():
    y = torch.full((1, 1, 2, 2, 2), 1e3, requires_grad=True)
    (gradient,) = torch.autograd.grad(NormalisedSum.apply(torch.ones(1, 1), y).sum(), y)
    assert torch.isfinite(gradient).all()


def test_normalised_sum_of_bfloat16_computes_in_float32():
    y = (torch.randn(2, 3, 8, 8, 4) + 3).bfloat16()
    expected = F.batch_norm(y.float(), None, None, training=True).bfloat16()
    torch.testing.assert_close(NormalisedSum.apply(torch.ones(1, 3), y), expected)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("ours", "library"),
    [
        (pool_3x3x3, lambda x: F.max_pool3d(x, 3, stride=1, padding=1)),
        (pool_2x2x1, lambda x: F.max_pool3d(x, (2, 2, 1))),
    ],
)
def test_pooling_is_the_library_s(ours, library, batch):
    x = channels_last(batch, 4, 6, 8, 3)
    found, expected = ours(x), library(x)
    assert torch.equal(found, expected)
    g = torch.randn_like(found)
    torch.testing.assert_close(torch.autograd.grad(found, x, g), torch.autograd.grad(expected, x, g))


def test_pooling_keeps_no_input():
    """The library keeps its input and 8 bytes an index."""
    x, saved = channels_last(1, 4, 8, 8, 2), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
        pool_2x2x1(x)
    assert sum(saved) == x.numel() // 4 * 4
