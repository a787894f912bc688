"""``run.json`` records what a step ran with and what it wrote, so that a result can be traced and repeated."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from scripts.core.distributed import on_main
from scripts.core.errors import CineError
from scripts.core.files import sha256, writing
from scripts.core.json_files import read_json, write_json
from scripts.run.workflow import running_workflow, started
from scripts.runtime.device import describe_device, peak_memory

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-run-1"
EARLIER, _LOCK = "runs", ".run.json.lock"
PACKAGES = ("monai", "torch", "nibabel", "numpy", "pytorch-ignite", "openvino", "onnxruntime", "pydicom")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "steps"],
    "properties": {"format": {"const": FORMAT}, "steps": {"type": "object"}},
}


@on_main
def record_run(
    step: str,
    folder: str,
    outputs: Sequence[str],
    inputs: Any = (),
    patients: Mapping[str, Sequence[str]] | None = None,
    split: str | None = None,
    device: Any = "cpu",
) -> None:
    """Write the entry of a step in ``folder/run.json``; the entries of other steps stay.

    An entry of an earlier run of this step moves into the folder ``runs`` if some results of that run still exist.

    Args:
        step: the name of the step.
        folder: the folder of its results.
        outputs: files and folders there; from a folder, only files that were written since the step began.
        inputs: paths, which may be nested in lists and dicts; files are recorded with their SHA-256.
        patients: the patients in each part of the exams.
        split: the rule that split the exams.
        device: the device that the step used.
    """
    began, root = started(), Path(os.path.abspath(folder))
    workflow = running_workflow()
    config = workflow.parser.config if workflow is not None else None
    entry = {
        "command": sys.argv,
        "started": datetime.datetime.fromtimestamp(began).astimezone().isoformat(timespec="seconds"),
        "seconds": round(time.time() - began, 1),
        "peak_memory_mib": {name: round(size / 2**20) for name, size in peak_memory(device).items()},
        "device": describe_device(str(device)),
        "versions": _versions(),
        "seed": (config or {}).get("seed"),
        "config": config,
        "patients": patients,
        "split": split,
        "inputs": {str(path): sha256(path) for path in sorted(set(_files(inputs)))},
        "outputs": {
            str(path.relative_to(root)): sha256(path)
            for name in outputs
            for path in sorted(_below(root / name))
            if path.stat().st_mtime >= began
        },
    }
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / _LOCK):  # several jobs may write to one folder; each must read the others' entries
            _add(root, step, entry)


def _add(root: Path, step: str, entry: dict[str, Any]) -> None:
    path = root / "run.json"
    try:
        steps = read_json(path, SCHEMA, "It was renamed to run.broken.json.")["steps"] if path.exists() else {}
    except CineError as error:  # the step is done, so this must not fail it
        logger.warning("%s", error)
        path.replace(path.with_suffix(".broken.json"))
        steps = {}
    if step in steps:
        _keep(root, step, steps[step], entry)
    write_json(path, {"format": FORMAT, "steps": {**steps, step: entry}})


def _keep(root: Path, step: str, earlier: Any, entry: Mapping[str, Any]) -> None:
    """Move the entry of an earlier run into the folder EARLIER, unless this run replaced all its results."""
    try:
        results, began = set(earlier["outputs"]) - set(entry["outputs"]), str(earlier["started"])
    except (TypeError, LookupError):  # an entry that someone edited by hand
        return
    if any((root / name).exists() for name in results):
        content = {"format": FORMAT, "steps": {step: earlier}}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        write_json(root / EARLIER / f"{step}_{re.sub(r'[^0-9T]', '', began)[:15]}_{digest}.json", content)


def _below(path: Path) -> Iterator[Path]:
    return (file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def _files(inputs: Any) -> Iterator[Path]:
    """The files that nested values name."""
    if isinstance(inputs, str | Path):
        if Path(inputs).is_file():
            yield Path(inputs)
        return
    if isinstance(inputs, Mapping):
        inputs = list(inputs.values())
    if isinstance(inputs, Sequence):
        for value in inputs:
            yield from _files(value)


def _versions() -> dict[str, str]:
    installed = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
