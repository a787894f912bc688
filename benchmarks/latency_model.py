"""How well the latency table predicts networks that it never saw, beside measuring twice, cell count and FLOPs."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import numpy as np
import shared
import torch
from scipy.stats import kendalltau
from torch.utils.flop_counter import FlopCounterMode

from scripts.latency.calibration import agreement, divide_drift_out
from scripts.latency.network import sample_networks
from scripts.latency.profile import load_or_measure
from scripts.runtime.choice import choose_runtime
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.space.sampling import random_architecture


def flops(architecture: Architecture) -> int:
    """Floating point operations of a network at its deployment size; nothing is computed."""
    with torch.device("meta"):
        network, image = CineNet(architecture).eval(), torch.empty(1, 1, *architecture.space.deployment_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops()


def rank(name: str, architectures: list[Architecture], measured: np.ndarray) -> float:
    """Kendall's tau of a ranking that needs no device."""
    key = {"cells": lambda a: len(a.union), "flops": flops}[name]
    return float(kendalltau([key(architecture) for architecture in architectures], measured).statistic)


def judge(samples, latency_table) -> dict[str, Any]:
    """All figures of a group of networks."""
    measured, _ = divide_drift_out(samples)
    whole = ~np.isnan(measured)
    samples = [sample for sample, kept in zip(samples, whole, strict=True) if kept]
    measured, first, second = measured[whole], *(np.array([s.visits[i].ms for s in samples]) for i in (0, 1))
    architectures = [sample.architecture for sample in samples]
    predicted = np.array([latency_table.predict(architecture) for architecture in architectures])
    close, repeats = np.abs(predicted / measured - 1) <= 0.1, np.abs(first / second - 1) <= 0.1
    return {
        **agreement(predicted, measured),
        "networks": len(samples),
        "disturbed": int((~whole).sum()),
        "within_10_repeat": float(repeats.mean()),
        "within_15_repeat": float((np.abs(first / second - 1) <= 0.15).mean()),
        "kendall_tau_repeat": float(kendalltau(first, second).statistic),
        "within_10_given_repeat": float(close[repeats].mean()),
        "kendall_tau_cells": rank("cells", architectures, measured),
        "kendall_tau_flops": rank("flops", architectures, measured),
        "fastest_ms": float(measured.min()),
        "slowest_ms": float(measured.max()),
    }


def main() -> None:
    options = shared.parser(__doc__ or "")
    options.add_argument("--table", default="latency.json", help="the table to judge; measured where it is missing")
    options.add_argument("--networks", type=int, default=60, help="networks of 1 to 8 paths, and half as many of 5")
    options.add_argument("--profile_seconds", type=float, default=240.0)
    options.add_argument("--seed", type=int, default=1000, help="of the networks; profile samples with seed 0")
    arguments = options.parse_args()
    space, runtime = shared.configured_space(), choose_runtime(arguments.device, arguments.precision, arguments.backend)
    latency_table = load_or_measure(arguments.table, space, runtime, arguments.profile_seconds)
    usual_ms = latency_table.calibration["reference_ms"]

    def run() -> dict[str, Any]:
        groups = {}
        references = []
        for name, count, paths in (("all", arguments.networks, None), ("five_paths", arguments.networks // 2, 5)):
            samples = sample_networks(
                space,
                runtime,
                0.0,
                Random(arguments.seed),
                partial(random_architecture, paths=paths),
                fewest=count,
            )
            groups[name] = judge(samples, latency_table)
            references += [visit.reference_ms for sample in samples for visit in sample.visits]
        return {**groups, "drift": float(np.median(references)) / usual_ms - 1}

    runs = shared.until_steady(run)
    last = runs[-1]
    rows = [
        [name, *(f"{last[name][key]:.{digits}f}" for key, digits in
                 (("networks", 0), ("bias", 3), ("within_10", 2), ("within_15", 2), ("kendall_tau", 2),
                  ("within_10_repeat", 2), ("within_10_given_repeat", 2), ("kendall_tau_repeat", 2),
                  ("kendall_tau_cells", 2), ("kendall_tau_flops", 2)))]
        for name in ("all", "five_paths")
    ]  # fmt: skip
    header = ["networks", "n", "bias", "in 10 %", "in 15 %", "tau", "twice in 10 %", "of these in 10 %", "tau twice"]
    shared.table([*header, "tau cells", "tau FLOPs"], rows)
    shared.finish(
        {**last["all"], "five_paths": last["five_paths"], "drift": last["drift"], "runs": runs}, arguments.json, runtime
    )


if __name__ == "__main__":
    main()
