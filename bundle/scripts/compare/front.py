"""Separate searches under several budgets: the front of accuracy against latency (RT-DNAS 2.2)."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.compare.plan import Step
from scripts.compare.steps import run_step
from scripts.core.json_files import read_json, write_json
from scripts.run.start import files_and_settings
from scripts.space.architecture import Architecture

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-front-1"


def search_front(work_dir: str, budgets: Sequence[float], latency_file: str) -> None:
    """Search under each budget in a separate folder, and write ``front.json``; completed searches are not repeated.

    Each search is the step search with the files and overrides of this run. All share one latency table.

    Raises:
        CineError: a search failed; the message gives its last lines.
    """
    files, shared = files_and_settings()
    shared.pop("budgets", None)
    entries = []
    for budget_ms in tqdm(sorted(budgets), desc="budgets", unit="search"):
        folder = folder_of(work_dir, budget_ms)
        own = {"work_dir": str(folder), "budget_ms": budget_ms, "latency_file": latency_file}
        step = Step(
            step="search",
            owner=f"budget {budget_ms:g} ms",
            folder=folder,
            files=tuple(files),
            settings=json.loads(json.dumps({**shared, **own})),
            inputs=(Path(latency_file),),
            output=folder / "architecture.json",
        )
        logger.info("Search under %g ms: its log is %s", budget_ms, folder / "log.txt")
        run_step(step)
        entries.append(entry_of(folder, budget_ms))
        write_json(Path(work_dir) / "front.json", {"format": FORMAT, "networks": entries})


def folder_of(work_dir: str, budget_ms: float) -> Path:
    """The folder of the search under a budget, such as budget_10 or budget_12.5."""
    return Path(work_dir) / f"budget_{float(budget_ms)!r}".removesuffix(".0")


def entry_of(folder: Path, budget_ms: float) -> dict[str, Any]:
    """The entry of the front for the network in a folder."""
    architecture = Architecture.load(folder / "architecture.json")
    provenance = architecture.provenance
    return {
        "budget_ms": budget_ms,
        "folder": folder.name,
        "paths": len(architecture.paths),
        "cells": len(architecture.union),
        **{key: getattr(provenance, key) for key in ("predicted_ms", "measured_ms", "shared_dice", "fine_tuned_dice")},
    }


def load_front(work_dir: str | Path) -> list[dict[str, Any]]:
    """The networks of ``front.json``; CineError if there is none or it is invalid."""
    return read_json(Path(work_dir) / "front.json", SCHEMA, "Run the step front.")["networks"]


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "networks"],
    "properties": {
        "format": {"const": FORMAT},
        "networks": {"type": "array", "items": {"type": "object", "required": ["budget_ms", "folder", "paths"]}},
    },
}
