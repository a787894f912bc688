"""Is a searched network better than chance? Searches, controls of equal latency, and trainings from scratch.

All exams are training exams of fold 0: 60 patients search and train, 20 judge. The fold's test exams are never read.
Every network is predicted to take the same ms within 3 %, trains for as many steps, and is judged by patient.
``pilot`` finds how short these trainings may be, ``rank`` how well shared weights rank networks; ``study`` runs all
of it. Stopped, each goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import shared
from monai.bundle import ConfigParser
from scipy.stats import kendalltau
from tqdm import tqdm
from trainings import FOLDS, PatientDice, Trainings, write_datalists

from scripts.files import write_json
from scripts.latency.table import LatencyTable
from scripts.search.decoding import gene_pool
from scripts.search.derive import Deriver
from scripts.search.relaxation import uniform_mixing
from scripts.search.selection import FINE_TUNE_STEPS
from scripts.search.shared_weights import mean_dice
from scripts.space.architecture import Architecture
from scripts.space.sampling import random_architecture
from scripts.space.space import Space
from scripts.space.supernet import Mixing

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
    "paths": 5,
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
UNION = {"network_reading": "union", "objective": {"_target_": "scripts.search.objective.LatencyMultiplier"}}
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
    """What a search found, and the seconds that it took."""

    network: Architecture
    mixing: Mixing
    seconds: float


def search(study: Study, arm: str, seed: int) -> Found:
    """Run a search of an arm, or read it; its network is the best by the arm's own criterion of the study's latency."""
    folder = study.work_dir / "searches" / f"{arm.replace(' ', '_')}_{seed}"
    parser = study.parser({**ARMS[arm], "seed": seed, "split#seed": 0}, folder)
    searcher, deriver, space = (parser.get_parsed_content(key) for key in ("searcher", "deriver", "space"))
    known, start = folder / "found.json", time.perf_counter()
    mixing = searcher.run()
    if not known.exists():
        accuracy = parser.get_parsed_content("shared_weights").dice if deriver.fitness == "accuracy" else None
        network = of_latency(study, deriver, mixing, space, accuracy)
        network.save(folder / "network.json")
        write_json(known, {"seconds": time.perf_counter() - start})
    seconds = json.loads(known.read_text(encoding="utf-8"))["seconds"]
    return Found(Architecture.load(folder / "network.json"), mixing, seconds)


def of_latency(
    study: Study,
    deriver: Deriver,
    mixing: Mixing,
    space: Space,
    accuracy: Callable[[Architecture], float] | None = None,
) -> Architecture:
    """The deriver's first proposal of the study's latency, of any number of paths, else the nearest to it."""
    proposed: list[Architecture] = []
    for count in deriver.counts(space):
        proposed += deriver.propose(mixing, study.table, space, (count, count), (1 + ALIKE) * study.ms, accuracy)
    fitting = [one for one in proposed if study.alike(one)]
    if not fitting:
        return min(proposed, key=lambda one: abs(one.provenance["predicted_ms"] - study.ms))
    if deriver.fitness == "latency":
        return max(fitting, key=lambda one: one.provenance["accumulated_weight"])
    return max(fitting, key=lambda one: one.provenance["shared_dice"] or one.provenance["accumulated_weight"])


def halving(study: Study, seed: int, seconds: float) -> Architecture:
    """The best of random networks by successive halving, trained and judged on the halves that a search reads, for as
    many seconds as a search takes."""
    halves = Trainings(study.work_dir / "halving", study.searched, 2, study.overlay, study.patch_size)
    networks = study.random_networks(HALVING[0], 1000 + seed)
    start = time.perf_counter()
    halves.dice(networks[0], 50, seed)
    halves.dice(networks[0], 150, seed)
    step_s = max(1e-3, (time.perf_counter() - start) / 200)
    first = max(20, int(seconds / step_s / sum(count * 2**i for i, count in enumerate(HALVING))))
    plan = study.work_dir / "halving" / f"plan_{seed}.json"
    if not plan.exists():
        write_json(plan, {"first": first})
    first = json.loads(plan.read_text(encoding="utf-8"))["first"]
    for i, _ in enumerate(HALVING):
        dice = {one.digest: _mean(halves.dice(one, first * 2**i, seed)) for one in networks}
        networks = sorted(networks, key=lambda one: -dice[one.digest])[: max(1, len(networks) // 2)]
    return networks[0]


def crossed(study: Study, found: Found) -> dict[str, Architecture]:
    """Searched or hand-drawn cells by searched or uniform beta."""
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


def rank(study: Study, seed: int = 0) -> dict[str, Any]:
    """How well the shared weights of the discrete search rank random networks, and what its mixture is worth.

    Kendall's tau of the Dice with shared weights, before and after fine-tuning, with the Dice after a training.
    """
    folder = study.work_dir / "searches" / f"discrete_{seed}"
    parser = study.parser({**ARMS["discrete"], "seed": seed, "split#seed": 0}, folder)
    searcher, weights = (parser.get_parsed_content(key) for key in ("searcher", "shared_weights"))
    mixing, loader = searcher.run(), parser.get_parsed_content("validation_loader")
    networks = study.random_networks(RANKED, 0)
    known = folder / "ranked.json"
    if not known.exists():
        found = {
            "shared": [weights.dice(one) for one in tqdm(networks, "shared weights")],
            "fine-tuned": [weights.fine_tuned_dice(one, FINE_TUNE_STEPS) for one in tqdm(networks, "fine-tuned")],
            "relaxed": mean_dice(lambda image: searcher.supernet(image, mixing), loader),
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
    arms: dict[str, list[PatientDice]] = {}
    seconds: dict[str, list[float]] = {}
    found: dict[str, list[Found]] = {}
    for arm, seed in itertools.product(ARMS, seeds):
        one = search(study, arm, seed)
        found.setdefault(arm, []).append(one)
        seconds.setdefault(arm, []).append(one.seconds)
    for i, network in enumerate(study.random_networks(RANDOM, 0)):
        arms.setdefault("random", []).append(study.trained(network))
        shared.show(f"random {i}: {_mean(arms['random'][-1]):.4f}")
    for arm, of_arm in found.items():
        arms[arm] = [study.trained(one.network) for one in of_arm]
        shared.show(f"{arm}: {[round(_mean(one), 4) for one in arms[arm]]}")
    budget_s = statistics.median(seconds["discrete"])
    arms["best of random"] = [study.trained(halving(study, seed, budget_s)) for seed in seeds]
    for name, network in crossed(study, found["discrete"][0]).items():
        arms[name] = [study.trained(network)]
    rows = compare(arms, seconds)
    shared.table(["networks", "runs", "Dice", "over random", "95 % interval", "search, s"], [_row(row) for row in rows])
    return {"networks": rows, "dice": arms, "margin": MARGIN}


def compare(arms: Mapping[str, Sequence[PatientDice]], seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Mean Dice of each arm, and its difference to the random networks, paired by patient.

    The interval is of a bootstrap over patients, and over the networks of both sides.
    """
    random = np.random.default_rng(0)
    patients = sorted(next(iter(arms["random"])))
    values = {arm: np.array([[one[p] for p in patients] for one in runs]) for arm, runs in arms.items()}

    def drawn(of_arm: np.ndarray, chosen: np.ndarray) -> float:
        return float(of_arm[random.integers(len(of_arm), size=len(of_arm))][:, chosen].mean())

    rows = []
    for arm, of_arm in values.items():
        differences = []
        for _ in range(2000):
            chosen = random.integers(len(patients), size=len(patients))
            differences.append(drawn(of_arm, chosen) - drawn(values["random"], chosen))
        low, high = np.quantile(differences, (0.025, 0.975))
        rows.append(
            {
                "networks": arm,
                "runs": len(of_arm),
                "dice": float(of_arm.mean()),
                "over_random": float(of_arm.mean() - values["random"].mean()),
                "interval": [float(low), float(high)],
                "seconds": statistics.median(seconds[arm]) if arm in seconds else None,
            }
        )
    return rows


def _mean(dice: PatientDice) -> float:
    return statistics.mean(dice.values())


def _rounded(row: Mapping[str, Any]) -> list[Any]:
    return [f"{value:.3f}" if isinstance(value, float) else value for value in row.values()]


def _row(row: Mapping[str, Any]) -> list[str]:
    low, high = row["interval"]
    interval = "" if row["networks"] == "random" else f"{low:+.3f} to {high:+.3f}"
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.0f}"
    return [row["networks"], str(row["runs"]), f"{row['dice']:.3f}", f"{row['over_random']:+.3f}", interval, seconds]


PARTS: dict[str, Callable[[Study, int], dict[str, Any]]] = {
    "pilot": lambda study, seeds: pilot(study),
    "rank": lambda study, seeds: rank(study),
    "study": lambda study, seeds: study_all(study, range(seeds)),
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
