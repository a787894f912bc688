"""Is a searched network better than chance? Searches, controls of equal latency, and trainings from scratch.

All exams are training exams of fold 0: 60 patients search and train, 20 judge. The fold's test exams are never read.
Every network is predicted to take the same ms within 3 %, trains for as many steps, and is judged by patient.
``pilot`` finds how short these trainings may be. ``rank`` says how well shared weights rank networks. ``study`` runs
all of it. ``time``, on a quiet device, measures its networks side by side. Stopped, each goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import shared
import torch
from monai.bundle import ConfigParser
from scipy.stats import kendalltau
from tqdm import tqdm
from trainings import FOLDS, PatientDice, Trainings, write_datalists

from scripts.compare.costs import time_side_by_side
from scripts.files import write_json
from scripts.latency.network import deployed_call
from scripts.latency.table import LatencyTable
from scripts.search.decoding import gene_pool
from scripts.search.derive import Deriver
from scripts.search.relaxation import uniform_mixing
from scripts.search.searcher import Searcher
from scripts.search.shared_weights import mean_dice
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.space.sampling import random_architecture
from scripts.space.space import Space
from scripts.space.supernet import Mixing
from scripts.space.trellis import cells_of

ALIKE = 0.03
"""Networks of equal latency: predicted within 3 %."""
MARGIN = 0.01
"""The Dice by which a search must beat chance to be worth its time; set before the study ran."""
PILOT_STEPS = (400, 1000, 2000)
RANDOM, PILOT, RANKED = 8, 8, 16
HALVING = (16, 8, 4, 2)
"""Networks of each round of successive halving; each round trains its networks twice as long as the last."""
BEFORE: dict[str, Any] = {  # the search of version 0.1, and what of it the second arm keeps
    "network_reading": "derived",
    "objective": {"_target_": "scripts.search.objective.LatencyObjective", "weight": 0.01},
    "fitness": "latency",
    "paths": "auto",
    "pool_size": 10,
    "weight_optimizer": {
        "_target_": "torch.optim.SGD",
        "_mode_": "callable",
        "lr": 0.025,
        "momentum": 0.9,
        "weight_decay": 0.0003,
    },
    "discrete": False,
    "partial_channels": 2,
    "search_epochs": 26,
    "warm_up_epochs": 8,
}
UNION = {
    "network_reading": "union",
    "objective": {"_target_": "scripts.search.objective.LatencyMultiplier"},
    "paths": 5,
}
ARMS: dict[str, dict[str, Any]] = {
    "before": BEFORE,
    "budget binds": {**BEFORE, **UNION},
    "discrete": {},
    "by scale": {"space#share_cells": "scale"},
}


@dataclass
class Study:
    """What the arms share.

    Args:
        work_dir: all results go here.
        dataset_dir: ACDC's folder training.
        latency_file: of the step profile with the overlay.
        ms: the latency of all networks.
        steps: of the trainings that judge.
        overlay: configuration over all steps.
    """

    work_dir: Path
    dataset_dir: str
    latency_file: Path
    ms: float
    steps: int
    overlay: str
    patch_size: tuple[int, int, int] = (80, 80, 6)

    def __post_init__(self) -> None:
        write_datalists(self.dataset_dir, self.inner, self.searched)
        self.judge = Trainings(self.work_dir / "trained", self.inner, FOLDS, self.overlay, self.patch_size)

    @property
    def inner(self) -> Path:
        return self.work_dir / "inner.json"

    @property
    def searched(self) -> Path:
        return self.work_dir / "searched.json"

    @cached_property
    def space(self) -> Space:
        return shared.configured_space(self.overlay)

    @cached_property
    def table(self) -> LatencyTable:
        """The latency table, wherever it was measured."""
        parser = self.parser({}, self.work_dir)
        return parser.get_parsed_content("table")

    def parser(self, settings: Mapping[str, Any], folder: Path) -> ConfigParser:
        """The step search with some settings, on the 60 patients."""
        parser = ConfigParser(ConfigParser.load_config_files(shared.config_files("search", self.overlay)))
        ours = {"datalist": str(self.inner), "folds": FOLDS, "latency_file": str(self.latency_file)}
        ours |= {"target": "foreign", "budget_ms": self.ms, "work_dir": str(folder)}
        for key, value in {**ours, **settings}.items():
            parser[key] = value
        return parser

    def alike(self, architecture: Architecture) -> bool:
        return abs(self.table.predict(architecture) / self.ms - 1) <= ALIKE

    def random_networks(self, count: int, seed: int) -> list[Architecture]:
        """The first random networks of the latency."""
        drawn = (random_architecture(self.space, Random(1_000_000 * seed + i)) for i in itertools.count())
        return list(itertools.islice(filter(self.alike, drawn), count))

    def trained(self, architecture: Architecture, seed: int = 0) -> PatientDice:
        return self.judge.dice(architecture, self.steps, seed)


@dataclass
class Found:
    """What a search found, and the CPU seconds that it took, over all its sessions."""

    network: Architecture
    mixing: Mixing
    seconds: float


def search(study: Study, arm: str, seed: int) -> Found:
    """Run a search of an arm, or read it; its network is the best by the arm's own criterion of the study's latency."""
    folder = study.work_dir / "searches" / f"{arm.replace(' ', '_')}_{seed}"
    parser = study.parser({**ARMS[arm], "seed": seed, "split#seed": 0}, folder)
    searcher, deriver, space = (parser.get_parsed_content(key) for key in ("searcher", "deriver", "space"))
    network = folder / "network.json"
    with _seconds(folder, counts=not network.exists()):
        mixing = searcher.run()
        if not network.exists():
            dice = parser.get_parsed_content("shared_weights").dice if searcher.discrete else None
            of_latency(study, deriver, mixing, space, dice).save(network)
    return Found(Architecture.load(network), mixing, _spent(folder))


@contextmanager
def _seconds(folder: Path, counts: bool) -> Iterator[None]:
    """Add the CPU seconds of a session to those before, also where it is interrupted.

    CPU seconds, since another program on the same core must not make a search look slow."""
    start = time.process_time()
    try:
        yield
    finally:
        if counts:
            write_json(folder / "seconds.json", {"seconds": _spent(folder) + time.process_time() - start})


def _spent(folder: Path) -> float:
    path = folder / "seconds.json"
    return json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.exists() else 0.0


def of_latency(
    study: Study,
    deriver: Deriver,
    mixing: Mixing,
    space: Space,
    dice: Callable[[Architecture], float] | None = None,
) -> Architecture:
    """The most accurate network of the study's latency, by the genetic algorithm; where the pool has none of that
    latency, the nearest to it."""

    def worth(architecture: Architecture) -> float:
        if not study.alike(architecture):
            return -abs(study.table.predict(architecture) / study.ms - 1)
        if dice is not None:
            return dice(architecture)
        return sum(float(mixing.cells[cell]) for path in architecture.paths for cell in cells_of(path))

    cells = 1 if dice is None else deriver.cell_pool_size
    free = replace(deriver, method="genetic", fitness="accuracy", generations=40, cell_pool_size=cells)
    sizes = free.counts(space)[-1], free.counts(space)[0]
    return free.propose(mixing, study.table, space, sizes, accuracy=worth)[0]


def halving(study: Study, seed: int, seconds: float) -> Architecture:
    """The best of random networks by successive halving, trained and judged on the halves that a search reads.

    The trainings take as many CPU seconds as a search; what judging takes is not charged.
    """
    halves = Trainings(study.work_dir / "halving", study.searched, 2, study.overlay, study.patch_size)
    networks = study.random_networks(HALVING[0], 1000 + seed)
    plan = study.work_dir / "halving" / f"plan_{seed}.json"
    if not plan.exists():
        step_s = statistics.mean(halves.step_seconds(one) for one in networks[:4])
        first = max(20, int(seconds / step_s / sum(count * 2**i for i, count in enumerate(HALVING))))
        write_json(plan, {"first": first, "step_seconds": step_s, "seconds": seconds})
    first = json.loads(plan.read_text(encoding="utf-8"))["first"]
    for i, _ in enumerate(HALVING):
        dice = {one.digest: _mean(halves.dice(one, first * 2**i, seed)) for one in networks}
        networks = sorted(networks, key=lambda one: -dice[one.digest])[: max(1, len(networks) // 2)]
    return networks[0]


def crossed(study: Study, found: Found) -> dict[str, Architecture]:
    """Searched or hand-drawn cells by searched or uniform beta; the first union of the heaviest paths that is alike."""
    drawn = shared.hand_drawn(study.space)
    uniform = uniform_mixing(study.space)
    cells = {"searched cells": found.network.cells, "hand-drawn cells": drawn.cells}
    betas = {"searched beta": found.mixing.cells, "uniform beta": uniform.cells}
    networks: dict[str, Architecture] = {}
    for (of_cells, nodes), (of_beta, beta) in itertools.product(cells.items(), betas.items()):
        pool = [path for _, path in gene_pool(Mixing(found.mixing.nodes, beta), study.space, 12)]
        unions = (
            Architecture(study.space, nodes, tuple(chosen))
            for count in range(6, 0, -1)
            for chosen in itertools.combinations(pool, count)
        )
        fitting = next(filter(study.alike, unions), None)
        if fitting is not None:
            networks[f"{of_cells}, {of_beta}"] = fitting
    return networks


def pilot(study: Study) -> dict[str, Any]:
    """Kendall's tau of shorter trainings with the longest, over random networks."""
    networks = study.random_networks(PILOT, 0)
    dice = {steps: [_mean(study.judge.dice(one, steps)) for one in networks] for steps in PILOT_STEPS}
    longest = PILOT_STEPS[-1]
    rows = [
        {
            "steps": steps,
            "mean": statistics.mean(values),
            "spread": statistics.stdev(values),
            "kendall_tau": float(kendalltau(values, dice[longest]).statistic),
        }
        for steps, values in dice.items()
    ]
    shared.table(["steps", "mean Dice", "spread", f"tau with {longest}"], [_rounded(row) for row in rows])
    return {"pilot": rows}


