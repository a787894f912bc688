"""One step of the weights of a network: the loss of a batch, its gradients, and the step of the optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from scripts.core.checks import check_finite
from scripts.core.distributed import average_gradients, mean
from scripts.runtime.precision import autocast

Batch = dict[str, torch.Tensor]
Forward = Callable[[torch.Tensor], torch.Tensor]
Loss = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Descent:
    """Steps on a device, shared with the other processes of the run.

    Args:
        device: where to compute.
        amp: bfloat16 autocast if the device computes in bfloat16.
    """

    device: torch.device
    amp: bool = True

    def loss(self, loss: Loss, batch: Batch, forward: Forward) -> torch.Tensor:
        """A loss on a batch.

        Args:
            loss: logits and labels to a scalar.
            batch: "image" B 1 H W D and "label".
            forward: image to logits.
        """
        # plain tensors: MONAI's MetaTensor would track every operation
        image, label = (batch[key].as_subclass(torch.Tensor) for key in ("image", "label"))
        image = image.to(self.device, non_blocking=True, memory_format=torch.channels_last_3d)
        with autocast(self.device, self.amp):
            logits = forward(image)
        return loss(logits.float(), label.to(self.device, non_blocking=True))

    @torch.no_grad()
    def predict(self, image_BCHWD: torch.Tensor, forward: Forward) -> torch.Tensor:
        """Logits of an image in float32, for evaluation."""
        image_BCHWD = image_BCHWD.to(self.device, memory_format=torch.channels_last_3d)
        with autocast(self.device, self.amp):
            return forward(image_BCHWD).float()

    def step(self, optimizer: torch.optim.Optimizer, value: torch.Tensor, where: str = "") -> torch.Tensor:
        """One step of the optimiser down a loss; returns its mean over the processes.

        Raises:
            CineError: the loss is not finite; the message begins with ``where``.
        """
        value.backward()
        value = mean(value)
        check_finite(value, where + "weight loss")
        average_gradients(optimizer)
        optimizer.step()
        optimizer.zero_grad()  # frees memory for the next step
        return value
