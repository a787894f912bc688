"""Short trainings from random weights: what an architecture is worth, without shared weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from scripts.core.checks import explaining_memory
from scripts.core.distributed import is_main, on_main, share_buffers
from scripts.runtime.device import keep_memory
from scripts.search.descent import Batch, Descent, Loss
from scripts.search.mean_dice import mean_dice
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.train.checkpoint import initialise, seed_epoch
from scripts.train.trainer import warm_up_share

SMALLER = "Lower search_batch_size, search_patch_size or space#channels."


@dataclass(frozen=True)
class ScratchTraining:
    """Trains networks as the step train does (AdamW, one cycle), all on the same batches, and evaluates them.

    Args:
        loader: batches of "image" B 1 H W D and "label".
        loss: logits and labels to a scalar.
        validation_loader: the batches for the Dice, always the same.
        learning_rate: the largest of the cycle.
        seed: of the weights and of the batches.
        device: where to train.
        amp: bfloat16 autocast if the device computes in bfloat16.
    """

    loader: Any
    loss: Loss
    validation_loader: Iterable[Batch]
    learning_rate: float = 0.004
    seed: int = 0
    device: str | torch.device = "cpu"
    amp: bool = True

    def trained(self, architecture: Architecture, steps: int) -> CineNet:
        """The network of an architecture after a training of so many steps.

        Raises:
            CineError: the loss is not finite, or there is too little memory.
        """
        device = torch.device(self.device)
        if device.type == "cpu":
            keep_memory()
        network = CineNet(architecture)
        initialise(network, self.seed)
        network = network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(network.parameters(), self.learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, steps, pct_start=warm_up_share(steps), cycle_momentum=False
        )
        seed_epoch(self.seed, 0, [self.loader])
        batches = itertools.chain.from_iterable(itertools.repeat(self.loader))
        descent = Descent(device, self.amp)
        bar = tqdm(total=steps, desc="training", unit="step", leave=False, disable=not is_main())
        with explaining_memory(f"a training step of a network of {len(architecture.union)} cells", SMALLER), bar:
            for number, batch in enumerate(itertools.islice(batches, steps), start=1):
                where = f"network {architecture.digest[:8]}, step {number}: "
                descent.step(optimizer, descent.loss(self.loss, batch, network), where)
                schedule.step()
                bar.update()
        share_buffers(network)
        return network.eval()

    def dice(self, architecture: Architecture, steps: int) -> float:
        """The mean Dice of an architecture after a training; see ``trained``."""
        network, descent = self.trained(architecture, steps), Descent(torch.device(self.device), self.amp)
        return on_main(mean_dice)(lambda image_BCHWD: descent.predict(image_BCHWD, network), self.validation_loader)
