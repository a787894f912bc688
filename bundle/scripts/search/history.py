"""``search/history.json`` records a search epoch by epoch; figures and derivation read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.core.distributed import on_main
from scripts.core.errors import CineError
from scripts.core.json_files import read_json, write_json

FORMAT = "rtdnas-search-1"
HISTORY = "history.json"  # a search with mixing weights
ONE_SHOT = "one_shot.json"  # the curves of a search that has no mixing weights
SEARCHES = {
    HISTORY: "a search with mixing weights",
    ONE_SHOT: "a one-shot search (HyperSegNAS)",
}
"""The file that each kind of search leaves in its folder."""


@on_main
def save_history(
    work_dir: str | Path, budget_ms: Any, auto_budget: bool, epochs: list[dict[str, Any]], exams: Sequence[str] = ()
) -> None:
    """Write the history: budget in ms, whether it was "auto", curves and mixing weights of each epoch, and the names of
    the exams that the search reads."""
    content = {
        "format": FORMAT,
        "budget_ms": budget_ms,
        "auto_budget": auto_budget,
        "epochs": epochs,
        "exams": list(exams),
    }
    write_json(Path(work_dir) / "search" / HISTORY, content)


@on_main
def refuse_another_search(folder: str | Path, own: str) -> None:
    """Check, before anything is trained, that the folder of a search has no search of another kind.

    Args:
        folder: the folder ``search``.
        own: the file of this kind of search, a key of ``SEARCHES``.

    Raises:
        CineError: it has one.
    """
    for name, kind in SEARCHES.items():
        if name != own and (Path(folder) / name).exists():
            raise CineError(folder, kind, SEARCHES[own], "Choose another work_dir, so that both results are kept.")


def load_history(work_dir: str | Path) -> dict[str, Any]:
    """Read the history of the search in ``work_dir``; CineError if there is none or it is invalid."""
    folder = Path(work_dir) / "search"
    if (folder / ONE_SHOT).exists():
        action = "Start its search again with another --budget_ms: it chooses again without training shared weights."
        raise CineError(folder, SEARCHES[ONE_SHOT], SEARCHES[HISTORY], action)
    return read_json(folder / HISTORY, SCHEMA, "Run the step search first.", max_mib=256)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "budget_ms", "auto_budget", "epochs"],
    "properties": {
        "format": {"const": FORMAT},
        "budget_ms": {"type": "number", "exclusiveMinimum": 0},
        "auto_budget": {"type": "boolean"},
        "exams": {"type": "array", "items": {"type": "string"}},
        "epochs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["epoch", "latency_ms", "entropy", "parameter_free_share", "mixing"],
                "properties": {
                    "mixing": {
                        "type": "object",
                        "required": ["nodes", "cells"],
                        "properties": {
                            "nodes": {"type": "object"},
                            "cells": {"type": "object", "additionalProperties": {"type": "number"}},
                        },
                    }
                },
            },
        },
    },
}
