"""Which of the proposed networks is taken: by measurement, and by accuracy where that is the deriver's fitness."""

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
"""Networks that are measured at a time."""
ATTEMPTS = 3
"""Times that measurements correct the limit of the predicted latency."""
SPENT = 0.9
"""The least share of the limit that candidates use: shared weights favour small networks, which learn faster."""
NEAR = 0.95
"""A limit at this share of what measurements allow, or above, is near enough."""


@dataclass(frozen=True)
class Selection:
    """What a derivation chooses from, and by what.

    Args:
        mixing: the mixing weights of a search.
        deriver: proposes networks.
        judge: measures networks and judges them, with a budget in ms.
        shared: the trained supernet by which networks are compared; None, by the accumulated weights of their paths.
        fine_tune_steps: of each of the best networks, with the shared weights.
        known_dice: what these said of each network, by digest.
    """

    mixing: Mixing
    deriver: Deriver
    judge: Judge
    shared: SharedWeights | None = None
    fine_tune_steps: int = 100
    known_dice: dict[str, float] = field(default_factory=dict)

    def take(self, last_resort: bool = True) -> tuple[Architecture, Measured]:
        """The network that is accepted, and what it takes.

        Args:
            last_resort: whether a deriver of the fastest network may go below three paths where N is "auto".

        Raises:
            BudgetMissed: none keeps the constraint; names the fastest network that can be had.
        """
        return self._most_accurate() if self.deriver.fitness == "accuracy" else self._fastest(last_resort)

    def _most_accurate(self) -> tuple[Architecture, Measured]:
        """The most accurate candidate that uses the budget and keeps the constraint when it is measured.

        Measurements correct the limit of the predicted latency, since the table's error is much the same for networks
        that are alike, and since the constraint is for the 95th percentile.
        """
        least, greatest = self.deriver.counts(self.judge.space)[-1], self.deriver.counts(self.judge.space)[0]
        assert self.judge.constraint.budget_ms != "auto"
        limit_ms = budget_ms = self.judge.constraint.budget_ms
        judged: dict[str, tuple[Architecture, Measured]] = {}
        for _ in range(ATTEMPTS):
            proposed = self._propose((least, greatest), limit_ms)
            within = [one for one in proposed if one.provenance.number("predicted_ms") <= limit_ms] or proposed[:1]
            found = []
            for architecture in within[:CANDIDATES]:
                if architecture.digest not in judged:
                    judged[architecture.digest] = architecture, self._measured(architecture)
                found.append(judged[architecture.digest])
            if self.judge.table.foreign or not self.judge.constraint.enforced:
                break
            # the predicted latency that would just keep the constraint
            exact_ms = min(one.provenance.number("predicted_ms") / self.judge.excess(took) for one, took in found)
            reached = limit_ms / exact_ms
            if reached >= NEAR and any(self.judge.keeps(took) for _, took in found):
                break
            logger.info(
                "Networks predicted to take %.2f ms just keep the budget of %.2f ms: the limit was %.2f ms",
                *(exact_ms, budget_ms, limit_ms),
            )
            limit_ms = exact_ms
        kept = [pair for pair in judged.values() if self.judge.keeps(pair[1])]
        if not kept:
            raise self._missed(min(self.judge.excess(took) for _, took in judged.values()))
        kept.sort(key=lambda pair: -self._worth(pair[0]))
        return self._best_fine_tuned(kept[:CANDIDATES])

    def _worth(self, architecture: Architecture) -> float:
        """Its Dice with the shared weights, else the probability of its paths."""
        return architecture.provenance.number("path_weight") if self.shared is None else self._dice(architecture)

    def _propose(self, sizes: tuple[int, int], limit_ms: float) -> list[Architecture]:
        """Candidates that use the limit; where the pool has none, those that keep it."""
        with tqdm(desc="networks, judged by shared weights", unit="network", disable=self.shared is None) as bar:

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
        """With the shared weights, computed once a network."""
        assert self.shared is not None
        if architecture.digest not in self.known_dice:
            self.known_dice[architecture.digest] = self.shared.dice(architecture)
        return self.known_dice[architecture.digest]

    def _best_fine_tuned(self, kept: Sequence[tuple[Architecture, Measured]]) -> tuple[Architecture, Measured]:
        """The best after a fine-tuning of each; without shared weights the first."""
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
        """The first that keeps the constraint, of the networks predicted fastest, the greatest numbers of paths first
        (RT-DNAS 2.3)."""
        counts, aim = self.deriver.counts(self.judge.space), self.deriver.aim(self.judge.space)
        least = float("inf")
        for count in [count for count in counts if last_resort or count >= aim]:
            proposed = self.deriver.propose(self.mixing, self.judge.table, self.judge.space, (count, count))
            for architecture in proposed[:CANDIDATES]:
                found = self._measured(architecture)
                least = min(least, self.judge.excess(found))
                if self.judge.keeps(found):
                    if count < aim:
                        text = "No network of %d paths or more keeps the budget; this one has %d"
                        logger.warning(text, MIN_PATHS, count)
                    return architecture, found
        raise self._missed(least)

    def _measured(self, architecture: Architecture) -> Measured:
        found = self.judge.measure(architecture)
        misses = not self.judge.constraint.kept_by(found.timing)
        verdict = "accepted, though it misses" if misses and self.judge.keeps(found) else "missed" if misses else "kept"
        self._log(architecture, found, verdict)
        return found

    def _missed(self, least: float) -> BudgetMissed:
        """The error that names the fastest network, once that is measured.

        Args:
            least: the factor by which the best candidate misses.
        """
        table, constraint = self.judge.table, self.judge.constraint
        deriver = replace(self.deriver, method="exhaustive", fitness="latency", paths=1)
        fastest = deriver.propose(self.mixing, table, self.judge.space, (1, 1))[0]
        found = self.judge.measure(fastest)
        self._log(fastest, found, "the fastest that can be had")
        place = f"on {table.device.get('name')}, as predicted" if table.foreign else "on this device"
        counts = " or ".join(map(str, self.deriver.counts(self.judge.space)))
        error = BudgetMissed(
            "budget_ms and volumes_per_second",
            f"{constraint.budget_ms} ms and {constraint.volumes_per_second} volumes a second, which no "
            f"derived network of {counts} paths keeps {place}",
            f"a budget that can be kept: the fastest network of this search is the single path "
            f"{text_of(fastest.paths[0])} with a p95 of {found.timing.p95_ms:.1f} ms "
            f"({1000 / found.timing.mean_ms:.1f} volumes a second)",
            "Raise budget_ms or lower volumes_per_second, lower paths, or search a smaller space (channels, layers).",
        )
        error.excess = least
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
