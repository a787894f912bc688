"""The candidate operations and the scaling operations.

Tensors: B batch, C channels, H W in-plane, D slices. Convolutions are ReLU-Conv-BatchNorm, so that the norm can be
folded into the convolution at deployment. Source: hardware-aware NAS (ICCAD 2020), Table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from scripts.space.registry import REGISTRY, Form, Operation
from scripts.space.trellis import Kind

Norm = Callable[[int], nn.Module]


def search_norm(channels: int) -> nn.Module:
    """BatchNorm while searching: batch statistics, and no affine part, which would rescale the mixing weights."""
    return nn.BatchNorm3d(channels, affine=False, track_running_stats=False)


def _padding(operation: Operation) -> tuple[int, int, int]:
    height, width, depth = (operation.dilation * (k // 2) for k in operation.kernel)
    return height, width, depth


def _kernel_convolution(operation: Operation, channels: int, groups: int = 1) -> nn.Module:
    shape: dict[str, Any] = {"padding": _padding(operation), "dilation": operation.dilation}
    return nn.Conv3d(channels, channels, operation.kernel, **shape, groups=groups, bias=False)


def _conv(operation: Operation, channels: int, norm: Norm) -> nn.Module:
    return nn.Sequential(nn.ReLU(), _kernel_convolution(operation, channels), norm(channels))


def _separable(operation: Operation, channels: int, norm: Norm) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        _kernel_convolution(operation, channels, groups=channels),
        nn.Conv3d(channels, channels, 1, bias=False),
        norm(channels),
    )


class Zero(nn.Module):
    """Zeros in the shape of its input."""

    def forward(self, x_BCHWD: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x_BCHWD)


_BUILDERS: dict[Form, Callable[[Operation, int, Norm], nn.Module]] = {
    "convolution": _conv,
    "separable": _separable,
    "pooling": lambda operation, channels, norm: nn.MaxPool3d(operation.kernel, 1, _padding(operation)),
    "identity": lambda operation, channels, norm: nn.Identity(),
    "zero": lambda operation, channels, norm: Zero(),
}


def build_operation(name: str, channels: int, norm: Norm = nn.BatchNorm3d) -> nn.Module:
    """A candidate operation, from B C H W D to the same shape."""
    operation = REGISTRY[name]
    return _BUILDERS[operation.form](operation, channels, norm)


class PointwiseSum(nn.Conv3d):
    """The 1x1x1 convolution of several concatenated tensors, computed as a sum of one convolution per tensor.

    This needs no concatenation, for which inference engines copy tensors or change layouts.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1, bias=False)

    def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
        return self.add_up(parts, F.conv3d)

    def add_up(self, parts: list[torch.Tensor], convolve: Callable[..., torch.Tensor]) -> torch.Tensor:
        """The sum of ``convolve(tensor, its part of the weight, bias)``; only the first call gets the bias."""
        first, *others = self.weight.split([part.shape[1] for part in parts], dim=1)
        total = convolve(parts[0], first, self.bias)
        for part, weight in zip(parts[1:], others, strict=True):
            total = total + convolve(part, weight, None)
        return total


class Scaling(nn.Module):
    """The scaling operation that ends a cell: from N nodes B (W 2^s) H W D to the width and size of the target scale.

    Contracting: in-plane 2x2 max-pooling, then 1x1x1 convolution and norm. Expanding: 1x1x1 convolution and
    norm, then in-plane bilinear upsampling by 2. Non-scaling: 1x1x1 convolution and norm.
    """

    def __init__(self, kind: Kind, in_channels: int, out_channels: int, norm: Norm = nn.BatchNorm3d):
        super().__init__()
        self.kind = kind
        self.conv = PointwiseSum(in_channels, out_channels)
        self.norm = norm(out_channels)

    def forward(self, nodes: list[torch.Tensor]) -> torch.Tensor:
        if self.kind == "contracting":
            nodes = [F.max_pool3d(node, (2, 2, 1)) for node in nodes]
        x_BCHWD = self.norm(self.conv(nodes))
        return upsample_in_plane(x_BCHWD, 2) if self.kind == "expanding" else x_BCHWD


def join_convolutions(operations: Sequence[nn.Module]) -> tuple[torch.Tensor, tuple[int, ...], tuple[int, ...]]:
    """Weight, padding and dilation of one convolution that computes several candidates of a group.

    A separable convolution has nothing between its two steps, so it equals one dense convolution with the product of
    their kernels. That takes more multiplications, but dense kernels are faster.
    """
    weights = []
    for operation in operations:
        first, *pointwise = (step for step in operation.children() if isinstance(step, nn.Conv3d))
        weights.append(pointwise[0].weight * first.weight.transpose(0, 1) if pointwise else first.weight)
    return torch.cat(weights), first.padding, first.dilation  # type: ignore[return-value]


def upsample_in_plane(x_BCHWD: torch.Tensor, factor: int) -> torch.Tensor:
    """Bilinear upsampling of every slice by an integer factor.

    Eager code uses ``upsample_planes``. An exported graph keeps one upsampling operation, which preserves the memory
    layout. After a permutation, engines would continue in the planar layout, in which pooling takes four times as long.
    """
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return F.interpolate(x_BCHWD, scale_factor=(float(factor), float(factor), 1.0), mode="trilinear")
    return upsample_planes(x_BCHWD, factor)


def upsample_planes(x_BCHWD: torch.Tensor, factor: int) -> torch.Tensor:
    """Bilinear upsampling of every slice, with the slices folded into the channels.

    The folding is a view in channels_last_3d. On a CPU this is much faster than trilinear interpolation with factor 1
    along D, with equal results.
    """
    batch, channels, height, width, depth = x_BCHWD.shape
    planes = x_BCHWD.permute(0, 2, 3, 4, 1).reshape(batch, height, width, depth * channels).permute(0, 3, 1, 2)
    planes = F.interpolate(planes, scale_factor=float(factor), mode="bilinear", align_corners=False)
    planes = planes.permute(0, 2, 3, 1).reshape(batch, factor * height, factor * width, depth, channels)
    return planes.permute(0, 4, 1, 2, 3)