@torch.no_grad()
def _relaxed_dice(searcher: Searcher, mixing: Mixing, loader: Any) -> float:
    return mean_dice(lambda image_BCHWD: searcher.supernet(image_BCHWD, mixing), loader)


def rank(study: Study, seed: int = 0) -> dict[str, Any]:
    """How well the shared weights of the discrete search rank random networks, and what its mixture is worth.

    Kendall's tau of the Dice with shared weights, before and after fine-tuning, with the Dice after a training.
    """
    folder = study.work_dir / "searches" / f"discrete_{seed}"
    parser = study.parser({**ARMS["discrete"], "seed": seed, "split#seed": 0}, folder)
    searcher, weights, steps = (
        parser.get_parsed_content(key) for key in ("searcher", "shared_weights", "fine_tune_steps")
    )
    mixing, loader = searcher.run(), parser.get_parsed_content("validation_loader")
    networks = study.random_networks(RANKED, 0)
    known = folder / "ranked.json"
    if not known.exists():
        found = {
            "shared": [weights.dice(one) for one in tqdm(networks, "shared weights")],
            "fine-tuned": [weights.fine_tuned_dice(one, steps) for one in tqdm(networks, "fine-tuned")],
            "relaxed": _relaxed_dice(searcher, mixing, loader),
            "decoded": weights.dice(of_latency(study, parser.get_parsed_content("deriver"), mixing, study.space)),
        }
        write_json(known, found)
    found = json.loads(known.read_text(encoding="utf-8"))
    scratch = [_mean(study.trained(one)) for one in networks]
    rows = [
        {
            "weights": name,
            "mean": statistics.mean(found[name]),
            "spread": statistics.stdev(found[name]),
            "kendall_tau": float(kendalltau(found[name], scratch).statistic),
        }
        for name in ("shared", "fine-tuned")
    ]
    shared.table(["weights", "mean Dice", "spread", "tau with scratch"], [_rounded(row) for row in rows])
    shared.show(
        f"relaxed {found['relaxed']:.3f}, decoded {found['decoded']:.3f}, scratch {statistics.mean(scratch):.3f}"
    )
    return {"rank": rows, "relaxed": found["relaxed"], "decoded": found["decoded"], "scratch": scratch}


