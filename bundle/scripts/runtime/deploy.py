"""Prepare a network for a device: folded norm, memory layout, precision, backend.

The latency table is measured with the same functions, so that it is valid for the deployed network.
Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scripts.core.errors import CineError
from scripts.runtime.backends import BACKENDS, Call
from scripts.runtime.device import DTYPES, check_device, has_native_bfloat16, keep_memory
from scripts.runtime.quantization import Ranges, observe, quantize


@dataclass(frozen=True)
class Runtime:
    """How networks run here; ``autotune.choose_runtime`` finds the fastest one.

    Args:
        device: torch device, such as "cpu" or "cuda:0".
        dtype: a name from ``DTYPES``, or "auto": bfloat16 if the device computes it natively and the backend supports
            it, else float32. "int8" applies to convolutions; the rest of the network is float32.
        backend: a name from ``BACKENDS``.

    Raises:
        CineError: the dtype or backend is unknown or cannot run here.
    """

    device: str = "cpu"
    dtype: str = "auto"
    backend: str = "eager"

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", check_device(self.device))
        backend = BACKENDS.get(str(self.backend))
        if backend is None:
            raise CineError("backend", repr(self.backend), f"auto or one of {list(BACKENDS)}", "Change the key.")
        if self.dtype == "auto":
            native = has_native_bfloat16(self.device) and torch.bfloat16 in backend.precisions
            object.__setattr__(self, "dtype", "bfloat16" if native else "float32")
        if self.dtype not in DTYPES:
            raise CineError("dtype", repr(self.dtype), f"auto or one of {list(DTYPES)}", "Change the key.")
        obstacle = backend.obstacle(self.device, DTYPES[self.dtype])
        if obstacle:
            raise CineError("backend", f"{self.backend}, which {obstacle}", "one that runs here", "Use auto or eager.")

    @property
    def float_dtype(self) -> torch.dtype:
        """The type of tensors; with int8 convolutions, float32 between them."""
        return torch.float32 if self.dtype == "int8" else DTYPES[self.dtype]

    def deploy(self, network: nn.Module) -> Deployed:
        """The network as it runs on the device, from image to logits; the given network does not change."""
        ranges = getattr(network, "activations", None)
        if self.dtype == "int8" and ranges == {}:
            action = "Train it again with this version, or run it with --precision auto."
            raise CineError("model.json", "no activations", "the ranges that int8 needs", action)
        folded = fold_norms(copy.deepcopy(network).cpu().float().eval()).requires_grad_(False)
        return Deployed(self, folded, ranges)

    def describe(self) -> dict[str, Any]:
        """The settings that a measurement depends on, for the files that record one."""
        return {
            **asdict(self),
            "torch": torch.__version__,
            **BACKENDS[self.backend].versions(),
            "threads": torch.get_num_threads(),
            "memory_format": "channels_last_3d",
            "folded_norm": True,
            "keeps_memory": keep_memory(),
        }


class Deployed(nn.Module):
    """A deployed network: images B C H W D in, logits B classes H W D out, on the runtime's device.

    It is compiled again for every new input shape.

    Args:
        runtime: how it runs.
        network: on the CPU, in eval mode, its norm folded.
        ranges: the input ranges of its convolutions, for int8. None: the ranges in the first image of each shape, which
            is for measuring untrained networks.
    """

    def __init__(self, runtime: Runtime, network: nn.Module, ranges: Ranges | None = None):
        super().__init__()
        keep_memory()
        self.runtime = runtime
        self.network, self.ranges = network, ranges
        self._calls: dict[torch.Size, Call] = {}

    @torch.inference_mode()
    def forward(self, image_BCHWD: torch.Tensor) -> torch.Tensor:
        image_BCHWD = image_BCHWD.to(self.runtime.device)
        call = self._calls.get(image_BCHWD.shape)
        if call is None:
            backend, network = BACKENDS[self.runtime.backend], copy.deepcopy(self.network)
            if self.runtime.dtype == "int8":
                network = quantize(network, self.ranges or observe(network, [image_BCHWD]))
            call = self._calls[image_BCHWD.shape] = backend.compile(network, image_BCHWD, self.runtime.float_dtype)
        return call(image_BCHWD)


def fold_norms(module: nn.Module) -> nn.Module:
    """Fold each BatchNorm into the convolution before it, in place; module in eval mode.

    It finds neighbours in one module, and MONAI's blocks, which put the norm in a submodule. Other norms stay, such as
    those after a convolution that is used several times.
    """
    for conv_name, norm_name in list(_pairs(module)):
        conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
        if isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            module.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
            module.set_submodule(norm_name, nn.Identity())
    for child in module.children():
        fold_norms(child)
    return module


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of two successive layers that may be a convolution and its norm."""
    children = dict(module.named_children())
    yield from itertools.pairwise(children)
    # by name, since a runtime should not import MONAI, which writes into the home folder
    kind = type(module).__name__
    if kind == "Convolution" and "adn" in children:
        yield "conv", f"adn.{next(name for name, _ in children['adn'].named_children())}"
    elif kind == "UnetBasicBlock":
        yield from (("conv1.conv", "norm1"), ("conv2.conv", "norm2"))
