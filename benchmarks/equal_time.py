"""Networks of equal training time on unseen exams: the searched one against those that one would otherwise pick.

Every network trains for so many minutes, with the same recipe, exams and fold. Its epochs follow from the duration of
its own training step, measured first; then the steps train and evaluate run as users run them. Stopped, it goes on.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import shared
import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

from scripts.checkpoint import initialise
from scripts.files import read_json, write_json
from scripts.latency.table import LatencyTable
from scripts.runtime.deploy import Runtime
from scripts.search.acceptance import derive
from scripts.space.architecture import Architecture
from scripts.space.sampling import random_architecture
from scripts.space.space import Space

PEERS = ("unet_monai", "dynunet_16")
SEEDS = 3
STEPS, WARM_UP = 12, 3
ALIKE = 0.05  # a random architecture of equal latency: predicted within 5 %


def equally_fast(space: Space, table: LatencyTable, ms: float, count: int) -> list[Architecture]:
    """The first random architectures whose predicted latency is that of the searched network."""
    found: list[Architecture] = []
    seed = 0
    while len(found) < count:
        architecture = random_architecture(space, Random(seed))
        if abs(table.predict(architecture) / ms - 1) < ALIKE:
            found.append(architecture.with_provenance(method="random", seed=seed))
        seed += 1
    return found


def architectures(search_dir: Path, overlay: str) -> dict[str, Architecture]:
    """What trains, by name: searched, random, with an unsearched topology, and drawn by hand."""
    searched = Architecture.load(search_dir / "architecture.json")
    parser, mixings = shared.search_of(search_dir, overlay)
    deriver, constraint, table, runtime, space = (
        parser.get_parsed_content(key) for key in ("deriver", "constraint", "table", "runtime", "space")
    )
    drawn = equally_fast(space, table, table.predict(searched), SEEDS)
    return {
        "searched": searched,
        "uniform beta": derive(mixings["uniform beta"], deriver, constraint, table, space, runtime),
        **{f"random {i}": architecture for i, architecture in enumerate(drawn, start=1)},
        "hand-drawn": shared.hand_drawn(space),
    }


def step_seconds(train: ConfigParser) -> float:
    """The median duration of a training step, on crops of noise."""
    network, loss, optimizer = (train.get_parsed_content(key) for key in ("network", "loss", "optimizer"))
    inferer, batch = train.get_parsed_content("train#inferer"), train["batch_size"]
    image = torch.randn(batch, 1, *train["patch_size"])
    label = torch.randint(0, 4, image.shape)
    initialise(network, 0)
    network.train()
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss(inferer(image, network), label).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:])


def run(step: str, files: list[str], folder: Path, **settings: Any) -> None:
    """A step of the bundle as a user runs it, its output kept."""
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", step, "--config_file", str(files)]
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    with open(folder / f"{step}.log", "w", encoding="utf-8") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


def main() -> None:
    options = shared.parser(__doc__ or "", runtime=False)
    options.add_argument("--dataset_dir", required=True, help="ACDC's folder training")
    options.add_argument("--search_dir", required=True, type=Path, help="work_dir of the search")
    options.add_argument("--work_dir", required=True, type=Path, help="where the networks train")
    options.add_argument("--overlay", default="cpu", help="configuration over those of all steps")
    options.add_argument("--minutes", type=float, default=10.0, help="of training, for each network")
    options.add_argument("--only", nargs="*", help="names of the networks to train now")
    arguments = options.parse_args()
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    known = architectures(arguments.search_dir, arguments.overlay)
    runs: list[tuple[str, str | None, int]] = [(f"searched, seed {seed}", None, seed) for seed in range(SEEDS)]
    runs += [(name, None, 0) for name in known if name != "searched"]
    runs += [(peer, peer, 0) for peer in PEERS]
    rows: dict[str, Any] = {}
    runs = [entry for entry in runs if not arguments.only or entry[0] in arguments.only]
    for name, peer, seed in tqdm(runs, unit="network"):
        folder = arguments.work_dir / name.replace(", ", "_").replace(" ", "_")
        folder.mkdir(exist_ok=True)
        if peer is None and not (folder / "architecture.json").exists():
            known[name.split(",")[0]].save(folder / "architecture.json")
        overlays = [arguments.overlay, *([f"peer_{peer}"] if peer else [])]
        plan = folder / "plan.json"
        if not plan.exists():  # a run that goes on keeps its epochs
            parser = ConfigParser(ConfigParser.load_config_files(shared.config_files("train", *overlays)))
            parser["dataset_dir"], parser["work_dir"] = arguments.dataset_dir, str(folder)
            step_s, steps = step_seconds(parser), len(parser.get_parsed_content("train#dataloader"))
            epochs = max(1, round(60 * arguments.minutes / (step_s * steps)))
            write_json(plan, {"step_seconds": step_s, "steps_an_epoch": steps, "epochs": epochs})
        planned = read_json(plan, {"type": "object"}, "Delete it.")
        settings = {"dataset_dir": arguments.dataset_dir, "work_dir": folder}
        if not (folder / "metrics.json").exists():
            epochs = {"train_epochs": planned["epochs"], "val_interval": planned["epochs"] + 1}
            # the key seed would also deal other exams into the fold
            varied = {"train#handlers#0#seed": seed, **epochs}
            run("train", shared.config_files("train", *overlays), folder, **settings, **varied)
            run("evaluate", shared.config_files("train", "evaluate", *overlays), folder, **settings)
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        rows[name] = {**planned, "dice": metrics["dice"], "latency": metrics["latency"]}
    shared.table(
        ["network", "steps", "RV", "MYO", "LV", "mean", "ms (p95)"],
        [
            [
                name,
                row["epochs"] * row["steps_an_epoch"],
                *(f"{row['dice'][structure]['all']['mean']:.3f}" for structure in ("RV", "MYO", "LV")),
                f"{row['dice']['mean']['mean']:.3f}",
                f"{row['latency']['median_ms']:.1f} ({row['latency']['p95_ms']:.1f})",
            ]
            for name, row in rows.items()
        ],
    )
    shared.finish(rows, arguments.json, Runtime("cpu", "float32", "eager"))


if __name__ == "__main__":
    main()
