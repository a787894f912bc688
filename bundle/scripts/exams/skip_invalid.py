"""Skip bad files: the other files are processed, and the run ends with an error that names the bad ones."""

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
    """The frames of some cines, without cines that a CineError refuses; as a handler, it ends the run with their names.

    It has no length, since the number of frames is unknown until all files are read; MONAI's engine runs to its end.

    Args:
        dataset: items of whole files, with the path of the image; its transform loads the frame that an item asks for.
        prepare: turns an item's image into a file with frames.
        suffixes: endings of an item's results.

    Raises:
        CineError: when the engine completes, if a file was refused; with each file's own message.
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
            except Exception as error:  # MONAI wraps the errors of transforms
                refusal = cine_error_of(error)
                if refusal is None:
                    raise
                self.refused.append(refusal)
                logger.warning("input %d of %d is refused; continuing with the others", number + 1, len(self.dataset))

    def attach(self, engine: Engine) -> None:
        """Register for the end of the run; attach it after handlers that write results, so that these are complete."""
        engine.add_event_handler(Events.COMPLETED, self._name_the_refused)

    def _name_the_refused(self, engine: Engine) -> None:
        if not self.refused:
            return
        if len(self.dataset) == 1:
            raise self.refused[0]
        messages = "".join(f"\n- {error}" for error in self.refused)
        refused, rest = len(self.refused), len(self.dataset) - len(self.refused)
        found = f"{refused} of {len(self.dataset)} unusable files"
        action = f"The other {rest} are done. Correct these, then run again with existing set to skip:"
        raise CineError("input", found, "valid files", action + messages)
