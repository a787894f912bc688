"""The searches and controls of search_quality.py: all networks have the same predicted latency within 3 %."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import shared
from monai.bundle import ConfigParser
from trainings import FOLDS, PatientDice, Trainings, mean_of_patients, write_datalists

from scripts.core.errors import CineError
from scripts.core.json_files import write_json
from scripts.latency.table import LatencyTable
from scripts.search.decoding import gene_pool
from scripts.search.derive import Deriver
from scripts.search.relaxation import uniform_mixing
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing
from scripts.space.sampling import random_architecture
from scripts.space.space import Space
from scripts.space.trellis import cells_of

ALIKE = 0.03
"""Networks of equal latency: predicted within 3 %."""
HALVING = (16, 8, 4, 2)
"""The number of networks in each round of successive halving; each round trains twice as long as the last."""
BEFORE: dict[str, Any] = {  # the search of version 0.1
    "network_reading": "derived",
    "objective": {"_target_": "scripts.search.objective.LatencyObjective", "weight": 0.01},
    "fitness": "latency",
    "paths": "auto",
}
DISCRETE = ConfigParser.load_config_files(shared.config_files("discrete"))
ARMS: dict[str, dict[str, Any]] = {
    "before": BEFORE,
    "budget binds": {},  # the default
    "discrete": DISCRETE,
    "by scale": {**DISCRETE, "space#share_cells": "scale"},
}


@dataclass
class Study:
    """The common part of all arms.

    Args:
        work_dir: the folder of all results.
        dataset_dir: ACDC's folder training.
        latency_file: the table of the step profile with the overlay.
        ms: the latency of all networks.
        steps: the number of training steps before evaluation.
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
        """The latency table, which may be from another device."""
        parser = self.parser({}, self.work_dir)
        return parser.get_parsed_content("table")

    def parser(self, settings: Mapping[str, Any], folder: Path) -> ConfigParser:
        """The configuration of the step search with some settings, on the 60 patients."""
        parser = ConfigParser(ConfigParser.load_config_files(shared.config_files("search", self.overlay)))
        ours = {"datalist": str(self.inner), "folds": FOLDS, "latency_file": str(self.latency_file)}
        ours |= {"target": "foreign", "budget_ms": self.ms, "work_dir": str(folder)}
        for key, value in {**ours, **settings}.items():
            parser[key] = value
        return parser

    def alike(self, architecture: Architecture) -> bool:
        return abs(self.table.predict(architecture) / self.ms - 1) <= ALIKE

    def random_networks(self, count: int, seed: int) -> list[Architecture]:
        """The first random networks with the study's latency."""
        drawn = (random_architecture(self.space, Random(1_000_000 * seed + i)) for i in itertools.count())
        return list(itertools.islice(filter(self.alike, drawn), count))

    def trained(self, architecture: Architecture, seed: int = 0) -> PatientDice:
        return self.judge.dice(architecture, self.steps, seed)


@dataclass
class Found:
    """The result of a search."""

    network: Architecture
    mixing: Mixing


def search(study: Study, arm: str, seed: int) -> Found:
    """Run or read a search of an arm; its network is the best with the study's latency, by the arm's own criterion."""
    folder = study.work_dir / "searches" / f"{arm.replace(' ', '_')}_{seed}"
    parser = study.parser({**ARMS[arm], "seed": seed, "split#seed": 0}, folder)
    searcher, deriver, space = (parser.get_parsed_content(key) for key in ("searcher", "deriver", "space"))
    network = folder / "network.json"
    mixing = searcher.run()
    if not network.exists():
        dice = parser.get_parsed_content("shared_weights").dice if searcher.discrete else None
        of_latency(study, deriver, mixing, space, dice).save(network)
    return Found(Architecture.load(network), mixing)


def search_seconds(study: Study, arm: str) -> float:
    """The time of a search of an arm on a quiet device, from the second epoch of each phase.

    A whole search takes hours, during which other programs may disturb it. Its derivation is not counted.
    """
    with TemporaryDirectory() as folder:
        whole = study.parser(ARMS[arm], Path(folder))
        epochs, warm_up = whole["search_epochs"], whole["warm_up_epochs"]
        short = study.parser({**ARMS[arm], "search_epochs": 4, "warm_up_epochs": 2}, Path(folder))
        starts: list[float] = []
        searcher = short.get_parsed_content("searcher")
        begin = searcher.begin_epoch

        def begin_epoch(epoch: int) -> Any:
            starts.append(time.perf_counter())
            return begin(epoch)

        searcher.begin_epoch = begin_epoch
        searcher.run()
        starts.append(time.perf_counter())
    return warm_up * (starts[2] - starts[1]) + (epochs - warm_up) * (starts[4] - starts[3])


def costs(study: Study, measure: bool = False) -> dict[str, float]:
    """Seconds of a search of each arm, and of a training step ("step"); read, or measured on a quiet device."""
    path = study.work_dir / "costs.json"
    if measure:
        found = {arm: search_seconds(study, arm) for arm in ARMS}
        found["step"] = statistics.mean(map(study.judge.step_seconds, study.random_networks(8, 1000)))
        write_json(path, found)
    if not path.exists():
        raise CineError(str(path), "no such file", "the times of searches", "Run the part cost on a quiet device.")
    return json.loads(path.read_text(encoding="utf-8"))


def of_latency(
    study: Study,
    deriver: Deriver,
    mixing: Mixing,
    space: Space,
    dice: Callable[[Architecture], float] | None = None,
) -> Architecture:
    """The most accurate network with the study's latency, by the genetic algorithm; if the pool has none, the one with
    the nearest latency."""

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


def halving(study: Study, seed: int, arm: str) -> Architecture:
    """The best of random networks by successive halving, trained and evaluated on the halves that a search reads.

    The trainings take as long as a search of the arm; the time of evaluation is not counted.
    """
    halves = Trainings(study.work_dir / "halving", study.searched, 2, study.overlay, study.patch_size)
    networks = study.random_networks(HALVING[0], 1000 + seed)
    known = costs(study)
    first = int(known[arm] / known["step"] / sum(count * 2**i for i, count in enumerate(HALVING)))
    for i, _ in enumerate(HALVING):
        dice = {one.digest: mean_of_patients(halves.dice(one, first * 2**i, seed)) for one in networks}
        networks = sorted(networks, key=lambda one: -dice[one.digest])[: max(1, len(networks) // 2)]
    return networks[0]


def crossed(study: Study, found: Found) -> dict[str, Architecture]:
    """Searched or hand-drawn cells with searched or uniform beta; the first union of the heaviest paths that fits."""
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
