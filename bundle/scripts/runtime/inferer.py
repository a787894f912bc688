"""Apply networks to cines: frames as a batch, in the precision of the device.

Tensors: B batch, T frames, K classes, H W in-plane, D slices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type

from scripts.core.checks import explaining_memory
from scripts.runtime.backends import channels_last
from scripts.runtime.deploy import Deployed, Runtime
from scripts.runtime.precision import autocast


class CineInferer(Inferer):
    """The whole field of view in one pass, frame by frame: B T H W D to float32 logits B (T K) H W D.

    A single volume is a cine of one frame; for it this class equals MONAI's SimpleInferer. MONAI's own amp switch only
    supports CUDA. bfloat16 needs no loss scaling, so this autocast works for training and inference on any device.

    Args:
        amp: bfloat16 autocast if the device computes in bfloat16.
        precision: "int8" for convolutions in integers, with the weights at the first call; any other value leaves the
            precision to ``amp``.
        frames_at_once: the number of frames in one batch; more frames need more memory.
    """

    def __init__(self, amp: bool = True, frames_at_once: int = 4, precision: str = "auto"):
        super().__init__()
        self.amp, self.frames_at_once, self.precision = amp, frames_at_once, precision
        self._in_integers: Deployed | None = None

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if isinstance(network, torch.nn.Module):
            channels_last(
                network
            )  # MONAI Label passes it in the default layout, for which other kernels round differently
        # a MetaTensor would dispatch every operation of the network through Python
        images_BTHWD = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        batch, frames, *size = images_BTHWD.shape
        volumes = images_BTHWD.reshape(batch * frames, 1, *size).contiguous(memory_format=torch.channels_last_3d)
        shape = f"{batch * frames} volumes of {'x'.join(map(str, size))}"
        if self.precision == "int8" and isinstance(network, torch.nn.Module):
            self._in_integers = self._in_integers or Runtime(str(volumes.device), "int8").deploy(network)
            network = self._in_integers
        floating = self.amp and self._in_integers is None
        with explaining_memory(shape, "Take a device with more memory."), autocast(volumes.device, floating):
            logits = [network(chunk, *args, **kwargs) for chunk in volumes.split(self.frames_at_once)]
        whole = torch.cat(logits).float().reshape(batch, -1, *size)
        # Invertd only inverts MetaTensors
        return convert_to_dst_type(whole, inputs)[0] if isinstance(inputs, MetaTensor) else whole
