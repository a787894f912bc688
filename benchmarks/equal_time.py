"""Networks with equal training time on unseen exams: the searched network compared with usual choices.

Every network trains for the same number of minutes, with the same recipe, exams and fold. Its epochs follow from the
duration of its training step; all these durations are measured first, in turn. Then the steps train and evaluate run as
users run them. At the end all networks are timed side by side. A stopped run continues when it is started again.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import shared
import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

from scripts.compare.costs import time_side_by_side
from scripts.core.json_files import read_json, write_json
from scripts.latency.table import LatencyTable
from scripts.latency.timer import Timing
from scripts.report.comparison_figure import scatter_figure
from scripts.report.style import save_figure
from scripts.runtime.deploy import Runtime
from scripts.search.acceptance import derive_within_budget
from scripts.search.constraint import Constraint
from scripts.space.architecture import Architecture
from scripts.space.sampling import random_architecture
from scripts.space.space import Space
from scripts.train.checkpoint import initialise

BASELINES = ("unet_monai", "dynunet_16")
SEEDS = 3
ROUNDS, STEPS = 4, 3
ALIKE = 0.05  # a random architecture of equal latency: predicted within 5 %


def equally_fast(space: Space, table: LatencyTable, ms: float, count: int) -> list[Architecture]:
    """The first random architectures with nearly the predicted latency of the searched network."""
    found: list[Architecture] = []
    seed = 0
    while len(found) < count:
        architecture = random_architecture(space, Random(seed))
        if abs(table.predict(architecture) / ms - 1) < ALIKE:
            found.append(architecture.with_provenance(method="random", seed=seed))
        seed += 1
    return found


def architectures(search_dir: Path, overlay: str) -> dict[str, Architecture]:
    """The architectures to train, by name: searched, random, with an unsearched topology, and drawn by hand."""
    searched = Architecture.load(search_dir / "architecture.json")
    parser, mixings = shared.search_of(search_dir, overlay)
    deriver, judge = (parser.get_parsed_content(key) for key in ("deriver", "judge"))
    drawn = equally_fast(judge.space, judge.table, judge.table.predict(searched), SEEDS)
    return {
        "searched": searched,
        "uniform beta": derive_within_budget(mixings["uniform beta"], deriver, judge),
        **{f"random {i}": architecture for i, architecture in enumerate(drawn, start=1)},
        "hand-drawn": shared.hand_drawn(judge.space),
    }


def configured(folder: Path, files: list[str], dataset_dir: str) -> ConfigParser:
    """The configuration of the step train for a network."""
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser["dataset_dir"], parser["work_dir"] = dataset_dir, str(folder)
    return parser


def training_step(train: ConfigParser) -> Callable[[], None]:
    """One step on crops of noise."""
    network, loss, optimizer = (train.get_parsed_content(key) for key in ("network", "loss", "optimizer"))
    inferer, batch = train.get_parsed_content("train#inferer"), train["batch_size"]
    image = torch.randn(batch, 1, *train["patch_size"])
    label = torch.randint(0, 4, image.shape)
    initialise(network, 0)
    network.train()

    def step() -> None:
        optimizer.zero_grad()
        loss(inferer(image, network), label).backward()
        optimizer.step()

    return step


def planned_epochs(trainings: dict[str, ConfigParser], minutes: float) -> dict[str, dict[str, float]]:
    """For each network the median duration of its step, s, and the number of epochs that fit into the minutes."""
    steps = {name: training_step(train) for name, train in trainings.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in tqdm(range(ROUNDS), desc="steps", unit="round"):
        for name, step in steps.items():
            step()  # a warm-up: caches and threads were used by another network
            for _ in range(STEPS):
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
    an_epoch = len(next(iter(trainings.values())).get_parsed_content("train#dataloader"))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        name: {
            "step_seconds": median,
            "steps_an_epoch": an_epoch,
            "epochs": max(1, round(60 * minutes / (median * an_epoch))),
        }
        for name, median in medians.items()
    }


def run(step: str, files: list[str], folder: Path, **settings: Any) -> None:
    """Run a step of the bundle as a user runs it, and keep its output."""
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", step, "--config_file", str(files)]
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    with open(folder / f"{step}.log", "w", encoding="utf-8") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


def time_networks(
    trainings: dict[str, ConfigParser], runtime: Runtime
) -> tuple[dict[str, dict[str, float]], dict[str, float] | None]:
    """The latency of each network in the device's fast state (ms), and the states of the device."""
    space = shared.configured_space()
    image = torch.randn(1, 1, *space.deployment_size)
    networks = (train.get_parsed_content("network_def") for train in trainings.values())
    timed, states = time_side_by_side([partial(runtime.deploy(network), image) for network in networks], space, runtime)
    return dict(zip(trainings, (asdict(one.timing) for one in timed), strict=True)), states


