"""The Dice of an architecture: with shared weights, after fine-tuning them, and after training from scratch."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator

import torch
from monai.metrics import compute_dice

from scripts.runtime.precision import autocast
from scripts.search.loop import Batch
from scripts.search.one_shot import OneShotSearcher
from scripts.search.searcher import Searcher
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.train import checkpoint


def mean_dice(predict: Callable[[torch.Tensor], torch.Tensor], batches: Iterable[Batch]) -> float:
    """Mean Dice over structures and volumes; a structure that is absent from a label is left out.

    MONAI's DiceMetric would wait for the other processes of a search, which do not evaluate.

    Args:
        predict: computes logits from an image B 1 H W D.
        batches: "image" and "label" B 1 H W D.
    """
    of_volumes: list[torch.Tensor] = []
    for batch in batches:
        image, label = (batch[key].as_subclass(torch.Tensor) for key in ("image", "label"))
        logits = predict(image)
        predicted = logits.argmax(1, keepdim=True)
        dice_BS = compute_dice(predicted, label.to(logits.device), include_background=False, num_classes=4)
        of_volumes.append(dice_BS.nanmean(1))
    return float(torch.cat(of_volumes).nanmean())


class SharedWeights:
    """Evaluates and fine-tunes architectures with the weights of a trained supernet.

    Args:
        searcher: owns the trained weights.
        validation_loader: the batches for the Dice, always the same.
    """

    def __init__(self, searcher: OneShotSearcher | Searcher, validation_loader: Iterable[Batch]):
        self.searcher, self.validation_loader = searcher, validation_loader

    def dice(self, architecture: Architecture) -> float:
        return mean_dice(lambda image: self.searcher.predict(image, architecture), self.validation_loader)

    def fine_tuned_dice(self, architecture: Architecture, steps: int) -> float:
        """The Dice after some steps of fine-tuning, at the learning rate where the supernet's training ended.

        The shared weights do not change.
        """
        searcher = self.searcher
        shared = copy.deepcopy(searcher.supernet.state_dict())
        optimizer = searcher.weights.optimizer(searcher.supernet.parameters())
        for group in optimizer.param_groups:
            group["lr"] *= searcher.weights.final_lr
        forward = searcher.forward_of(architecture)
        try:
            for batch in self._batches(steps):
                searcher.descend(optimizer, searcher.weights.loss, batch, forward)
            return self.dice(architecture)
        finally:
            searcher.supernet.load_state_dict(shared)

    def scratch_dice(self, architecture: Architecture, steps: int, learning_rate: float = 0.004) -> float:
        """The Dice of the architecture's network after training it from its own random weights, as the step train does
        (AdamW, one cycle)."""
        searcher = self.searcher
        network = CineNet(architecture)
        checkpoint.initialise(network, searcher.seed)
        network = network.to(searcher.device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, learning_rate, steps, pct_start=0.05, cycle_momentum=False
        )
        for batch in self._batches(steps):
            searcher.descend(optimizer, searcher.weights.loss, batch, network)
            schedule.step()
        network.eval()

        @torch.no_grad()
        def predict(image: torch.Tensor) -> torch.Tensor:
            with autocast(searcher.device, searcher.amp):
                return network(image.to(searcher.device, memory_format=torch.channels_last_3d)).float()

        return mean_dice(predict, self.validation_loader)

    def _batches(self, steps: int) -> Iterator[Batch]:
        """The same batches for every architecture."""
        searcher = self.searcher
        checkpoint.seed_epoch(searcher.seed, searcher.epochs, searcher.loaders)
        return itertools.islice(itertools.chain.from_iterable(itertools.repeat(searcher.weights.loader)), steps)
