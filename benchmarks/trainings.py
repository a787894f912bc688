"""Short trainings from scratch on an inner split, each saved in a file, to rate an architecture.

The exams are the training exams of a fold. A part of them is used for evaluation, so that the fold's test exams stay
unseen. The recipe is that of train.json: its crops, loss, optimiser and learning-rate cycle.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shared
import torch
from monai.bundle import ConfigParser
from monai.metrics import compute_dice

from scripts.core.json_files import write_json
from scripts.exams.folds import split_exams
from scripts.exams.load import load_exams
from scripts.runtime.precision import autocast
from scripts.search.scratch import ScratchTraining
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet

FOLDS = 4
"""The inner split: a quarter of the patients is used for evaluation."""
PatientDice = dict[str, float]
"""Patient -> mean Dice over structures and phases."""


def mean_of_patients(dice: PatientDice) -> float:
    return statistics.mean(dice.values())


def write_datalists(dataset_dir: str, inner: Path, searched: Path) -> None:
    """Write datalists of fold 0's training exams, and of those among them for search and training."""
    if inner.exists() and searched.exists():
        return
    training, _ = split_exams(load_exams(dataset_dir))
    write_json(inner, {"training": training})
    write_json(searched, {"training": split_exams(training, folds=FOLDS)[0]})


@dataclass
class Trainings:
    """Trains architectures and evaluates them by patient.

    Args:
        folder: the folder of one JSON file per training.
        datalist: the exams.
        folds: the number of parts of the exams; the first part is used for evaluation.
        overlay: configuration over that of the step train.
        patch_size: H W D of the crops, voxels.
    """

    folder: Path
    datalist: Path
    folds: int
    overlay: str
    patch_size: tuple[int, int, int]

    def __post_init__(self) -> None:
        files = shared.config_files("train", self.overlay)
        self.config = ConfigParser(ConfigParser.load_config_files(files))
        settings = {"datalist": str(self.datalist), "folds": self.folds, "patch_size": list(self.patch_size)}
        for key, value in settings.items():
            self.config[key] = value
        self._judged: list[dict[str, Any]] = []

    def dice(self, architecture: Architecture, steps: int, seed: int = 0) -> PatientDice:
        """Each patient's mean Dice over structures and phases, after training for ``steps`` steps."""
        path = self.folder / f"{architecture.digest[:16]}_{steps}_{seed}.json"
        if not path.exists():
            found = self._judge(self._trained(architecture, steps, seed))
            write_json(path, {"steps": steps, "seed": seed, "dice": found})
        return json.loads(path.read_text(encoding="utf-8"))["dice"]

    def step_seconds(self, architecture: Architecture, steps: int = 40) -> float:
        """Seconds of one step on a quiet device, without the start-up before the first."""
        self._trained(architecture, 5, 0)
        start = time.perf_counter()
        self._trained(architecture, steps, 0)
        return (time.perf_counter() - start) / steps

    def _trained(self, architecture: Architecture, steps: int, seed: int) -> CineNet:
        parsed = self.config.get_parsed_content
        device, loader, loss, rate = (parsed(key) for key in ("device", "train#dataloader", "loss", "learning_rate"))
        return ScratchTraining(loader, loss, (), rate, seed, device).trained(architecture, steps)

    @torch.no_grad()
    def _judge(self, network: CineNet) -> PatientDice:
        device = self.config.get_parsed_content("device")
        if not self._judged:
            self._judged = [self._volume(item) for item in self.config.get_parsed_content("validate#dataset")]
        of_patients: dict[str, list[float]] = {}
        for item in self._judged:
            with autocast(device):
                logits = network(item["image"].to(device, memory_format=torch.channels_last_3d))
            # a structure that is absent from the label is NaN
            dice = compute_dice(
                logits.argmax(1, keepdim=True), item["label"].to(device), include_background=False, num_classes=4
            )
            of_patients.setdefault(item["patient"], []).append(float(dice.nanmean()))
        return {patient: sum(values) / len(values) for patient, values in sorted(of_patients.items())}

    def _volume(self, item: dict[str, Any]) -> dict[str, Any]:
        image, label = (torch.as_tensor(item[key]).as_subclass(torch.Tensor)[None] for key in ("image", "label"))
        return {"patient": item["patient"], "image": image, "label": label}