def study_all(study: Study, seeds: Sequence[int]) -> dict[str, Any]:
    """Every arm and control, trained; Dice by patient of each network."""
    found: dict[str, list[Found]] = {arm: [] for arm in ARMS}
    for seed, arm in itertools.product(seeds, ARMS):
        found[arm].append(search(study, arm, seed))
    seconds = {arm: statistics.median(one.seconds for one in of_arm) for arm, of_arm in found.items()}
    networks = {"random": study.random_networks(RANDOM, 0)}
    networks |= {arm: [one.network for one in of_arm] for arm, of_arm in found.items()}
    networks["best of random"] = [halving(study, seed, seconds["discrete"]) for seed in seeds]
    networks |= {name: [network] for name, network in crossed(study, found["discrete"][0]).items()}
    dice: dict[str, list[PatientDice]] = {}
    for name, of_name in networks.items():
        for i, network in enumerate(of_name):
            network.save(study.work_dir / "networks" / f"{name}_{i}.json")
            dice.setdefault(name, []).append(study.trained(network))
            shared.show(f"{name} {i}: {study.table.predict(network):.2f} ms, Dice {_mean(dice[name][-1]):.4f}")
    rows = compare(dice, seconds)
    for row in rows:
        row["predicted_ms"] = [study.table.predict(one) for one in networks[row["networks"]]]
        row["alike"] = all(map(study.alike, networks[row["networks"]]))
    header = ["networks", "runs", "Dice", "over random", "95 % interval", "search, s", "ms, predicted"]
    shared.table(header, [_row(row) for row in rows])
    best = max(low for row in rows if row["networks"] in ARMS for low in [row["interval"][0]])
    shared.show(f"An arm beats chance where its interval lies above {MARGIN}; the highest lower end is {best:+.3f}")
    return {"networks": rows, "dice": dice, "margin": MARGIN}