def scatter(rows: dict[str, Any], file: str) -> None:
    """Draw Dice against latency and throughput, with the real-time region."""
    constraint = Constraint()
    shown = []
    for name, row in rows.items():
        timing, random = Timing(**row["latency"]), name.startswith("random")
        shown.append(
            {
                **{"name": name, "system": "random" if random else row["network"], "random": random},
                **{"dice": row["dice"], "failure": None, "kept": constraint.kept_by(timing)},
                **{"median_ms": timing.median_ms, "volumes_per_second": 1000 / timing.mean_ms},
            }
        )
    save_figure(scatter_figure(shown, constraint), Path(file))


def main() -> None:
    options = shared.parser(__doc__ or "", runtime=False)
    options.add_argument("--dataset_dir", required=True, help="ACDC's folder training")
    options.add_argument("--search_dir", required=True, type=Path, help="work_dir of the search")
    options.add_argument("--work_dir", required=True, type=Path, help="where the networks train")
    options.add_argument("--overlay", default="cpu", help="configuration over those of all steps")
    options.add_argument("--minutes", type=float, default=10.0, help="of training, for each network")
    options.add_argument("--only", nargs="*", help="names of the networks to train now")
    options.add_argument("--figure", metavar="FILE", help="draw Dice against latency here")
    arguments = options.parse_args()
    overlay, dataset_dir = arguments.overlay, arguments.dataset_dir
    plan, drawings = arguments.work_dir / "plan.json", arguments.work_dir / "architectures"
    if plan.exists():  # a continued run keeps its networks and epochs
        known = {path.stem: Architecture.load(path) for path in sorted(drawings.glob("*.json"))}
    else:
        known = architectures(arguments.search_dir, overlay)
        for name, architecture in known.items():
            architecture.save(drawings / f"{name}.json")
    runs = {f"searched, seed {seed}": ("searched", seed) for seed in range(SEEDS)}
    runs |= {name: (name, 0) for name in (*known, *BASELINES) if name != "searched"}
    folders = {name: arguments.work_dir / name.replace(", ", "_").replace(" ", "_") for name in runs}
    overlays = {
        network: [overlay, *([f"baseline_{network}"] if network in BASELINES else [])] for network, _ in runs.values()
    }
    trainings = {}
    for name, (network, _) in runs.items():
        if network in known:
            known[network].save(folders[name] / "architecture.json")
        files = shared.config_files("train", *overlays[network])
        trainings[network] = configured(folders[name], files, dataset_dir)
    if not plan.exists():
        write_json(plan, planned_epochs(trainings, arguments.minutes))
    planned = read_json(plan, {"type": "object", "required": list(trainings)}, "Delete it.")
    rows: dict[str, Any] = {}
    for name in tqdm(arguments.only or runs, unit="network"):
        (network, seed), folder = runs[name], folders[name]
        folder.mkdir(exist_ok=True)
        settings = {"dataset_dir": dataset_dir, "work_dir": folder}
        if not (folder / "metrics.json").exists():
            epochs = {"train_epochs": planned[network]["epochs"], "val_interval": planned[network]["epochs"] + 1}
            # a change of the key seed would also change the exams of the fold
            varied = {"train#handlers#0#seed": seed, **epochs}
            run("train", shared.config_files("train", *overlays[network]), folder, **settings, **varied)
            run("evaluate", shared.config_files("train", "evaluate", *overlays[network]), folder, **settings)
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        rows[name] = {"network": network, **planned[network], "dice": metrics["dice"]}
    evaluation = configured(folders["searched, seed 0"], shared.config_files("train", "evaluate", overlay), dataset_dir)
    runtime = evaluation.get_parsed_content("runtime")
    timed = {network: train for network, train in trainings.items() if network in {runs[name][0] for name in rows}}
    latency, states = time_networks(timed, runtime)
    for row in rows.values():
        row["latency"] = latency[row["network"]]
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
    shared.show(f"states of the device: {states}")
    if arguments.figure:
        scatter(rows, arguments.figure)
    shared.finish({"states": states, "networks": rows}, arguments.json, runtime)


if __name__ == "__main__":
    main()
