"""The cost of one inference, apart from time: parameters, floating-point operations, memory.

Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scripts.runtime.deploy import Runtime
from scripts.runtime.memory_tracker import LiveTensors


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    Args:
        parameters: the number of trainable parameters.
        flops: for one volume; a multiply-add counts as two; as usual, only convolutions and matrix products count.
        peak_memory: bytes of the weights and of the largest set of tensors in memory at once, with input and output.
    """

    parameters: int
    flops: int
    peak_memory: int


def inference_cost(network: nn.Module, size: Sequence[int], runtime: Runtime) -> Cost:
    """The cost of a network for one volume of ``size`` (H W D): B 1 H W D in, logits B classes H W D out, batch 1.

    On the CPU, memory is the sum of the deployed network's tensors in the runtime's precision, without computing it
    (torch's meta device), since engines do not report their memory plans. On CUDA it is measured.
    """
    folded = runtime.deploy(network).network
    shadow = copy.deepcopy(folded).to("meta", runtime.float_dtype)
    image = torch.empty(1, 1, *size, device="meta", dtype=runtime.float_dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(image)
    if runtime.device.startswith("cuda"):
        peak_memory = _measured_peak(network, size, runtime)
    else:
        with torch.no_grad(), LiveTensors() as tensors:
            shadow(image.to(memory_format=torch.channels_last_3d, copy=True))
        weights = [*shadow.parameters(), *shadow.buffers()]
        peak_memory = tensors.peak + sum(weight.nbytes for weight in weights)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, counter.get_total_flops(), peak_memory)


def _measured_peak(network: nn.Module, size: Sequence[int], runtime: Runtime) -> int:
    before = torch.cuda.memory_allocated(runtime.device)
    torch.cuda.reset_peak_memory_stats(runtime.device)
    deployed = runtime.deploy(network)
    deployed(torch.randn(1, 1, *size, device=runtime.device))
    return torch.cuda.max_memory_allocated(runtime.device) - before
