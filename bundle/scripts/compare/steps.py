"""Run the steps of a comparison as separate processes; completed steps stay, and a failed step does not stop others."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from scripts.compare.entries import Network, Search
from scripts.compare.plan import Plan, Step
from scripts.core.errors import CineError
from scripts.core.files import replacing, sha256, writing
from scripts.core.interruption import interrupted
from scripts.core.json_files import read_json, write_json
from scripts.search.history import load_history
from scripts.space.architecture import Architecture
from scripts.space.sampling import random_architecture

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-done-1"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "steps"],
    "properties": {"format": {"const": FORMAT}, "steps": {"type": "object"}},
}
LAST_LINES = 5
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_SET_PARENT_DEATH_SIGNAL = 1
Failures = dict[str, str]


def run_plan(plan: Plan) -> Failures:
    """Run every step that is not done yet.

    Returns:
        The last output lines of the searches and networks that failed, by name.
    """
    failures: Failures = {}
    for step in plan.steps:
        _refuse_another_training(step)
    with tqdm(total=len(plan.steps), desc="compare", unit="step") as bar:
        for search in plan.used_searches:
            _attempt(_title(search), [plan.search_step(search)], failures, bar)
        for network in plan.entries:
            steps = plan.steps_of(network)
            if network.searched and network.search and _title(network.search) in failures:
                failures[network.name] = f"{_title(network.search)} failed"
                bar.update(len(steps))
            else:
                _attempt(network.name, steps, failures, bar, partial(_provide_architecture, network, plan))
    return failures


def _title(search: Search) -> str:
    return f"search {search.name}"


def _attempt(
    name: str, steps: Sequence[Step], failures: Failures, bar: tqdm, prepare: Callable[[], None] | None = None
) -> None:
    """Prepare and run the steps of a search or network, up to the first that fails."""
    left = len(steps)
    try:
        if prepare is not None:
            prepare()
        for step in steps:
            bar.set_postfix_str(f"{name}: {step.step}")
            run_step(step)
            bar.update()
            left -= 1
    except CineError as error:
        logger.warning("%s failed; continuing with the others. %s", name, error)
        failures[name] = str(error)
        bar.update(left)


def _provide_architecture(network: Network, plan: Plan) -> None:
    """Put the input of the network's first step into its folder."""
    if network.random is not None:
        architecture = random_architecture(plan.space_of(network.search), Random(network.random))
        architecture.with_provenance(method="random", seed=network.random).save(network.architecture_file)
    elif network.architecture is not None:
        architecture = Architecture.load(network.architecture)
        plan.check_size(network.architecture, architecture.space)
        architecture.save(network.architecture_file)
    elif network.search is not None and network.derive is None:
        _copy(network.search.architecture_file, network.architecture_file)
    elif network.search is not None:
        load_history(network.search.folder)  # raises an error if there is nothing to derive from
        _copy(network.search.history_file, network.history_file)


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise CineError(source, "no such file", "a result of the search", "See the search's log.txt.")
    with replacing(target) as temporary:
        temporary.write_bytes(source.read_bytes())


def run_step(step: Step) -> bool:
    """Run a step, unless it is done with the same settings and inputs; returns whether it ran.

    Raises:
        CineError: it failed; the message gives its last output lines.
    """
    files = step.write_settings()
    state = {"files": _digests(files), "inputs": _digests(step.inputs)}
    done = _done(step)
    if step.output.exists() and done.get(step.step) == state:
        return False
    _refuse_another_training(step, state["inputs"])
    command = [sys.executable, "-m", "monai.bundle", "run", step.step, "--config_file", str(files)]
    code, said = _execute(command, step.folder / "log.txt")
    if code:
        found = f"the step {step.step} with exit code {code} and the message: {said.rstrip('.')}"
        action = "Correct the cause and repeat the same command: completed steps are not run again."
        raise CineError(step.folder / "log.txt", found, "exit code 0", action)
    write_json(step.folder / "done.json", {"format": FORMAT, "steps": {**done, step.step: state}})
    return True


def _done(step: Step) -> dict[str, Any]:
    """The completed steps in a step's folder, and their inputs."""
    path = step.folder / "done.json"
    return read_json(path, SCHEMA, "Delete it.")["steps"] if path.exists() else {}


def _digests(files: Sequence[str | Path]) -> dict[str, str]:
    return {Path(file).name: sha256(file) for file in files}


def _refuse_another_training(step: Step, inputs: Mapping[str, str] | None = None) -> None:
    """Refuse to silently replace a completed training, or to use one with other settings or inputs."""
    before = _done(step).get(step.step)
    if step.step != "train" or before is None:
        return
    now = {"files": _digests(step.write_settings()), "inputs": before["inputs"] if inputs is None else inputs}
    if before != now:
        raise CineError(
            f"{step.owner} in {step.folder}",
            "a training with other settings",
            "the present settings, or no training",
            f"Restore the settings, delete {step.folder} to train again, or choose another work_dir.",
        )


def _execute(command: Sequence[str], log: Path) -> tuple[int, str]:
    """Run a command; returns its exit code and the last lines of its log."""
    # in a file, a progress bar would add a line each time it is redrawn
    environment = {"TQDM_MININTERVAL": "60", **os.environ}
    with writing(log), log.open("ab") as file:
        file.write(f"$ {json.dumps(command)}\n".encode())
        file.flush()
        start = file.tell()
        # its own session: Ctrl-C reaches it only once, through this process, so that it saves and stops
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=None if _LIBC is None else _end_with_parent,
        )
        code, wanted = None, False
        while code is None:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                wanted = True
                process.send_signal(signal.SIGINT)
    if wanted:
        raise KeyboardInterrupt(interrupted(log.parent))
    with log.open("rb") as file:
        file.seek(start)
        return code, _last_words(file.read().decode(errors="replace"))


def _end_with_parent() -> None:
    """In a new process: save and stop when its parent is killed, so that it does not run on unnoticed (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _last_words(said: str) -> str:
    """The message of an error, or the last output lines."""
    lines = [line.rsplit("\r", 1)[-1].strip() for line in said.split("\n")]  # for a progress bar, its last state
    lines = [line for line in lines if line]
    errors = [number for number, line in enumerate(lines) if line.startswith("Error: ")]
    return " ".join(lines[errors[-1] :] if errors else lines[-LAST_LINES:])


def name_failures(plan: Plan, failures: Mapping[str, str]) -> None:
    """End the comparison with an error if something failed.

    Raises:
        CineError: searches or networks failed; the message names each, with its last output lines.
    """
    if not failures:
        return
    messages = "".join(f"\n- {name}: {message}" for name, message in failures.items())
    rest = sum(network.name not in failures for network in plan.entries)
    found = f"{len(failures)} failed searches and networks"
    raise CineError(plan.work_dir, found, f"no failures. The other {rest} networks are in the tables", messages)
