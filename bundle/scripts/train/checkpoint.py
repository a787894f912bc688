"""Checkpoints that are complete or absent, and epochs that can be repeated: what search and training need to resume."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.utils import set_determinism
from torch.utils.data import DistributedSampler

from scripts.core import distributed
from scripts.core.errors import CineError
from scripts.core.files import PARTIAL, replacing
from scripts.core.safe_load import load_whole

logger = logging.getLogger(__name__)


def seed_epoch(seed: int, epoch: int, loaders: Iterable[Any]) -> None:
    """Seed every random state from (seed, epoch), so that an epoch is the same in a resumed run.

    With several processes, each has its own random numbers for augmentation, but all use the same order of exams.
    """
    shared = 1_000_003 * seed + epoch
    seed = shared + 100_003 * distributed.rank()
    set_determinism(seed)
    for loader in loaders:
        sampler = getattr(loader, "sampler", None)
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(shared)
        if getattr(loader, "generator", None) is not None:
            loader.generator.manual_seed(seed)
        transform: Any = getattr(getattr(loader, "dataset", None), "transform", None)
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed % 2**31)


def random_states() -> list[dict[str, Any]]:
    """The states of the global random generators of each process, in types that ``load`` accepts."""
    name, keys, *rest = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    states["cuda"] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return distributed.gather(states)


def restore_random_states(of_processes: Sequence[Mapping[str, Any]]) -> None:
    """Continue the random numbers from the point where ``random_states`` was called."""
    states = of_processes[distributed.rank()]
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(states["numpy"]))
    torch.set_rng_state(states["torch"].cpu())
    torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])


def initialise(network: torch.nn.Module, seed: int) -> None:
    """Draw new weights that depend only on the seed, not on earlier random numbers, such as those of autotuning."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # a network with its own initialisation is not reset layer by layer
        for module in [network] if hasattr(network, "reset_parameters") else network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()


@distributed.on_main
def save(path: str | Path, content: Any) -> None:
    """Write tensors and plain values, as a whole or not at all; CineError if the disk is full."""
    with replacing(path) as temporary:
        _write(temporary, content)


@distributed.on_main
def save_newest(path: str | Path, content: Any) -> None:
    """Write a checkpoint and keep the one before it, in case the new one cannot be read."""
    with replacing(path) as temporary:
        _write(temporary, content)
        if Path(path).exists():
            os.replace(path, _before(path))


def _write(path: Path, content: Any) -> None:
    try:
        torch.save(content, path)
    except RuntimeError as error:  # torch's writer reports a full disk only like this
        raise OSError(errno.ENOSPC, "PyTorch could not write all of it") from error


def _before(path: str | Path) -> Path:
    return Path(path).with_suffix(".before.pt")


def load(path: str | Path, device: str | torch.device, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None if there is none.

    Args:
        path: the file of ``save_newest``.
        device: where its tensors go.
        identity: the values that the resuming run must share with the run that saved.

    Raises:
        CineError: none can be read, or it belongs to another configuration; the message gives the first difference.
    """
    checkpoint = _newest(path, device)
    if checkpoint is None:
        return None
    for key, value in identity.items():
        found = checkpoint["identity"].get(key)
        if found != value:
            before, now = _difference(found, value)
            raise CineError(
                path,
                f"a checkpoint with {key} = {before}",
                f"{now}, as configured now",
                "Restore the configuration to resume, or choose another work_dir for a new run.",
            )
    return checkpoint


@contextmanager
def fitting(path: str | Path) -> Iterator[None]:
    """Turn errors while a checkpoint's parts are restored into a CineError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        found = f"parts that do not fit ({type(error).__name__})"
        raise CineError(path, found, "the parts of this run", "Delete it to start again.") from error


@distributed.on_main
def _newest(path: str | Path, device: str | torch.device) -> dict[str, Any] | None:
    for orphan in Path(path).parent.glob(
        PARTIAL + "*"
    ):  # left by a killed run; the resuming run has locked the work_dir
        with suppress(OSError):
            orphan.unlink()
    files = [file for file in (Path(path), _before(path)) if file.exists()]
    for file in files:
        try:
            checkpoint = load_whole(file, device, "Delete it to start again.")
            if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("identity"), dict):
                raise CineError(
                    file, "a file that is not a checkpoint of this project", "a checkpoint", "Choose another work_dir."
                )
        except CineError as error:
            if file == files[-1]:
                raise
            logger.warning("%s Continuing from the checkpoint before it", error)
        else:
            return checkpoint
    return None


def _difference(found: Any, expected: Any) -> tuple[str, str]:
    """Two values as text; for two lists or dictionaries, the first entries that differ."""
    if isinstance(found, list) and isinstance(expected, list):
        pairs = itertools.zip_longest(found, expected, fillvalue="nothing")
        at, (before, now) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        return f"a list of {len(found)} where entry {at} is {before!r}", f"a list of {len(expected)} with {now!r} there"
    if isinstance(found, dict) and isinstance(expected, dict):
        key = next(key for key in {**found, **expected} if found.get(key) != expected.get(key))
        before, now = _difference(found.get(key), expected.get(key))
        return f"#{key} = {before}", f"#{key} = {now}"
    return repr(found), repr(expected)
