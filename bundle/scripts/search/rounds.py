"""Search again under a lower budget if no network has the required throughput (RT-DNAS 2.2)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from scripts.core.errors import CineError
from scripts.search.constraint import BudgetMissed
from scripts.search.searcher import Searcher
from scripts.space.architecture import Architecture

logger = logging.getLogger(__name__)
MARGIN = 0.95  # the next round aims a little lower than this round's miss requires


def search_in_rounds(searcher: Searcher, derivation: Callable[..., Architecture], max_rounds: int = 3) -> Architecture:
    """Search and derive; if no network meets latency and throughput, lower L_ub and search again.

    Args:
        searcher: in the first round it searches under its constraint's budget; it resumes in the round where it was.
        derivation: derives from the search in the work_dir, by measurement. ``last_resort=False`` stops a deriver of
            the fastest network from using fewer paths than the search aims at.
        max_rounds: the maximum number of rounds; the last one may derive with fewer paths.

    Raises:
        CineError: no network of the last round meets the constraint.
    """
    if isinstance(max_rounds, bool) or not isinstance(max_rounds, int) or max_rounds < 1:
        raise CineError("max_rounds", repr(max_rounds), "a whole number of at least 1", "Change the key.")
    while True:
        searcher.run()
        last = searcher.round >= max_rounds
        try:
            return derivation(last_resort=last)
        except BudgetMissed as missed:
            if last:
                raise
            aim_ms = MARGIN * searcher.aim_ms / missed.excess
            logger.warning(
                "Round %d of at most %d: the best network misses the constraint by a factor of %.2f. "
                "The next round searches under %.2f instead of %.2f ms",
                *(searcher.round, max_rounds, missed.excess, aim_ms, searcher.aim_ms),
            )
            searcher.restart(aim_ms)