def measure(study: Study) -> dict[str, Any]:
    """ms of the study's networks, side by side, in the device's fast state."""
    files = sorted((study.work_dir / "networks").glob("*.json"))
    runtime = study.parser({}, study.work_dir).get_parsed_content("runtime")
    calls = [deployed_call(CineNet(Architecture.load(file)), study.space, runtime) for file in files]
    timed, states = time_side_by_side(calls, study.space, runtime)
    medians = {file.stem: one.timing.median_ms for file, one in zip(files, timed, strict=True)}
    shared.table(["network", "ms"], [[name, f"{ms:.2f}"] for name, ms in medians.items()])
    shared.show(f"states of the device: {states}")
    return {"measured_ms": medians, "states": states}


def compare(dice: Mapping[str, Sequence[PatientDice]], seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Mean Dice of each arm, and its difference to the random networks, paired by patient.

    The interval is of a bootstrap over patients, and over the networks of both sides. Of n networks n - 1 are drawn,
    which makes its variance that of a mean. A single network has no interval.
    """
    random = np.random.default_rng(0)
    patients = sorted(dice["random"][0])
    values_NP = {arm: np.array([[one[p] for p in patients] for one in runs]) for arm, runs in dice.items()}

    def drawn(of_arm_NP: np.ndarray, chosen_P: np.ndarray) -> float:
        count = max(1, len(of_arm_NP) - 1)
        return float(of_arm_NP[random.integers(len(of_arm_NP), size=count)][:, chosen_P].mean())

    rows = []
    for arm, of_arm_NP in values_NP.items():
        differences = []
        for _ in range(4000):
            chosen_P = random.integers(len(patients), size=len(patients))
            differences.append(drawn(of_arm_NP, chosen_P) - drawn(values_NP["random"], chosen_P))
        interval = [float(end) for end in np.quantile(differences, (0.025, 0.975))]
        rows.append(
            {
                "networks": arm,
                "runs": len(of_arm_NP),
                "dice": float(of_arm_NP.mean()),
                "over_random": float(of_arm_NP.mean() - values_NP["random"].mean()),
                "interval": interval if len(of_arm_NP) > 1 and arm != "random" else None,
                "seconds": seconds.get(arm),
            }
        )
    return rows


def _mean(dice: PatientDice) -> float:
    return statistics.mean(dice.values())


def _rounded(row: Mapping[str, Any]) -> list[Any]:
    return [f"{value:.3f}" if isinstance(value, float) else value for value in row.values()]


def _row(row: Mapping[str, Any]) -> list[str]:
    interval = "" if row["interval"] is None else "{:+.3f} to {:+.3f}".format(*row["interval"])
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.0f}"
    low, high = min(row["predicted_ms"]), max(row["predicted_ms"])
    ms = f"{low:.1f} to {high:.1f}" + ("" if row["alike"] else ", not alike")
    return [
        row["networks"],
        str(row["runs"]),
        f"{row['dice']:.3f}",
        f"{row['over_random']:+.3f}",
        interval,
        seconds,
        ms,
    ]


PARTS: dict[str, Callable[[Study, int], dict[str, Any]]] = {
    "pilot": lambda study, seeds: pilot(study),
    "rank": lambda study, seeds: rank(study),
    "study": lambda study, seeds: study_all(study, range(seeds)),
    "time": lambda study, seeds: measure(study),
}


def main() -> None:
    options = shared.parser(__doc__ or "", runtime=False)
    options.add_argument("what", choices=tuple(PARTS))
    options.add_argument("--dataset_dir", required=True, help="ACDC's folder training")
    options.add_argument("--work_dir", required=True, type=Path, help="where searches and trainings are kept")
    options.add_argument("--latency_file", required=True, type=Path, help="latency.json of the step profile")
    options.add_argument("--ms", type=float, default=15.0, help="predicted latency of all networks")
    options.add_argument("--steps", type=int, default=1000, help="of the trainings that judge")
    options.add_argument("--seeds", type=int, default=3, help="searches of each arm")
    options.add_argument("--overlay", default="cpu", help="configuration over all steps")
    given = options.parse_args()
    study = Study(given.work_dir, given.dataset_dir, given.latency_file, given.ms, given.steps, given.overlay)
    result = PARTS[given.what](study, given.seeds)
    if given.json:
        write_json(given.json, {**result, "ms": given.ms, "steps": given.steps})


if __name__ == "__main__":
    main()
