"""Trained weights and the card next to them: they are loaded only into the network they belong to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from scripts.core.errors import CineError
from scripts.core.json_files import read_json
from scripts.core.manifest import verify
from scripts.core.safe_load import load_whole
from scripts.space.deployable import Deployable

FORMAT = "rtdnas-model-1"


def model_card(model_path: str | Path) -> Path:
    """The file next to a model that describes it: ``model.json`` for ``model.pt``."""
    return Path(model_path).with_suffix(".json")


def seen_exams(model_path: str | Path, more: Iterable[str] = ()) -> list[str]:
    """The exams in a model's card, if it has one, and some more."""
    card_path = model_card(model_path)
    listed = read_json(card_path, CARD_SCHEMA, "Restore it.")["exams"] if card_path.exists() else []
    return list(dict.fromkeys([*listed, *more]))


def read_by_search(network: Deployable, exams: Collection[str]) -> dict[str, int]:
    """How many of some exams, given by name, the search of a network has read."""
    return {"read_by_search": len(set(network.provenance.searched_exams) & set(exams))}


REMEDY = (
    "Was it derived again since then? Then delete the folder train next to it and run train again. "
    "Is it a trained baseline? Then name its overlay, baseline_NAME.json."
)


def load_model(
    path: str | Path,
    network: Deployable,
    exams: Collection[str] = (),
    spacing_mm: Sequence[float] | None = None,
    remedy: str = REMEDY,
) -> None:
    """Load trained weights into a network, after checking that they belong to it.

    Args:
        path: a plain state dict; if ``model.json`` is next to it, that is checked first.
        network: the network for the weights.
        exams: names of exams that must not be among the model's training exams.
        spacing_mm: in-plane spacing of the images that the network will see, if known.
        remedy: what to do if the weights are of another network.

    Raises:
        CineError: the weights are of another network, differ from the folder's manifest, are not finite or cannot be
            read. Or they were trained on one of the exams, or at another spacing.
    """
    verify(Path(path).parent)
    action = "Run the step train with this work_dir, or name the work_dir where it ran."
    card_path = model_card(path)
    activations: dict[str, tuple[float, float]] = {}
    if card_path.exists():
        card = read_json(card_path, CARD_SCHEMA, action)
        activations = card.get("activations", {})
        if card["architecture"] != network.digest:
            found = f"weights of the network {card['architecture'][:12]}"
            expected = f"{network.digest[:12]}, the configured network"
            raise CineError(path, found, expected, remedy)
        trained_mm = card.get("spacing_mm", spacing_mm)
        if spacing_mm is not None and list(trained_mm) != list(spacing_mm):
            found = f"{list(spacing_mm)}, but the network was trained at {trained_mm}"
            raise CineError("spacing_mm", found, "the spacing of the training", "Change the key.")
        seen = sorted(set(card["exams"]) & set(exams))
        if seen:
            found = f"a model that was trained on {len(seen)} of the {len(exams)} exams to evaluate"
            action = "Evaluate with the fold, seed and dataset_dir of its training."
            raise CineError(path, found, "unseen exams", action)
    state = load_whole(path, "cpu", action)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CineError(path, "weights of another network", "weights of the configured network", action) from error
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise CineError(path, "weights that are not finite", "numbers", "Train again.")
    network.activations = activations


class ModelLoader:
    """Evaluator handler: loads trained weights at the start, after checking that they belong to the network.

    Args:
        path, network, exams, spacing_mm: see ``load_model``.
    """

    def __init__(
        self, path: str, network: Deployable, exams: Iterable[str] = (), spacing_mm: Sequence[float] | None = None
    ):
        self.path, self.network, self.exams, self.spacing_mm = path, network, list(exams), spacing_mm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        load_model(self.path, self.network, self.exams, self.spacing_mm)


CARD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "architecture", "exams"],
    "properties": {
        "format": {"const": FORMAT},
        "architecture": {"type": "string"},
        "exams": {"type": "array", "items": {"type": "string"}},
        "activations": {
            "type": "object",
            "additionalProperties": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}},
        },
        "spacing_mm": {
            "type": "array",
            "minItems": 2,
            "maxItems": 2,
            "items": {"type": "number", "exclusiveMinimum": 0},
        },
    },
}
