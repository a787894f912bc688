"""Convolutions in 8-bit integers, which CPUs with VNNI compute two to three times as fast as float32.

The inputs of a convolution are rounded to 256 steps between the minimum and the maximum observed value. Its weights are
rounded to 255 steps around zero, separately for each output channel (Jacob et al., CVPR 2018). Here both are rounded in
float32; an engine that finds this rounding computes the convolution in integers. The norm must be folded.
Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from scripts.space.operations import PointwiseSum

Ranges = Mapping[str, tuple[float, float]]
LEVELS = 255
MIN_STEP = 1e-8


class QuantizedConv(nn.Module):
    """A convolution with rounded inputs and weights.

    Args:
        conv: the convolution.
        lowest, highest: the expected range of its inputs; values beyond it are clipped.
    """

    steps: torch.Tensor
    zeros: torch.Tensor

    def __init__(self, conv: nn.Conv2d | nn.Conv3d, lowest: float, highest: float):
        super().__init__()
        self.conv = conv
        lowest, highest = min(lowest, 0.0), max(highest, 0.0)  # zero, which surrounds volumes, must stay zero
        self.step = max((highest - lowest) / LEVELS, MIN_STEP)
        self.zero = round(-lowest / self.step)
        steps = conv.weight.detach().abs().flatten(1).amax(1) / (LEVELS // 2)
        self.register_buffer("steps", steps.clamp(min=MIN_STEP))
        self.register_buffer("zeros", torch.zeros(len(steps), dtype=torch.int32))

    def forward(self, x_BCHWD: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        if isinstance(x_BCHWD, torch.Tensor):
            return self._convolve(x_BCHWD, self.conv.weight, self.conv.bias)
        assert isinstance(self.conv, PointwiseSum)
        return self.conv.add_up(x_BCHWD, self._convolve)

    def _convolve(self, x_BCHWD: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        conv, half = self.conv, LEVELS // 2
        x_BCHWD = torch.fake_quantize_per_tensor_affine(x_BCHWD, self.step, self.zero, 0, LEVELS)
        weight = torch.fake_quantize_per_channel_affine(weight, self.steps, self.zeros, 0, -half, half)
        convolve = F.conv2d if isinstance(conv, nn.Conv2d) else F.conv3d
        return convolve(x_BCHWD, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)  # type: ignore[arg-type]


def quantizable(network: nn.Module) -> dict[str, nn.Conv2d | nn.Conv3d]:
    """The convolutions to round, by name: those with kernels larger than one voxel, and those that end a cell.

    The stem is left out, since it reads a single channel, and the head, since its logits are compared.
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d)
        and (math.prod(module.kernel_size) > 1 or isinstance(module, PointwiseSum))
        and module.in_channels > 1
        and module.padding_mode == "zeros"
    }


@torch.no_grad()
def observe(network: nn.Module, images_BCHWD: Iterable[torch.Tensor]) -> Ranges:
    """The minimum and maximum input of each convolution to round, by its name.

    Args:
        network: in eval mode, with or without its norm folded.
        images_BCHWD: the input images.
    """
    seen: dict[str, tuple[float, float]] = {}

    def note(name: str, module: nn.Module, inputs: tuple[torch.Tensor | list[torch.Tensor], ...]) -> None:
        parts = [inputs[0]] if isinstance(inputs[0], torch.Tensor) else inputs[0]
        lowest = min(float(part.amin()) for part in parts)
        highest = max(float(part.amax()) for part in parts)
        before = seen.get(name, (lowest, highest))
        seen[name] = min(lowest, before[0]), max(highest, before[1])

    convolutions = quantizable(network)
    if not convolutions:
        return {}
    hooks = [module.register_forward_pre_hook(partial(note, name)) for name, module in convolutions.items()]
    try:
        for image in images_BCHWD:
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def quantize(network: nn.Module, ranges: Ranges) -> nn.Module:
    """Round the inputs and weights of convolutions, in place; convolutions without observed inputs do not change."""
    for name, conv in quantizable(network).items():
        if name in ranges:
            network.set_submodule(name, QuantizedConv(conv, *ranges[name]))
    return network
