"""A bad file among good ones: it is put aside, the others are done, and the run ends by naming it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from ignite.engine import Engine, Events
from torch.utils.data import DataLoader

from scripts.files import CineError, cine_error_of

logger = logging.getLogger(__name__)


class GoodItems:
    """The batches of a loader but for those that a CineError refuses; as a handler, it ends the run by naming these.

    It has no length, since how many files are whole is known once all are read: MONAI's engine goes on to the end.

    Args:
        loader: loads in this process, one file a batch (a worker would hand over an error without its type).

    Raises:
        CineError: when the engine completes, where a file was refused; with each file's own message.
    """

    def __init__(self, loader: DataLoader):
        self.loader = loader
        self.refused: list[CineError] = []

    def __iter__(self) -> Iterator[Any]:
        self.refused = []
        batches = iter(self.loader)
        for number in range(1, len(self.loader) + 1):
            try:
                batch = next(batches)
            except Exception as error:  # MONAI wraps what a transform raises
                refusal = cine_error_of(error)
                if refusal is None:
                    raise
                self.refused.append(refusal)
                logger.warning("input %d of %d is refused; the others go on", number, len(self.loader))
                continue
            yield batch

    def attach(self, engine: Engine) -> None:
        """Listen to the end of the run; after handlers that write results, so that these are complete."""
        engine.add_event_handler(Events.COMPLETED, self._name_the_refused)

    def _name_the_refused(self, engine: Engine) -> None:
        if not self.refused:
            return
        if len(self.loader) == 1:
            raise self.refused[0]
        messages = "".join(f"\n- {error}" for error in self.refused)
        refused, rest = len(self.refused), len(self.loader) - len(self.refused)
        found = f"{refused} of {len(self.loader)} files that cannot be used"
        action = f"The other {rest} are done. Mend these, then run again with existing set to skip:"
        raise CineError("input", found, "whole files", action + messages)
