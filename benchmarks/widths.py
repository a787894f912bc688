"""Other widths and stem strides, set by hand: Dice after a short training against ms, with the same cells and paths.

Random networks of the space are built again with each list of widths. All are timed in turn, and trained for the same
number of steps on the inner split of fold 0's training exams. A stopped run continues when it is started again.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import shared
from monai.bundle import ConfigParser
from trainings import FOLDS, Trainings, mean_of_patients, write_datalists

from scripts.compare.costs import time_side_by_side
from scripts.core.json_files import write_json
from scripts.latency.network import deployed_call
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.space.sampling import random_architecture
from scripts.space.space import Space

VARIANTS: dict[str, tuple[int, tuple[int, ...]]] = {  # stem stride, widths of the scales
    "as now": (2, (16, 32, 64, 128)),
    "half as wide at scale 0": (2, (8, 32, 64, 128)),
    "twice as wide at scales 2 and 3": (2, (16, 32, 128, 256)),
    "half at scale 0, twice at 2 and 3": (2, (8, 32, 128, 256)),
    "one width": (2, (32, 32, 32, 32)),
    "stem stride 1": (1, (4, 16, 64, 128)),
}


def main() -> None:
    options = shared.parser(__doc__ or "", runtime=False)
    options.add_argument("--dataset_dir", required=True, help="ACDC's folder training")
    options.add_argument("--work_dir", required=True, type=Path, help="where trainings are kept")
    options.add_argument("--networks", type=int, default=3, help="random networks of each variant")
    options.add_argument("--steps", type=int, default=1000, help="of each training; 0: only timed")
    options.add_argument("--overlay", default="cpu", help="configuration over all steps")
    given = options.parse_args()
    inner = given.work_dir / "inner.json"
    write_datalists(given.dataset_dir, inner, given.work_dir / "searched.json")
    judge = Trainings(given.work_dir / "trained", inner, FOLDS, given.overlay, (80, 80, 6))
    space = shared.configured_space(given.overlay)
    drawn = [random_architecture(space, Random(seed)) for seed in range(given.networks)]
    networks = [
        Architecture(replace(space, stem_stride=stride, channels=widths), one.cells, one.paths)
        for stride, widths in VARIANTS.values()
        for one in drawn
    ]
    ms = measured(given.work_dir / "ms.json", given.overlay, space, networks)
    dice = [mean_of_patients(judge.dice(one, given.steps)) if given.steps else math.nan for one in networks]
    rows = []
    for i, (name, (stride, widths)) in enumerate(VARIANTS.items()):
        of_variant = slice(i * given.networks, (i + 1) * given.networks)
        ratios = [other / now for other, now in zip(ms[of_variant], ms[: given.networks], strict=True)]
        rows.append(
            [
                name,
                stride,
                ", ".join(map(str, widths)),
                ", ".join(f"{one:.1f}" for one in ms[of_variant]),
                f"{statistics.median(ratios):.2f}",
                ", ".join(f"{one:.3f}" for one in dice[of_variant]),
                f"{statistics.mean(dice[of_variant]):.3f}",
            ]
        )
    shared.table(["variant", "stem stride", "widths", "ms", "ms over now", "Dice", "mean Dice"], rows)
    if given.json:
        names = [f"{name} {i}" for name in VARIANTS for i in range(given.networks)]
        write_json(given.json, {"steps": given.steps, "names": names, "ms": ms, "dice": dice})


def measured(path: Path, overlay: str, space: Space, networks: Sequence[Architecture]) -> list[float]:
    """The latencies (ms) of the networks, timed in turn on a quiet device, or read from an earlier run."""
    if not path.exists():
        parser = ConfigParser(ConfigParser.load_config_files(shared.config_files("search", overlay)))
        runtime = parser.get_parsed_content("runtime")
        calls = [deployed_call(CineNet(one), one.space, runtime) for one in networks]
        timed, states = time_side_by_side(calls, space, runtime)
        write_json(path, {"ms": [one.timing.median_ms for one in timed], "states": states})
    return json.loads(path.read_text(encoding="utf-8"))["ms"]


if __name__ == "__main__":
    main()
