"""A bundle with weights, packed: its own where it ships them, else those of a small network trained on the phantom."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from server import HOME, environment

from release.pack import pack
from scripts import BUNDLE_ROOT, manifest
from scripts.cine.phantom import write_phantom
from scripts.space.architecture import Architecture
from scripts.space.space import Space

PATIENTS, EPOCHS = 5, 25
CELL = ((0, "conv_3x3x3"), (1, "conv_3x3x1"))
RUN_S = 150


def packed(folder: Path) -> Path:
    """The zip of ``make bundle``, of a copy of the checkout's bundle."""
    bundle = folder / "bundle"
    shutil.copytree(BUNDLE_ROOT, bundle, ignore=shutil.ignore_patterns("__pycache__"))
    if not (bundle / "models" / "model.pt").exists():
        sys.stdout.write("The bundle ships no weights: a small network is trained on the phantom.\n")
        for file in train(folder / "trained", bundle):
            shutil.copy(file, bundle / "models")
        manifest.write(bundle / "models")
    return pack(folder / "dist", bundle)


def train(work_dir: Path, bundle: Path) -> list[Path]:
    """A model's files, by the step ``train``."""
    space = Space(layers=4, scales=3, nodes=2, channels=8, stem_stride=2, deployment_size=(96, 96, 8))
    kinds = ("contracting", "non_scaling", "expanding")
    Architecture(space, dict.fromkeys(kinds, CELL), ((0, 1, 2, 1, 0), (0, 1, 1, 1, 0))).save(
        work_dir / "architecture.json"
    )
    write_phantom(work_dir / "phantom", PATIENTS)
    run(
        bundle,
        "train",
        work_dir,
        work_dir=work_dir,
        dataset_dir=work_dir / "phantom",
        train_epochs=EPOCHS,
        val_interval=EPOCHS,
        patch_size=[64, 64, 6],
    )
    return [work_dir / name for name in manifest.MODEL_FILES]


def run(bundle: Path, step: str, place: Path, **overrides: object) -> None:
    """A step of a bundle, as a command in the working directory ``place``.

    In the home of the server, which is beside it: what is faster here, and with it how logits are rounded, is measured
    once a home.
    """
    config = {"infer": "inference"}.get(step, step)
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", step]
    command += ["--config_file", str(bundle / "configs" / f"{config}.json")]
    for key, value in overrides.items():
        command += [f"--{key}", json.dumps(value) if isinstance(value, list) else str(value)]
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command,
        cwd=place,
        env=environment(place.parent / HOME),
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{step} ended with code {done.returncode}:\n{done.stderr[-3000:]}")
