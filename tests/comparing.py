"""The command of a comparison, for the tests that run it."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts import BUNDLE_ROOT

_EPOCH = {"epoch": 1, "latency_ms": 1.0, "entropy": {}, "parameter_free_share": {}}
HISTORY = {
    **{"format": "rtdnas-search-1", "budget_ms": 7.5, "auto_budget": True},
    "epochs": [{**_EPOCH, "mixing": {"nodes": {}, "cells": {}}}],
}  # the keys of a search's file that other steps read


def command(folder: Path, **overrides: object) -> list[str]:
    files = [str(BUNDLE_ROOT / "configs" / "compare.json"), str(folder / "compare_tiny.json")]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "compare", "--config_file", str(files)]
    for key, value in {"work_dir": "work", "dataset_dir": folder / "acdc", **overrides}.items():
        command += [f"--{key}", str(value)]
    return command
