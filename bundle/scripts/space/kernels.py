"""What the supernet computes most often, with fewer passes over memory and less kept than the library's operations.

Tensors: B batch, C channels, H W in-plane, D slices; O terms of a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

EPSILON = 1e-5  # as torch's batch norm
_ALL_BUT_CHANNELS = (0, 2, 3, 4)


class NormalisedSum(torch.autograd.Function):
    """``sum_o p_o * norm(y_o)`` with batch statistics: batch norms without affine part, products and their sum.

    Statistics and sum are float32 at least, the result has the type of y. Only the y_o are kept for the backward
    pass.
    """

    @staticmethod
    def forward(ctx: Any, scale_OC: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        """The sum, B C H W D.

        Args:
            scale_OC: p_o for each channel.
            tensors: the y_o in order, B (terms * C) H W D: a tensor holds one or more.
        """
        terms, channels = scale_OC.shape
        wide = _widened(tensors)
        mean = torch.cat([y.mean(_ALL_BUT_CHANNELS) for y in wide])
        square = torch.cat([y.square().mean(_ALL_BUT_CHANNELS) for y in wide])
        factor = square.addcmul_(mean, mean, value=-1).clamp_(min=0).add_(EPSILON).rsqrt_()
        gain = scale_OC.flatten() * factor
        total = _along((gain * mean).reshape(terms, channels).sum(0).neg_())
        parts = [part for y in wide for part in y.split(channels, dim=1)]
        for o, (part, gain_C) in enumerate(zip(parts, gain.split(channels), strict=True)):
            term = part, _along(gain_C)
            total = total.addcmul_(*term) if o else torch.addcmul(total, *term)
        ctx.save_for_backward(gain, mean, factor, *tensors)
        return total.to(tensors[0].dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """With n = f (y - m) the normalised y: dL/dp = sum(g n), dL/dy = p f (g - mean(g) - n mean(g n))."""
        gain, mean, factor, *tensors = ctx.saved_tensors
        g, *wide = _widened((gradients[0], *tensors))
        g = g - _along(g.mean(_ALL_BUT_CHANNELS))
        channels = g.shape[1]
        # g has mean 0, so y need not be centred
        product = torch.cat([(_split(y, channels) * g[:, None]).sum((0, 3, 4, 5)).flatten() for y in wide]).mul_(factor)
        slope = (gain * factor).mul_(product).mul_(-channels / g.numel())
        sizes = [y.shape[1] for y in wide]
        rows = zip(wide, slope.split(sizes), (slope * mean).neg_().split(sizes), gain.split(sizes), strict=True)
        results = []
        for y, slope_J, offset_J, gain_J in rows:
            result = torch.addcmul(_along(offset_J), y, _along(slope_J))
            _split(result, channels).addcmul_(g[:, None], _along(gain_J).reshape(-1, channels, 1, 1, 1))
            results.append(result.to(tensors[0].dtype))
        return product.reshape(-1, channels), *results


def _widened(tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """The same in float32 at least."""
    wide = torch.promote_types(tensors[0].dtype, torch.float32)
    return tensors if tensors[0].dtype == wide else [tensor.to(wide) for tensor in tensors]


def _split(y_BCHWD: torch.Tensor, channels: int) -> torch.Tensor:
    """B (terms C) H W D to B terms C H W D."""
    return y_BCHWD.unflatten(1, (-1, channels))


def _along(values_C: torch.Tensor) -> torch.Tensor:
    return values_C[:, None, None, None]


def pool_3x3x3(x_BCHWD: torch.Tensor) -> torch.Tensor:
    """3x3x3 max-pooling with stride 1: in plane with the slices among the channels, then across them.

    Several times as fast on a CPU, which pools many channels at once and has few of them here.
    """
    return _PoolSlices.apply(_pool_planes(x_BCHWD, 3, 1, 1))


def pool_2x2x1(x_BCHWD: torch.Tensor) -> torch.Tensor:
    """Max-pooling that halves H and W."""
    return _pool_planes(x_BCHWD, 2, 2, 0)


def _pool_planes(x_BCHWD: torch.Tensor, kernel: int, stride: int, padding: int) -> torch.Tensor:
    batch, channels, height, width, depth = x_BCHWD.shape
    planes = x_BCHWD.permute(0, 2, 3, 4, 1).reshape(batch, height, width, depth * channels).permute(0, 3, 1, 2)
    planes = _MaxPool.apply(planes, kernel, stride, padding).permute(0, 2, 3, 1)
    return planes.reshape(*planes.shape[:3], depth, channels).permute(0, 4, 1, 2, 3)


class _MaxPool(torch.autograd.Function):
    """2D max-pooling that keeps short indices alone; the library's keeps its input and long ones."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: torch.Tensor, *window: Any) -> torch.Tensor:
        y_BCHW, index = F.max_pool2d(x_BCHW, *window, return_indices=True)
        ctx.save_for_backward(index.int())
        ctx.window, ctx.shape = window, x_BCHW.shape
        return y_BCHW

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,) = gradients
        (index,) = ctx.saved_tensors
        shaped = torch.empty(ctx.shape, dtype=g.dtype, device=g.device, memory_format=torch.channels_last)
        kernel, stride, padding = ([size, size] if isinstance(size, int) else list(size) for size in ctx.window)
        x_gradient = torch.ops.aten.max_pool2d_with_indices_backward(
            g, shaped, kernel, stride, padding, [1, 1], False, index.long()
        )
        return x_gradient, None, None, None


class _PoolSlices(torch.autograd.Function):
    """The maximum of each slice and its neighbours; the gradient goes to the slice itself before the one below, and
    to that before the one above."""

    @staticmethod
    def forward(ctx: Any, x_BCHWD: torch.Tensor) -> torch.Tensor:
        y_BCHWD = x_BCHWD.clone()
        torch.maximum(y_BCHWD[..., 1:], x_BCHWD[..., :-1], out=y_BCHWD[..., 1:])
        torch.maximum(y_BCHWD[..., :-1], x_BCHWD[..., 1:], out=y_BCHWD[..., :-1])
        ctx.save_for_backward(x_BCHWD, y_BCHWD)
        return y_BCHWD

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (g,) = gradients
        x_BCHWD, y_BCHWD = ctx.saved_tensors
        result = g * (x_BCHWD == y_BCHWD)
        rest = g - result
        below = rest[..., 1:] * (x_BCHWD[..., :-1] == y_BCHWD[..., 1:])
        result[..., :-1] += below
        rest[..., 1:] -= below
        result[..., 1:] += rest[..., :-1]
        return result
