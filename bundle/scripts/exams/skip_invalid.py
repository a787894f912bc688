"""A bad file among good ones: it is put aside, the others are done, and the run ends by naming it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ignite.engine import Engine, Events
from monai.data import Dataset, list_data_collate

from scripts.cine.frames import check_name, frame_items
from scripts.core.errors import CineError, cine_error_of

logger = logging.getLogger(__name__)


class ValidItems:
    """The frames of some cines, without cines that a CineError refuses; as a handler, it ends the run by naming these.

    It has no length, since the number of frames is known once all files are read: MONAI's engine goes on to the end.

    Args:
        dataset: items of whole files, with the path of the image; its transform loads the frame that an item asks for.
        prepare: makes an item's image a file that holds frames.
        suffixes: endings of an item's results.

    Raises:
        CineError: when the engine completes, where a file was refused; with each file's own message.
    """

    def __init__(self, dataset: Dataset, prepare: Callable[[Any], Any], suffixes: Iterable[str] = ()):
        self.dataset, self.prepare, self.suffixes = dataset, prepare, tuple(suffixes)
        self.refused: list[CineError] = []

    def __iter__(self) -> Iterator[Any]:
        """Batches of one frame each."""
        self.refused = []
        for number in range(len(self.dataset)):
            try:
                check_name(self.dataset.data[number], self.suffixes)
                for item in frame_items(self.prepare(self.dataset.data[number])):
                    yield list_data_collate([self.dataset.transform(item)])
            except Exception as error:  # MONAI wraps what a transform raises
                refusal = cine_error_of(error)
                if refusal is None:
                    raise
                self.refused.append(refusal)
                logger.warning("input %d of %d is refused; the others go on", number + 1, len(self.dataset))

    def attach(self, engine: Engine) -> None:
        """Listen to the end of the run; after handlers that write results, so that these are complete."""
        engine.add_event_handler(Events.COMPLETED, self._name_the_refused)

    def _name_the_refused(self, engine: Engine) -> None:
        if not self.refused:
            return
        if len(self.dataset) == 1:
            raise self.refused[0]
        messages = "".join(f"\n- {error}" for error in self.refused)
        refused, rest = len(self.refused), len(self.dataset) - len(self.refused)
        found = f"{refused} of {len(self.dataset)} files that cannot be used"
        action = f"The other {rest} are done. Mend these, then run again with existing set to skip:"
        raise CineError("input", found, "whole files", action + messages)
