"""Provenance: how an architecture was found, what constraints it had, and what was measured then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

PREDICTED = "predicted, not measured"
"""The verdict of a network that was not measured; the step verify replaces it."""


@dataclass(frozen=True)
class Provenance:
    """The facts about an architecture that do not define its computation; None if they are unknown.

    Attributes:
        method: how it was found: genetic, exhaustive, dijkstra, coarse_to_fine or random.
        seed: the seed of that method.
        searched_exams: the exams that its search read.
        derived_from: SHA-256 of the search and of the settings of the derivation.
        predicted_ms: the latency predicted by the latency table.
        accumulated_weight: the sum of the weights of its paths.
        path_weight: the weight of its heaviest path.
        shared_dice: Dice with the search's shared weights, on the architecture half.
        fine_tuned_dice: the same after fine-tuning.
        budget_ms: the latency budget.
        volumes_per_second_required: the throughput that it had to reach.
        latency_table_sha256: the table that predicted its latency.
        verdict: "measured", or ``PREDICTED``.
        measured_ms: its latency in the device's fast state: median_ms, p95_ms, mean_ms, iqr_ms, runs.
        met_ms: the same over all visits.
        fast_visits: how many visits of the measurement found the device in its fast state.
        visits: the number of all visits.
        fast_reference_ms: the latency of the reference network in the fast state.
        volumes_per_second: measured.
        device: where it was measured.
        runtime: the backend and settings with which it ran.
        notes: facts that only its method has, such as the pool of paths.
    """

    method: str | None = None
    seed: int | None = None
    searched_exams: Sequence[str] = ()
    derived_from: str | None = None
    predicted_ms: float | None = None
    accumulated_weight: float | None = None
    path_weight: float | None = None
    shared_dice: float | None = None
    fine_tuned_dice: float | None = None
    budget_ms: float | str | None = None
    volumes_per_second_required: float | None = None
    latency_table_sha256: str | None = None
    verdict: str | None = None
    measured_ms: Mapping[str, float] | None = None
    met_ms: Mapping[str, float] | None = None
    fast_visits: int | None = None
    visits: int | None = None
    fast_reference_ms: float | None = None
    volumes_per_second: float | None = None
    device: Mapping[str, Any] | None = None
    runtime: Mapping[str, Any] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def updated(self, notes: Mapping[str, Any] | None = None, **known: Any) -> Provenance:
        """A copy with other values of some attributes, and with more notes."""
        return replace(self, notes={**self.notes, **(notes or {})}, **known)

    def number(self, name: str) -> float:
        """An attribute that an earlier step must have set; LookupError if it is not set."""
        value = getattr(self, name)
        if value is None:
            raise LookupError(f"the provenance has no {name}")
        return value

    def to_json(self) -> dict[str, Any]:
        """One flat object: the known attributes, then the notes."""
        known = {name: getattr(self, name) for name in _NAMES if getattr(self, name) not in (None, ())}
        return {**known, **self.notes}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Provenance:
        """The inverse of ``to_json``; unknown keys become notes."""
        known = {name: content[name] for name in _NAMES if name in content}
        return cls(**known, notes={name: value for name, value in content.items() if name not in known})


NOTHING_KNOWN = Provenance()
_NAMES = [entry.name for entry in fields(Provenance) if entry.name != "notes"]

_POSITIVE = {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1e6}
_OBJECT = {"type": ["object", "null"]}
_TEXT = {"type": ["string", "null"]}
_NUMBER = {"type": ["number", "null"]}
_COUNT = {"type": ["integer", "null"], "minimum": 0}
PROVENANCE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "predicted_ms": _POSITIVE,
        "fast_reference_ms": _POSITIVE,
        "volumes_per_second_required": _POSITIVE,
        "budget_ms": {**_POSITIVE, "type": ["number", "null", "string"], "pattern": "^auto$"},
        "measured_ms": {
            "type": ["object", "null"],
            "required": ["median_ms", "p95_ms"],
            "properties": {"median_ms": _POSITIVE, "p95_ms": _POSITIVE},
        },
        "met_ms": _OBJECT,
        "device": _OBJECT,
        "runtime": _OBJECT,
        "verdict": _TEXT,
        "method": _TEXT,
        "derived_from": _TEXT,
        "latency_table_sha256": _TEXT,
        "seed": {"type": ["integer", "null"]},
        "accumulated_weight": _NUMBER,
        "path_weight": _NUMBER,
        "shared_dice": _NUMBER,
        "fine_tuned_dice": _NUMBER,
        "volumes_per_second": _POSITIVE,
        "fast_visits": _COUNT,
        "visits": _COUNT,
        "searched_exams": {"type": "array", "items": {"type": "string"}},
    },
}
"""The schema of the JSON object that ``to_json`` writes; other files may have more keys."""
