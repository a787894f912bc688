"""How well the latency table predicts unseen networks, compared with isolated operations, FLOPs and cell count.

It also shows the agreement when the same networks are measured twice, for each way to measure, and the machine's
states.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import numpy as np
import shared
import torch
from scipy.stats import kendalltau
from torch.utils.flop_counter import FlopCounterMode

from scripts.latency.calibration import agreement, measured_twice
from scripts.latency.network import JUDGED, Sample, reference_network, sample_networks
from scripts.latency.profile import describe, measure
from scripts.latency.table import Entry, LatencyTable
from scripts.latency.visits import Visit, Visitor
from scripts.runtime.autotune import choose_runtime
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.space.sampling import random_architecture

FIGURES = ("bias", "spread", "within_2", "within_5", "within_10", "kendall_tau")
ESTIMATES: dict[str, Callable[[Visitor, Sequence[Visit]], Sequence[Visit]]] = {
    "the first visit": lambda visitor, visits: visits[:1],
    "all visits": lambda visitor, visits: visits,
    "visits of the fast state": lambda visitor, visits: [visit for visit in visits if visitor.is_fast(visit)],
}
"""The visits that an estimate uses; the project's own estimate also divides by the drift of the reference."""

BUSY = """
import numpy, time
x = numpy.ones((900, 900))
while True:
    end = time.time() + 1
    while time.time() < end:
        x @ x
    time.sleep(1)
"""


def flops(architecture: Architecture) -> int:
    """Floating point operations of a network at its deployment size; they are counted without computing them."""
    with torch.device("meta"):
        network, image = CineNet(architecture).eval(), torch.empty(1, 1, *architecture.space.deployment_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops()


def rank(name: str, architectures: list[Architecture], measured: np.ndarray) -> float:
    """Kendall's tau of a ranking by FLOPs or cell count, which needs no device."""
    key = {"cells": lambda a: len(a.union), "flops": flops}[name]
    return float(kendalltau([key(architecture) for architecture in architectures], measured).statistic)


def twice(samples: Sequence[Sample], visitor: Visitor) -> dict[str, dict[str, float]]:
    """Agreement of the earlier and the later half of each network's visits, for each estimate."""
    found = {}
    for name, pick in ESTIMATES.items():
        halves = []
        for visits in (sample.visits for sample in samples):
            middle = len(visits) // 2
            picked = [pick(visitor, part) for part in (visits[:middle], visits[middle:])]
            if all(picked):
                halves.append([np.median(np.concatenate([visit.times_ms for visit in part])) for part in picked])
        found[name] = agreement(*np.array(halves).reshape(-1, 2).T)
    return {**found, "fast state, drift divided out": agreement(*measured_twice(samples, visitor))}


def judge(samples: list[Sample], visitor: Visitor, latency_table: LatencyTable) -> dict[str, Any]:
    """All figures of a group of networks: of the table, and of predictors that need no fit or no device."""
    isolated = {key: Entry(entry.isolated.median_ms, entry.isolated) for key, entry in latency_table.entries.items()}
    kept = [sample for sample in samples if any(map(visitor.is_fast, sample.visits))] or samples
    architectures = [sample.architecture for sample in kept]
    measured = np.array([visitor.summarise(sample.visits).timing.median_ms for sample in kept])
    predictions = {"table": latency_table, "isolated operations": replace(latency_table, entries=isolated)}
    return {
        "networks": len(kept),
        "slow_only": len(samples) - len(kept),
        "fewest_fast_visits": min(sum(map(visitor.is_fast, sample.visits)) for sample in kept),
        "ms": [float(measured.min()), float(measured.max())],
        "predicted": {
            **{
                name: agreement(np.array([table.predict(a) for a in architectures]), measured)
                for name, table in predictions.items()
            },
            "FLOPs": {"kendall_tau": rank("flops", architectures, measured)},
            "cells": {"kendall_tau": rank("cells", architectures, measured)},
        },
        "measured_twice": twice(kept, visitor),
    }


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Run another program in bursts: matrix products for a second, then a second of rest."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if wanted else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def main() -> None:
    options = shared.parser(__doc__ or "")
    options.add_argument("--table", help="the table to judge; by default it is measured and not saved")
    options.add_argument("--overlay", help="the config over profile.json that gives the space, such as cpu")
    options.add_argument("--networks", type=int, default=60, help="networks of 1 to 8 paths, and half as many of 5")
    options.add_argument("--profile_seconds", type=float, default=240.0)
    options.add_argument("--seconds", type=float, default=900.0, help="to time these networks for, at most")
    options.add_argument("--seed", type=int, default=1000, help="of the networks; profile samples with seed 0")
    options.add_argument("--busy", action="store_true", help="while another program works in bursts")
    arguments = options.parse_args()
    space = shared.configured_space(arguments.overlay)
    runtime = choose_runtime(arguments.device, arguments.precision, arguments.backend)
    with busy(arguments.busy):
        if arguments.table:
            latency_table = LatencyTable.load(arguments.table, space, runtime)
        else:
            latency_table = measure(space, runtime, arguments.profile_seconds)
        visitor = Visitor(
            reference_network(space, runtime), runtime.device, latency_table.calibration.get("reference_ms")
        )
        groups = {}
        limit = arguments.seconds / (1.5 * arguments.networks)
        for name, count, paths in (
            ("1 to 8 paths", arguments.networks, None),
            ("5 paths", max(1, arguments.networks // 2), 5),
        ):
            samples = sample_networks(
                *(space, runtime, count * limit, Random(arguments.seed), visitor),
                draw=partial(random_architecture, paths=paths),
                count=count,
                enough=2 * JUDGED,  # so that each half is as precise as an acceptance
            )
            groups[name] = judge(samples, visitor, latency_table)
    shared.show(describe(latency_table))
    for title, key in (("networks, predicted by", "predicted"), ("networks, measured twice by", "measured_twice")):
        rows = [
            [group, figures["networks"], name, *(f"{row[figure]:.3f}" if figure in row else "-" for figure in FIGURES)]
            for group, figures in groups.items()
            for name, row in figures[key].items()
        ]
        shared.show("")
        shared.table([title, "n", "", *FIGURES], rows)
    states = visitor.states()
    shared.show(
        f"\nfast state: {states['fast_share']:.0%} of the visits; in slower states the reference network takes "
        f"{states['slowdown']:.2f} times as long; networks that were timed only in these: "
        f"{', '.join(str(figures['slow_only']) for figures in groups.values())}"
    )
    result = {**groups, "states": states, "table": latency_table.calibration, "busy": arguments.busy}
    shared.finish(result, arguments.json, runtime)


if __name__ == "__main__":
    main()
