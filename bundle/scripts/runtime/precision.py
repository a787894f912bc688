"""The precision of training: bfloat16 if the device is measured to be faster in it.

A processor may have bfloat16 instructions and still compute it more slowly than float32, such as one whose AMX is
hidden by a virtual machine. Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

import functools
import statistics
import time

import torch
from torch import nn

from scripts.runtime.device import describe_device, has_native_bfloat16
from scripts.runtime.measurement_cache import measured_once

FORMAT = "rtdnas-precision-1"
RUNS = 7


def autocast(device: str | torch.device, enabled: bool = True) -> torch.autocast:
    """bfloat16 autocast if the device trains faster in it; emulated convolutions take over ten times as long."""
    device = torch.device(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and bfloat16_pays(str(device)))


@functools.cache
def bfloat16_pays(device: str) -> bool:
    """Whether a training step is faster in bfloat16; the CPU is measured once, so that a resumed run uses the same."""
    if not has_native_bfloat16(device) or device.startswith("cuda"):
        return has_native_bfloat16(device)
    described = {"device": describe_device(device), "torch": torch.__version__}
    median_ms = measured_once("precision", FORMAT, described, ("float32", "bfloat16"), _time_training)
    return median_ms["bfloat16"] < median_ms["float32"]


@torch.inference_mode(False)
@torch.enable_grad()
def _time_training() -> dict[str, float]:
    """Median ms of training steps of a normalised 3x3x3 convolution, forward and backward, in both precisions in turn.

    Gradients are enabled here, since the first caller may be an inference without gradients.
    """
    with torch.random.fork_rng(
        devices=[]
    ):  # a run that measures must draw the same random numbers as one that reads the cache
        layers = nn.Sequential(nn.Conv3d(16, 16, 3, padding=1, bias=False), nn.BatchNorm3d(16), nn.ReLU())
        image_BCHWD = torch.randn(2, 16, 64, 64, 8)
    layers = layers.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    image_BCHWD = image_BCHWD.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    times_ms: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(RUNS):
        for name, times in times_ms.items():
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
                layers(image_BCHWD).float().square().mean().backward()
            times.append(1000 * (time.perf_counter() - start))
    return {
        name: statistics.median(times[1:]) for name, times in times_ms.items()
    }  # the first step selects kernels and does not count
