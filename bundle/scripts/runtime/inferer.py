"""Networks over cines: frames as a batch, in the precision of the device.

Tensors: B batch, T frames, K classes, H W in-plane, D slices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type

from scripts.runtime.backends import channels_last
from scripts.runtime.precision import autocast
from scripts.safety import explaining_memory


class CineInferer(Inferer):
    """Whole field of view in one pass, frame by frame: B T H W D to float32 logits B (T K) H W D.

    A single volume is a cine of one frame, for which this is MONAI's SimpleInferer. MONAI's own amp switch knows
    CUDA alone; bfloat16 needs no loss scaling, so autocast here serves training and inference on any device.

    Args:
        amp: bfloat16 autocast where the device computes in bfloat16.
        frames_at_once: frames that go through the network together; more need more memory.
    """

    def __init__(self, amp: bool = True, frames_at_once: int = 4):
        super().__init__()
        self.amp, self.frames_at_once = amp, frames_at_once

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if isinstance(network, torch.nn.Module):
            channels_last(network)  # MONAI Label hands it over as it was built, and other kernels round otherwise
        # MetaTensor would dispatch every operation of the network through Python
        images_BTHWD = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        batch, frames, *size = images_BTHWD.shape
        volumes = images_BTHWD.reshape(batch * frames, 1, *size).contiguous(memory_format=torch.channels_last_3d)
        shape = f"{batch * frames} volumes of {'x'.join(map(str, size))}"
        with explaining_memory(shape, "Take a device with more memory."), autocast(volumes.device, self.amp):
            logits = [network(chunk, *args, **kwargs) for chunk in volumes.split(self.frames_at_once)]
        whole = torch.cat(logits).float().reshape(batch, -1, *size)
        # Invertd inverts MetaTensors alone
        return convert_to_dst_type(whole, inputs)[0] if isinstance(inputs, MetaTensor) else whole
