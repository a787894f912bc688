"""Is a searched network better than chance? Searches, controls of equal latency, and trainings from scratch.

All exams are training exams of fold 0: 60 patients are for search and training, 20 for evaluation. The test exams of
the fold are never read. All networks have the same predicted latency within 3 %, train for the same number of steps,
and are evaluated by patient.

``pilot`` finds how short these trainings may be. ``again`` shows how much of the Dice is chance of the training.
``rank`` shows how well shared weights rank networks. ``study`` runs everything. On a quiet device, ``cost`` measures
the time of searches, and ``time`` times the study's networks side by side. A stopped part continues when it is started
again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shared
import torch
from scipy.stats import kendalltau
from study import ARMS, Study, costs, crossed, halving, of_latency, search
from tqdm import tqdm
from trainings import PatientDice, mean_of_patients

from scripts.compare.costs import time_side_by_side
from scripts.core.json_files import write_json
from scripts.latency.network import deployed_call
from scripts.search.mean_dice import mean_dice
from scripts.search.searcher import Searcher
from scripts.space.architecture import Architecture
from scripts.space.mixing import Mixing
from scripts.space.network import CineNet

MARGIN = 0.01
"""The gain in Dice over chance that makes a search worth its time; set before the study ran."""
PILOT_STEPS = (400, 1000, 2000)
RANDOM, PILOT, RANKED = 8, 8, 16
HALVED = "best of random"
RUNS = {"before": 3, "budget binds": 5, "discrete": 3, "by scale": 1, HALVED: 3}
"""Searches of each arm."""


def pilot(study: Study) -> dict[str, Any]:
    """Kendall's tau between shorter trainings and the longest, over random networks."""
    networks = study.random_networks(PILOT, 0)
    dice = {steps: [mean_of_patients(study.judge.dice(one, steps)) for one in networks] for steps in PILOT_STEPS}
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


def again(study: Study) -> dict[str, Any]:
    """The same random networks trained with two seeds: how far the Dice differs, and how well both rankings agree."""
    networks = study.random_networks(RANDOM, 0)
    first, second = ([mean_of_patients(study.trained(one, seed)) for one in networks] for seed in (0, 1))
    differences = [b - a for a, b in zip(first, second, strict=True)]
    figures = {
        "first": statistics.mean(first),
        "second": statistics.mean(second),
        "spread_of_a_training": statistics.stdev(differences) / 2**0.5,
        "kendall_tau": float(kendalltau(first, second).statistic),
    }
    shared.table(["seed 0", "seed 1"], [[f"{a:.3f}", f"{b:.3f}"] for a, b in zip(first, second, strict=True)])
    shared.show(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return {**figures, "dice": [first, second]}


@torch.no_grad()
def _relaxed_dice(searcher: Searcher, mixing: Mixing, loader: Any) -> float:
    return mean_dice(lambda image_BCHWD: searcher.supernet(image_BCHWD, mixing), loader)


def rank(study: Study) -> dict[str, Any]:
    """How well the shared weights of the discrete search rank random networks, and the Dice of its mixture.

    The measure is Kendall's tau between the Dice with shared weights, before and after fine-tuning, and the Dice after
    training from scratch.
    """
    folder = study.work_dir / "searches" / "discrete_0"
    parser = study.parser({**ARMS["discrete"], "seed": 0, "split#seed": 0}, folder)
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
    scratch = [mean_of_patients(study.trained(one)) for one in networks]
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


def study_all(study: Study) -> dict[str, Any]:
    """Train every arm and control, seed by seed; returns the Dice by patient of each network."""
    networks: dict[str, list[Architecture]] = {}
    dice: dict[str, list[PatientDice]] = {}

    def judge(name: str, network: Architecture) -> None:
        of_name = networks.setdefault(name, [])
        network.save(study.work_dir / "networks" / f"{name}_{len(of_name)}.json")
        of_name.append(network)
        dice.setdefault(name, []).append(study.trained(network))
        ms, mean = study.table.predict(network), mean_of_patients(dice[name][-1])
        shared.show(f"{name} {len(of_name) - 1}: {ms:.2f} ms, Dice {mean:.4f}")

    for network in study.random_networks(RANDOM, 0):
        judge("random", network)
    for arm, runs in RUNS.items():
        for seed in range(runs):
            judge(arm, halving(study, seed, "discrete") if arm == HALVED else search(study, arm, seed).network)
    for name, network in crossed(study, search(study, "budget binds", 0)).items():
        judge(name, network)
    rows, seconds = compare(dice), costs(study)
    for row in rows:
        row["seconds"] = seconds.get(row["networks"])
        row["predicted_ms"] = [study.table.predict(one) for one in networks[row["networks"]]]
        row["alike"] = all(map(study.alike, networks[row["networks"]]))
    header = ["networks", "runs", "Dice", "over random", "95 % interval", "search, s", "ms, predicted"]
    shared.table(header, [_row(row) for row in rows])
    lowest = {row["networks"]: row["interval"][0] for row in rows if row["interval"] and row["networks"] in ARMS}
    beats = [arm for arm, low in lowest.items() if low > MARGIN]
    shared.show(f"Arms with an interval entirely above the margin of {MARGIN}: {', '.join(beats) or 'none'}")
    return {"networks": rows, "dice": dice, "margin": MARGIN}


def measure(study: Study) -> dict[str, Any]:
    """The latencies (ms) of the study's networks, timed side by side, in the device's fast state."""
    files = sorted((study.work_dir / "networks").glob("*.json"))
    runtime = study.parser({}, study.work_dir).get_parsed_content("runtime")
    calls = [deployed_call(CineNet(Architecture.load(file)), study.space, runtime) for file in files]
    timed, states = time_side_by_side(calls, study.space, runtime)
    medians = {file.stem: one.timing.median_ms for file, one in zip(files, timed, strict=True)}
    shared.table(["network", "ms"], [[name, f"{ms:.2f}"] for name, ms in medians.items()])
    shared.show(f"states of the device: {states}")
    return {"measured_ms": medians, "states": states}


def compare(dice: Mapping[str, Sequence[PatientDice]]) -> list[dict[str, Any]]:
    """Mean Dice of each arm, and its difference from the random networks, paired by patient.

    The interval is a bootstrap over patients, and over the networks of both sides. From n networks n - 1 are drawn, so
    that the variance is that of a mean. A single network has no interval.
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
            }
        )
    return rows


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


PARTS: dict[str, Callable[[Study], dict[str, Any]]] = {
    "pilot": pilot,
    "again": again,
    "rank": rank,
    "study": study_all,
    "cost": lambda study: costs(study, measure=True),
    "time": measure,
}


def main() -> None:
    options = shared.parser(__doc__ or "", runtime=False)
    options.add_argument("what", choices=tuple(PARTS))
    options.add_argument("--dataset_dir", required=True, help="ACDC's folder training")
    options.add_argument("--work_dir", required=True, type=Path, help="where searches and trainings are kept")
    options.add_argument("--latency_file", required=True, type=Path, help="latency.json of the step profile")
    options.add_argument("--ms", type=float, default=15.0, help="predicted latency of all networks")
    options.add_argument("--steps", type=int, default=1000, help="training steps before evaluation")
    options.add_argument("--overlay", default="cpu", help="configuration over all steps")
    given = options.parse_args()
    study = Study(given.work_dir, given.dataset_dir, given.latency_file, given.ms, given.steps, given.overlay)
    result = PARTS[given.what](study)
    if given.json:
        write_json(given.json, {**result, "ms": given.ms, "steps": given.steps})


if __name__ == "__main__":
    main()
