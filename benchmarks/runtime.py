"""All ways to run a derived network, and the baseline networks, side by side in one run.

With --work_dir of a training and ACDC_DIR set, also whether the chosen runtime gives the masks of eager float32.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shared
import torch
from monai.bundle import ConfigParser
from monai.metrics import compute_dice

from scripts import BUNDLE_ROOT
from scripts.compare.entries import BASELINES
from scripts.core.errors import CineError
from scripts.exams.load import load_exams
from scripts.latency.timer import Timing, time_in_turn
from scripts.runtime.autotune import choose_runtime
from scripts.runtime.backends import BACKENDS
from scripts.runtime.deploy import Runtime
from scripts.space.architecture import Architecture
from scripts.space.deployable import Deployable
from scripts.space.network import CineNet
from scripts.train.weights import load_model

SIZES = ((128, 112, 20), (128, 112, 10))
ROUNDS, SECONDS = 3, 0.5
Named = tuple[str, Deployable]


def baselines(names: Sequence[str]) -> list[Named]:
    """The networks of some ``baseline_*.json``, by name."""
    found = []
    for name in names:
        parser = ConfigParser(ConfigParser.load_config_file(BUNDLE_ROOT / "configs" / f"baseline_{name}.json"))
        found.append((name, parser.get_parsed_content("network_def")))
    return found


def runtimes(device: str) -> dict[str, Runtime]:
    """Every backend in every precision that is relevant here."""
    found = {}
    for name in BACKENDS:
        for dtype in ("float32", "bfloat16", "int8"):
            try:
                found[f"{name} {dtype}"] = Runtime(device, dtype, name)
            except CineError as error:
                shared.show(f"not available: {name} {dtype} ({error.found})")
    return found


def time_all(deployed: dict[str, Any], size: tuple[int, ...], device: str, rounds: int = ROUNDS) -> dict[str, Timing]:
    """Timings of several deployed networks, from the fastest of some rounds over all."""
    image = torch.randn(1, 1, *size, device=device)
    timings: dict[str, Timing] = {}
    for _ in range(rounds):
        for name, network in deployed.items():
            timing = Timing.of(time_in_turn([partial(network, image)], device, SECONDS)[:, 0])
            if name not in timings or timing.median_ms < timings[name].median_ms:
                timings[name] = timing
    return timings


def equality(work_dir: str, runtime: Runtime, acdc_dir: str, volumes: int = 10) -> dict[str, float]:
    """The lowest Dice between the masks of eager float32 and of the runtime, by structure, on real volumes."""
    network = CineNet(str(Path(work_dir) / "architecture.json"))
    load_model(Path(work_dir) / "model.pt", network)
    parser = ConfigParser(ConfigParser.load_config_file(str(BUNDLE_ROOT / "configs" / "inference.json")))
    prepare = parser.get_parsed_content("preprocessing")
    eager, chosen = Runtime(runtime.device, "float32", "eager").deploy(network), runtime.deploy(network)
    least = np.ones(3)
    exams = load_exams(acdc_dir)
    for exam in exams[:: max(1, len(exams) // volumes)][:volumes]:
        image = prepare({"image": exam["image"]})["image"].as_tensor()[None]
        masks = [deployed(image).float().argmax(1, keepdim=True).cpu() for deployed in (eager, chosen)]
        onehot = [torch.cat([mask == label for label in range(4)], 1).float() for mask in masks]
        dice = compute_dice(onehot[1], onehot[0], include_background=False)[0].numpy()
        least = np.fmin(least, dice)
    return dict(zip(("RV", "MYO", "LV"), map(float, least), strict=True))


def main() -> None:
    options = shared.parser(__doc__ or "")
    options.add_argument("--work_dir", help="of a search; its network is timed in addition to the hand-drawn one")
    options.add_argument("--baselines", nargs="*", choices=BASELINES, default=BASELINES, help="default: all")
    arguments = options.parse_args()
    device = arguments.device
    chosen = choose_runtime(device, arguments.precision, arguments.backend)
    plain = Runtime(device, "float32", "eager")
    derived: list[Named] = [("hand-drawn", CineNet(shared.hand_drawn(shared.configured_space())))]
    if arguments.work_dir:
        derived.insert(0, ("derived", CineNet(Architecture.load(Path(arguments.work_dir) / "architecture.json"))))
    result: dict[str, Any] = {"chosen": f"{chosen.backend} {chosen.dtype}", "backends": {}, "networks": {}}
    for name, network in derived:
        deployed = {title: runtime.deploy(network) for title, runtime in runtimes(device).items()}
        timings = time_all(deployed, SIZES[0], device)
        base = timings["eager float32"].median_ms
        rows = [
            [title, f"{t.median_ms:.1f}", f"{t.p95_ms:.1f}", f"{base / t.median_ms:.2f}"]
            for title, t in sorted(timings.items(), key=lambda item: item[1].median_ms)
        ]
        shared.show(f"\n{name} network at {SIZES[0]}")
        shared.table(["backend", "ms", "p95", "times as fast as eager float32"], rows)
        result["backends"][name] = {
            title: {"ms": t.median_ms, "p95_ms": t.p95_ms, "ratio": base / t.median_ms} for title, t in timings.items()
        }
    everything = [*derived, *baselines(arguments.baselines)]
    for size in SIZES:
        timings = time_all({name: chosen.deploy(network) for name, network in everything}, size, device)
        if size == SIZES[0]:
            eager = {name: plain.deploy(network) for name, network in everything}
            slow = time_all(eager, size, device, rounds=1)  # only once, since some take seconds
        for name, timing in timings.items():
            row = result["networks"].setdefault(name, {})
            row["x".join(map(str, size))] = {"ms": timing.median_ms, "p95_ms": timing.p95_ms}
            row["eager_float32_ms"] = slow[name].median_ms
    titles = ["x".join(map(str, size)) for size in SIZES]
    rows = []
    for name, row in result["networks"].items():
        row["ratio"] = row["eager_float32_ms"] / row[titles[0]]["ms"]
        shown = [*(row[title]["ms"] for title in titles), row["eager_float32_ms"], row["ratio"]]
        rows.append([name, *(f"{value:.1f}" for value in shown)])
    shared.show(f"\n{result['chosen']}, ms; ratio: eager float32 over it at {titles[0]}")
    shared.table(["network", *titles, "eager float32", "ratio"], rows)
    acdc_dir = os.environ.get("ACDC_DIR")
    if arguments.work_dir and acdc_dir:
        result["least_dice_to_eager_float32"] = equality(arguments.work_dir, chosen, acdc_dir)
    else:
        shared.show("equality with eager float32 is not tested: this needs --work_dir and ACDC_DIR")
    shared.finish(result, arguments.json, chosen)


if __name__ == "__main__":
    main()
