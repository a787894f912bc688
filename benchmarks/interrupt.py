"""Killed runs: what a search and a training lose by SIGKILL, full disks and read-only folders.

Half of the kills come at random moments, half as soon as a checkpoint is being written. Every run is resumed until it
ends, and compared with an uninterrupted run: checkpoints bit for bit, architecture, history. The runs are
`monai.bundle run` with the shipped configurations, forked from one process that has everything imported.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shared
import torch
from monai.bundle import run

from scripts import BUNDLE_ROOT
from scripts.core.json_files import write_json
from scripts.run.start import as_command, report
from scripts.space.architecture import Architecture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from identical import identical

CONFIGS = BUNDLE_ROOT / "configs"
# a budget that every network meets, so that measurements do not matter; the smallest space with every kind of cell
SMALL = {
    "space": {"_target_": "scripts.space.space.Space", "layers": 2, "scales": 2, "nodes": 2, "channels": 4},
    "search_channels": 4,
    "search_patch_size": [32, 32, 4],
    "budget_ms": 1e6,
    "volumes_per_second": 0.001,
    "profile_seconds": 0,
    "backend": "eager",
    "paths": 2,
    "pool_size": 4,
    "search_epochs": 12,
    "warm_up_epochs": 3,
}
SMALL["space"]["deployment_size"] = SMALL["search_patch_size"]  # type: ignore[index]
TRAINING = {"train_epochs": 12, "patch_size": [32, 32, 4], "val_interval": 100, "batch_size": 2}
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "search": ("search/checkpoint.pt", SMALL),
    "train": ("train/checkpoint.pt", TRAINING),
}


def command(step: str, work_dir: Path, limit_bytes: int | None = None) -> None:
    """Run the step as `monai.bundle run` does; an optional limit on the size of files imitates a full disk."""
    sys.stderr = sys.stdout = open(work_dir / f"{step}.log", "a", encoding="utf-8")  # noqa: SIM115
    logging.disable(logging.INFO)
    if limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    torch.set_num_threads(1)
    files = [str(CONFIGS / f"{name}.json") for name in (step, "demo")]
    as_command()
    try:
        run(step if step == "search" else "run", config_file=files, work_dir=str(work_dir), **STEPS[step][1])
    except BaseException as error:
        report(type(error), error, error.__traceback__)


def start(step: str, work_dir: Path, *arguments: Any) -> Any:
    """A separate process that runs the step."""
    work_dir.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=command, args=(step, work_dir, *arguments))
    process.start()
    return process


def outcome(step: str, work_dir: Path) -> Any:
    """The results that must be equal: the last checkpoint, and for a search its architecture."""
    content = torch.load(work_dir / STEPS[step][0], weights_only=True)
    return content, Architecture.load(work_dir / "architecture.json").digest


def writing(folder: Path) -> Callable[[], bool]:
    """A function that checks whether a file is being written in a folder."""
    return lambda: any(folder.glob(".partial-*"))


def killed(step: str, folder: Path, prepare: Callable[[Path], None], whole_s: float, kills: int) -> dict[str, Any]:
    """Kill and resume until there were ``kills`` kills; every run that ends is compared."""
    prepare(folder / "whole")
    start(step, folder / "whole").join()
    expected = outcome(step, folder / "whole")
    draw = random.Random(0)
    done = {"kills": 0, "kills_while_writing": 0, "runs": 0, "equal": 0, "failed": 0}
    while done["kills"] < kills:
        work_dir = folder / f"run{done['runs']}"
        prepare(work_dir)
        while True:
            process, at = start(step, work_dir), time.monotonic() + draw.uniform(0.1, whole_s / 2)
            condition = writing(work_dir / step) if draw.random() < 0.5 else lambda: False
            while process.is_alive() and time.monotonic() < at and not condition():
                time.sleep(0.0005)
            if not process.is_alive() or done["kills"] >= kills:
                process.join()
                break
            done["kills_while_writing"] += writing(work_dir / step)()
            done["kills"] += 1
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        done["runs"] += 1
        done["failed"] += process.exitcode != 0
        done["equal"] += process.exitcode == 0 and identical(outcome(step, work_dir), expected)
    return done


def checkpoints(folder: Path) -> list[bytes]:
    """The checkpoints of a search, the newest first: one or two."""
    files = [folder / "search" / name for name in ("checkpoint.pt", "checkpoint.before.pt")]
    return [file.read_bytes() for file in files if file.exists()]


def begun(folder: Path, prepare: Callable[[Path], None]) -> bytes:
    """Start a search and kill it after its second checkpoint; returns its newest checkpoint."""
    prepare(folder)
    process = start("search", folder)
    while process.is_alive() and not (folder / "search" / "checkpoint.before.pt").exists():
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    for partial in (folder / "search").glob(".partial-*"):  # left by this kill; later steps must not leave any
        partial.unlink()
    return checkpoints(folder)[0]


def full_disk(folder: Path, prepare: Callable[[Path], None]) -> dict[str, Any]:
    """Resume it while no file may be larger than half of a checkpoint."""
    before = begun(folder, prepare)
    process = start("search", folder, len(before) // 2)
    process.join()
    return verdict(folder, before, process.exitcode)


def read_only(folder: Path, prepare: Callable[[Path], None]) -> dict[str, Any] | None:
    """Resume it with a read-only folder of checkpoints; None if this process is root and cannot change that."""
    before = begun(folder, prepare)
    root = os.geteuid() == 0
    if root and not shutil.which("setpriv"):
        return None
    powerless = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if root else []
    (folder / "search").chmod(0o555)
    done = subprocess.run([*powerless, sys.executable, __file__, "--only", "search", str(folder)], check=False)
    (folder / "search").chmod(0o755)
    return verdict(folder, before, done.returncode)


def verdict(folder: Path, before: bytes, code: int | None) -> dict[str, Any]:
    """The messages, and whether the earlier checkpoint is still there."""
    *_, said = (folder / "search.log").read_text(encoding="utf-8").strip().splitlines()
    kept = before in checkpoints(folder)
    return {"exit_code": code, "checkpoint_kept": kept, "half_written": writing(folder / "search")(), "said": said}


def main() -> None:
    options = shared.parser(__doc__ or "")
    options.add_argument("--kills", type=int, default=50, help="of each step")
    options.add_argument("--only", nargs=2, metavar=("STEP", "WORK_DIR"), help="only this step, to its end")
    arguments = options.parse_args()
    if arguments.only:
        command(arguments.only[0], Path(arguments.only[1]))
        return
    folder = Path(tempfile.mkdtemp(prefix="interrupt-"))
    shared.show(f"in {folder}")
    found: dict[str, Any] = {}
    try:
        (folder / "first").mkdir()
        began = time.monotonic()
        start("search", folder / "first").join()
        whole_s = time.monotonic() - began

        def prepare(work_dir: Path) -> None:
            work_dir.mkdir(parents=True)
            for name in ("latency.json", "architecture.json"):
                shutil.copy(folder / "first" / name, work_dir)

        for step in STEPS:
            found[step] = killed(step, folder / step, prepare, whole_s, arguments.kills)
            shared.show(f"{step}: {found[step]}")
        found["refused_writes"] = {
            "disk full": full_disk(folder / "full", prepare),
            "read-only folder": read_only(folder / "read_only", prepare),
        }
        shared.show(str(found["refused_writes"]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        write_json(arguments.json, found)


if __name__ == "__main__":
    main()
