"""Run the steps of a comparison as processes of their own; what is done stays done, what fails does not stop others."""

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
        what became of the searches and networks that failed, by name: the last lines that they said.
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
        logger.warning("%s failed, the others go on. %s", name, error)
        failures[name] = str(error)
        bar.update(left)


def _provide_architecture(network: Network, plan: Plan) -> None:
    """Put into the network's folder what its first step reads."""
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
        load_history(network.search.folder)  # says so where there is nothing to derive from
        _copy(network.search.history_file, network.history_file)


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise CineError(source, "no such file", "what the search wrote", "See the search's log.txt.")
    with replacing(target) as temporary:
        temporary.write_bytes(source.read_bytes())


def run_step(step: Step) -> bool:
    """Run a step, unless it is done with the same settings and inputs; whether it ran.

    Raises:
        CineError: it failed; with the last lines that it said.
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
        found = f"that {step.step} ended with exit code {code}, saying: {said.rstrip('.')}"
        action = "Mend the cause and give the same command again: what is done is not run again."
        raise CineError(step.folder / "log.txt", found, "exit code 0", action)
    write_json(step.folder / "done.json", {"format": FORMAT, "steps": {**done, step.step: state}})
    return True


def _done(step: Step) -> dict[str, Any]:
    """The steps that are done in a step's folder, and what they read."""
    path = step.folder / "done.json"
    return read_json(path, SCHEMA, "Delete it.")["steps"] if path.exists() else {}


def _digests(files: Sequence[str | Path]) -> dict[str, str]:
    return {Path(file).name: sha256(file) for file in files}


def _refuse_another_training(step: Step, inputs: Mapping[str, str] | None = None) -> None:
    """A training that is done is never thrown away in silence, nor taken for one with other settings or inputs."""
    before = _done(step).get(step.step)
    if step.step != "train" or before is None:
        return
    now = {"files": _digests(step.write_settings()), "inputs": before["inputs"] if inputs is None else inputs}
    if before != now:
        raise CineError(
            f"{step.owner} in {step.folder}",
            "a training with other settings",
            "the settings of now, or no training",
            f"Restore the settings, delete {step.folder} to train it anew, or choose another work_dir.",
        )


def _execute(command: Sequence[str], log: Path) -> tuple[int, str]:
    """Run a command; its exit code, and the last lines that it wrote into its log."""
    # a bar that is redrawn in a file is one line each time
    environment = {"TQDM_MININTERVAL": "60", **os.environ}
    with writing(log), log.open("ab") as file:
        file.write(f"$ {json.dumps(command)}\n".encode())
        file.flush()
        start = file.tell()
        # a session of its own: Ctrl-C reaches it through us alone, once, which it takes for the wish to save and stop
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
    """In a new process: when the one that started it is killed, save and stop, lest it works on unseen (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _last_words(said: str) -> str:
    """The message of an error, or the last lines."""
    lines = [line.rsplit("\r", 1)[-1].strip() for line in said.split("\n")]  # of a bar, its last state
    lines = [line for line in lines if line]
    errors = [number for number, line in enumerate(lines) if line.startswith("Error: ")]
    return " ".join(lines[errors[-1] :] if errors else lines[-LAST_LINES:])


def name_failures(plan: Plan, failures: Mapping[str, str]) -> None:
    """End the comparison.

    Raises:
        CineError: searches or networks failed; names each, with what it said.
    """
    if not failures:
        return
    messages = "".join(f"\n- {name}: {message}" for name, message in failures.items())
    rest = sum(network.name not in failures for network in plan.entries)
    found = f"{len(failures)} searches and networks that failed"
    raise CineError(plan.work_dir, found, f"all of them. The other {rest} networks are in the tables", messages)
