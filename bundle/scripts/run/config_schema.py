"""What values the settings may have: checked when a step starts, before it reads an exam or trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.core.errors import CineError
from scripts.core.json_files import validate
from scripts.runtime.device import DTYPES, check_device

_COUNT = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
_NATURAL = {**_COUNT, "minimum": 0}
_RATE = {"type": "number", "exclusiveMinimum": 0, "maximum": 1000}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_SIZE = {"type": "array", "items": {**_COUNT, "maximum": 4096}, "minItems": 3, "maxItems": 3}
_NAME = {"type": "string", "minLength": 1, "maxLength": 100}
_NAMES = {"type": "array", "items": _NAME}


def _entries(required: list[str], **properties: Any) -> dict[str, Any]:
    """A list of objects with a name and these keys, no others."""
    item = {"type": "object", "required": ["name", *required], "additionalProperties": False}
    return {"type": "array", "items": {**item, "properties": {"name": _NAME, **properties}}}


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        # settings of the step compare
        "overlays": _NAMES,
        "overrides": {"type": "object"},
        "searches": _entries([], configs=_NAMES, overlays=_NAMES, overrides={"type": "object"}),
        "networks": {
            "minItems": 1,
            **_entries(
                ["system"],
                system=_NAME,
                search=_NAME,
                derive={"type": "object"},
                random=_NATURAL,
                baseline=_NAME,
                architecture=_NAME,
            ),
        },
        "spacing_mm": {
            "type": "array",
            "items": {"type": "number", "minimum": 0.1, "maximum": 20},
            "minItems": 2,
            "maxItems": 2,
        },
        **dict.fromkeys(("search_patch_size", "patch_size"), _SIZE),
        **dict.fromkeys(
            (
                *(
                    "search_epochs",
                    "search_batch_size",
                    "search_channels",
                    "partial_channels",
                    "pool_size",
                    "cell_pool_size",
                ),
                *(
                    "max_rounds",
                    "generations",
                    "train_epochs",
                    "batch_size",
                    "val_interval",
                    "annealing_epochs",
                    "candidates",
                ),
                *("fine_tuned", "fine_tune_steps", "scratch_steps", "architectures"),
            ),
            _COUNT,
        ),
        **dict.fromkeys(("seed", "warm_up_epochs", "num_workers", "fold"), _NATURAL),
        **dict.fromkeys(("learning_rate", "weight_lr", "architecture_lr"), _RATE),
        **dict.fromkeys(("cache_rate", "final_lr", "weight_final_lr"), _SHARE),
        "folds": {**_COUNT, "minimum": 2},
        "penalty_weight": {"type": "number", "minimum": 0, "maximum": 1e6},
        "profile_seconds": {"type": "number", "minimum": 0, "maximum": 1e6},
        "budgets": {"type": "array", "minItems": 1, "uniqueItems": True, "items": {**_RATE, "maximum": 1e9}},
        "budget_ms": {"anyOf": [{"enum": ["auto", None]}, {**_RATE, "maximum": 1e9}]},
        "volumes_per_second": {"anyOf": [{"const": None}, {**_RATE, "maximum": 1e6}]},
        "paths": {"anyOf": [{"const": "auto"}, _COUNT]},
        "network_reading": {"enum": ["union", "derived", "paths", "n_best"]},
        **{key: {"type": "boolean"} for key in ("enforced", "discrete")},
        "fitness": {"enum": ["accuracy", "latency"]},
        "precision": {"enum": ["auto", *DTYPES]},
        "memory_mib": _RATE | {"maximum": 1e9},
        "gumbel_temperature": {"type": "array", "items": _RATE, "minItems": 2, "maxItems": 2},
        "assistance": {"enum": ["annealed", "kept", "image", "removed", "none"]},
    },
}


def _is_expression(value: Any) -> bool:
    return value[:1] in ("$", "@", "%") if isinstance(value, str) else isinstance(value, dict) and "_target_" in value


def check_values(config: Mapping[str, Any]) -> None:
    """Check a step's settings, after overlays and overrides, against the values that they may have.

    Raises:
        CineError: a value is not allowed; the message names the key and what it may be. Expressions are not checked
            here but where they are used.
    """
    plain = {key: value for key, value in config.items() if not _is_expression(value)}
    validate(plain, SCHEMA, "the configuration", "Change the key.")
    for key in MIN_EPOCHS:
        if key in config.get("searcher", {}) and {"search_epochs", key} <= plain.keys():
            check_phase(key, plain[key], plain["search_epochs"])
    if "device" in plain:
        check_device(plain["device"])


MIN_EPOCHS = {"warm_up_epochs": 0, "annealing_epochs": 1}


def check_phase(key: str, phase: int, epochs: int) -> None:
    """Check the number of epochs of a phase of the search: the search must have at least one epoch after it.

    Raises:
        CineError: the phase is too short or too long, or there are too few epochs for any such phase.
    """
    minimum = MIN_EPOCHS[key]
    if epochs <= minimum:
        expected = f"at least {minimum + 1}, since {key} is at least {minimum} and one epoch must follow"
        raise CineError("search_epochs", str(epochs), expected, "Raise search_epochs.")
    if not minimum <= phase < epochs:
        expected = f"{minimum} to {epochs - 1}, since the {epochs} search_epochs include this phase"
        raise CineError(key, str(phase), expected, "Change one of them.")
