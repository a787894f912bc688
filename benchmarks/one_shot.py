"""The rows of HyperSegNAS Table 1: the Dice with shared weights, trained with and without the Meta-Assistant Network.

Every row trains its own shared weights on the same exams; then 25 random architectures are evaluated with them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import shared
import torch
from monai.bundle import ConfigParser

from scripts.runtime.deploy import Runtime
from scripts.runtime.precision import bfloat16_pays
from scripts.search.one_shot import OneShotSearcher
from scripts.search.shared_weights import SharedWeights
from scripts.space.sampling import random_subgraph

ROWS = {
    "none": "vanilla one-shot",
    "image": "image only, kept",
    "kept": "image and architecture, kept",
    "removed": "removed without annealing",
    "annealed": "annealed, removed",
}
ARCHITECTURES = 25


def judge(searcher: OneShotSearcher, loader: Any) -> dict[str, Any]:
    """Dice of the random architectures with the shared weights, and seconds per volume for prediction."""
    weights, dice, seconds = SharedWeights(searcher, loader), [], []
    volumes = sum(len(batch["image"]) for batch in loader)
    for seed in range(ARCHITECTURES):
        architecture = random_subgraph(searcher.space, Random(seed))
        start = time.perf_counter()
        dice.append(weights.dice(architecture))
        seconds.append((time.perf_counter() - start) / volumes)
    return {"dice": dice, "mean_dice": statistics.fmean(dice), "seconds_a_volume": statistics.median(seconds)}


def main() -> None:
    options = shared.parser(__doc__ or "")
    options.add_argument("--dataset_dir", help="the exams; default: the phantom")
    options.add_argument(
        "--overlays", nargs="*", default=["demo", "hypersegnas_demo"], help="configurations over hypersegnas.json"
    )
    options.add_argument("--epochs", type=int, help="epochs of each row, a sixth of them annealing")
    arguments = options.parse_args()
    torch.manual_seed(0)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for assistance, title in ROWS.items():
            names = ["search", "hypersegnas", *arguments.overlays]
            parser = ConfigParser(ConfigParser.load_config_files(shared.config_files(*names)))
            parser["assistance"], parser["work_dir"] = assistance, str(Path(folder) / assistance)
            parser["dataset_dir"], parser["device"] = arguments.dataset_dir, torch.device(arguments.device)
            if arguments.epochs:
                parser["search_epochs"], parser["annealing_epochs"] = arguments.epochs, max(1, arguments.epochs // 6)
            searcher = parser.get_parsed_content("searcher")
            searcher.run_epochs()
            result[assistance] = judge(searcher, parser.get_parsed_content("validation_loader"))
            shared.show(f"{title}: Dice {result[assistance]['mean_dice']:.3f}")
    shared.show(f"\n{ARCHITECTURES} random architectures with shared weights")
    rows = [
        [
            title,
            f"{row['mean_dice']:.3f}",
            f"{min(row['dice']):.3f}-{max(row['dice']):.3f}",
            f"{row['seconds_a_volume']:.3f}",
        ]
        for title, row in ((ROWS[name], row) for name, row in result.items())
    ]
    shared.table(["assistant", "mean Dice", "min-max", "s per volume"], rows)
    precision = "bfloat16" if bfloat16_pays(arguments.device) else "float32"
    shared.finish(result, arguments.json, Runtime(arguments.device, precision, "eager"))


if __name__ == "__main__":
    main()
