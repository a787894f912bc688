"""From a network to what runs on the device: folded norm, memory layout, precision.

The latency table is measured through the same functions, so that it speaks of what deploys.
Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

import copy
import platform
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scripts.files import CineError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """How networks run here.

    Args:
        device: torch device, such as "cpu" or "cuda:0".
        dtype: "auto" (bfloat16 where the device computes it natively, else float32) or a name out of ``DTYPES``.
    """

    device: str = "cpu"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", str(self.device))
        if self.dtype == "auto":
            object.__setattr__(self, "dtype", "bfloat16" if has_native_bfloat16(self.device) else "float32")
        if self.dtype not in DTYPES:
            raise CineError("runtime#dtype", repr(self.dtype), f"auto or one of {list(DTYPES)}", "Change the key.")

    def prepare(self, module: nn.Module) -> nn.Module:
        """A copy of the module in its deployed form: norm folded, layout and precision set, no gradients."""
        module = fold_norms(copy.deepcopy(module).eval()).requires_grad_(False)
        return module.to(self.device, DTYPES[self.dtype]).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def place(self, x_BCHWD: torch.Tensor) -> torch.Tensor:
        """A tensor as the deployed network reads it."""
        return x_BCHWD.to(self.device, DTYPES[self.dtype], memory_format=torch.channels_last_3d)

    def deploy(self, network: nn.Module) -> Deployed:
        """The network as it runs on the device, image in, logits out."""
        return Deployed(self, self.prepare(network))

    def describe(self) -> dict[str, Any]:
        """What a measurement depends on, for the files that record one."""
        return {
            **asdict(self),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "memory_format": "channels_last_3d",
            "folded_norm": True,
        }


class Deployed(nn.Module):
    """A deployed network: float32 images B C H W D in, logits B classes H W D out."""

    def __init__(self, runtime: Runtime, network: nn.Module):
        super().__init__()
        self.runtime = runtime
        self.network = network

    @torch.inference_mode()
    def forward(self, image_BCHWD: torch.Tensor) -> torch.Tensor:
        return self.network(self.runtime.place(image_BCHWD))


def fold_norms(module: nn.Module) -> nn.Module:
    """Fold each BatchNorm3d into the Conv3d before it, in place; module in eval mode."""
    previous: tuple[str, nn.Module] | None = None
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d) and previous is not None and isinstance(previous[1], nn.Conv3d):
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, nn.Identity())
        else:
            fold_norms(child)
        previous = name, child
    return module


def has_native_bfloat16(device: str) -> bool:
    """Whether the device has bfloat16 arithmetic of its own (emulation is slower than float32)."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_avx512_bf16()


def _has_avx512_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def describe_device(device: str) -> dict[str, Any]:
    """Name, kind and compute units of a device; for a GPU also its driver's CUDA version."""
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        units = properties.multi_processor_count
        return {"kind": "cuda", "name": properties.name, "units": units, "driver": str(torch.version.cuda)}
    return {"kind": device, "name": _processor(), "units": torch.get_num_threads(), "driver": platform.system()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
