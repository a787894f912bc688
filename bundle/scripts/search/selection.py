"""Choose one of the proposed networks: by measurement, and by accuracy if that is the deriver's fitness."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from scripts.latency.visits import Measured
from scripts.search.constraint import BudgetMissed
from scripts.search.derive import MIN_PATHS, Deriver
from scripts.search.judge import Judge
from scripts.search.shared_weights import SharedWeights
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing
from scripts.space.trellis import text_of

logger = logging.getLogger(__name__)
CANDIDATES = 3
"""The number of networks that are measured together."""
ATTEMPTS = 3
"""How often measurements correct the limit of the predicted latency."""
SPENT = 0.9
"""Candidates use at least this share of the limit: shared weights favour small networks, which train faster."""
NEAR = 0.95
"""A limit of at least this share of what measurements allow is close enough."""


@dataclass(frozen=True)
class Selection:
    """The networks of a search, and the criteria to choose one.

    Args:
        mixing: the mixing weights of the search.
        deriver: proposes networks.
        judge: measures networks and compares them with its constraint; its budget is in ms.
        shared: the trained supernet that compares networks; None: the accumulated weights of their paths do.
        fine_tune_steps: how many steps each of the best networks is fine-tuned, from the shared weights.
        known_dice: the Dice of each network with the shared weights, by digest.
    """

    mixing: Mixing
    deriver: Deriver
    judge: Judge
    shared: SharedWeights | None = None
    fine_tune_steps: int = 100
    known_dice: dict[str, float] = field(default_factory=dict)

    def take(self, last_resort: bool = True) -> tuple[Architecture, Measured]:
        """The accepted network and its measurement.

        Args:
            last_resort: whether a deriver of the fastest network may use fewer than three paths if N is "auto".

        Raises:
            BudgetMissed: no network meets the constraint; the message names the fastest available network.
        """
        return self._most_accurate() if self.deriver.fitness == "accuracy" else self._fastest(last_resort)

    def _most_accurate(self) -> tuple[Architecture, Measured]:
        """The most accurate candidate that uses the budget and meets the constraint when it is measured.

        Measurements correct the limit of the predicted latency for two reasons: the table has nearly the same error for
        similar networks, and the constraint is on the 95th percentile.
        """
        fewest, greatest = self.deriver.counts(self.judge.space)[-1], self.deriver.counts(self.judge.space)[0]
        assert self.judge.constraint.budget_ms != "auto"
        limit_ms = budget_ms = self.judge.constraint.budget_ms
        judged: dict[str, tuple[Architecture, Measured]] = {}
        for _ in range(ATTEMPTS):
            proposed = self._propose((fewest, greatest), limit_ms)
            within = [one for one in proposed if one.provenance.number("predicted_ms") <= limit_ms] or proposed[:1]
            found = []
            for architecture in within[:CANDIDATES]:
                if architecture.digest not in judged:
                    judged[architecture.digest] = architecture, self._measured(architecture)
                found.append(judged[architecture.digest])
            if self.judge.table.foreign or not self.judge.constraint.enforced:
                break
            # the predicted latency that would just meet the constraint
            exact_ms = min(one.provenance.number("predicted_ms") / self.judge.excess(took) for one, took in found)
            reached = limit_ms / exact_ms
            if reached >= NEAR and any(self.judge.keeps(took) for _, took in found):
                break
            logger.info(
                "Networks predicted to take %.2f ms just meet the budget of %.2f ms: the limit was %.2f ms",
                *(exact_ms, budget_ms, limit_ms),
            )
            limit_ms = exact_ms
        kept = [pair for pair in judged.values() if self.judge.keeps(pair[1])]
        if not kept:
            raise self._missed(min(self.judge.excess(took) for _, took in judged.values()))
        kept.sort(key=lambda pair: -self._worth(pair[0]))
        return self._best_fine_tuned(kept[:CANDIDATES])

    def _worth(self, architecture: Architecture) -> float:
        """Its Dice with the shared weights, or the probability of its paths if there are none."""
        return architecture.provenance.number("path_weight") if self.shared is None else self._dice(architecture)

    def _propose(self, sizes: tuple[int, int], limit_ms: float) -> list[Architecture]:
        """Candidates that use the limit; if the pool has none, candidates below the limit."""
        with tqdm(desc="networks, evaluated with shared weights", unit="network", disable=self.shared is None) as bar:

            def dice(architecture: Architecture) -> float:
                bar.update()
                return self._dice(architecture)

            for min_ms in (SPENT * limit_ms, 0.0):
                proposed = self.deriver.propose(
                    *(self.mixing, self.judge.table, self.judge.space, sizes, (min_ms, limit_ms)),
                    None if self.shared is None else dice,
                )
                if proposed[0].provenance.number("predicted_ms") >= min_ms:
                    break
        return proposed

    def _dice(self, architecture: Architecture) -> float:
        """The Dice with the shared weights, computed only once per network."""
        assert self.shared is not None
        if architecture.digest not in self.known_dice:
            self.known_dice[architecture.digest] = self.shared.dice(architecture)
        return self.known_dice[architecture.digest]

    def _best_fine_tuned(self, kept: Sequence[tuple[Architecture, Measured]]) -> tuple[Architecture, Measured]:
        """The best network after each is fine-tuned; without shared weights the first one."""
        if self.shared is None:
            return kept[0]
        tuned = []
        for architecture, took in kept:
            before, dice = self._dice(architecture), self.shared.fine_tuned_dice(architecture, self.fine_tune_steps)
            logger.info(
                "N=%d, %s %.2f ms: Dice %.3f with shared weights, %.3f after %d steps of fine-tuning",
                *(
                    len(architecture.paths),
                    "predicted" if self.judge.table.foreign else "measured",
                    took.timing.median_ms,
                ),
                *(before, dice, self.fine_tune_steps),
            )
            tuned.append((architecture.with_provenance(shared_dice=before, fine_tuned_dice=dice), took))
        return max(tuned, key=lambda pair: pair[0].provenance.number("fine_tuned_dice"))

    def _fastest(self, last_resort: bool) -> tuple[Architecture, Measured]:
        """The first network that meets the constraint: predicted fastest first, from the largest number of paths
        (RT-DNAS 2.3)."""
        counts, aim = self.deriver.counts(self.judge.space), self.deriver.aim(self.judge.space)
        smallest = float("inf")
        for count in [count for count in counts if last_resort or count >= aim]:
            proposed = self.deriver.propose(self.mixing, self.judge.table, self.judge.space, (count, count))
            for architecture in proposed[:CANDIDATES]:
                found = self._measured(architecture)
                smallest = min(smallest, self.judge.excess(found))
                if self.judge.keeps(found):
                    if count < aim:
                        text = "No network of %d paths or more meets the budget; this one has %d"
                        logger.warning(text, MIN_PATHS, count)
                    return architecture, found
        raise self._missed(smallest)

    def _measured(self, architecture: Architecture) -> Measured:
        found = self.judge.measure(architecture)
        misses = not self.judge.constraint.kept_by(found.timing)
        verdict = "accepted, though it misses" if misses and self.judge.keeps(found) else "missed" if misses else "met"
        self._log(architecture, found, verdict)
        return found

    def _missed(self, excess: float) -> BudgetMissed:
        """The error that names the fastest network, after measuring it.

        Args:
            excess: the factor by which the best candidate misses.
        """
        table, constraint = self.judge.table, self.judge.constraint
        deriver = replace(self.deriver, method="exhaustive", fitness="latency", paths=1)
        fastest = deriver.propose(self.mixing, table, self.judge.space, (1, 1))[0]
        found = self.judge.measure(fastest)
        self._log(fastest, found, "the fastest available network")
        place = f"on {table.device.get('name')}, as predicted" if table.foreign else "on this device"
        counts = " or ".join(map(str, self.deriver.counts(self.judge.space)))
        error = BudgetMissed(
            "budget_ms and volumes_per_second",
            f"{constraint.budget_ms} ms and {constraint.volumes_per_second} volumes a second, which no "
            f"derived network of {counts} paths meets {place}",
            f"a budget that can be met: the fastest network of this search is the single path "
            f"{text_of(fastest.paths[0])} with a p95 of {found.timing.p95_ms:.1f} ms "
            f"({1000 / found.timing.mean_ms:.1f} volumes a second)",
            "Raise budget_ms or lower volumes_per_second, lower paths, or search a smaller space (channels, layers).",
        )
        error.excess = excess
        return error

    def _log(self, architecture: Architecture, found: Measured, verdict: str) -> None:
        timing = found.timing
        measured = f"measured {timing.median_ms:.2f} ms (p95 {timing.p95_ms:.2f}; met now {found.met.p95_ms:.2f})"
        logger.info(
            "N=%d, %d cells: predicted %.2f ms, %s, %.1f volumes a second: %s",
            *(len(architecture.paths), len(architecture.union), architecture.provenance.number("predicted_ms")),
            "not measured" if self.judge.table.foreign else measured,
            *(1000 / timing.mean_ms, verdict),
        )
