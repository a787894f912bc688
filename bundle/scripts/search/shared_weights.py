"""The Dice of an architecture with the shared weights of a supernet, before and after fine-tuning them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator

from scripts.search.descent import Batch
from scripts.search.mean_dice import mean_dice
from scripts.search.one_shot import OneShotSearcher
from scripts.search.searcher import Searcher
from scripts.space.architecture import Architecture
from scripts.train import checkpoint


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

    def _batches(self, steps: int) -> Iterator[Batch]:
        """The same batches for every architecture."""
        searcher = self.searcher
        checkpoint.seed_epoch(searcher.seed, searcher.epochs, searcher.loaders)
        return itertools.islice(itertools.chain.from_iterable(itertools.repeat(searcher.weights.loader)), steps)
