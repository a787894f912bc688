"""Whole networks, timed on the device in the runtime that deploys."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from random import Random
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from scripts.latency.timer import Timing, time_in_turn
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.space.architecture import Architecture
from scripts.space.deployable import Deployable
from scripts.space.network import CineNet, Head, Stem
from scripts.space.sampling import random_architecture
from scripts.space.space import Space

logger = logging.getLogger(__name__)
VISITS, APART = 2, 4
FEWEST = 10
TRIES, DISTURBED = 3, 1.1


@dataclass(frozen=True)
class Visit:
    """One measurement of a network in turn with the reference kernel, medians in ms; its place in the sequence."""

    ms: float
    reference_ms: float
    number: int


@dataclass(frozen=True)
class Sample:
    """A network and its measurements, made some time apart."""

    architecture: Architecture
    visits: tuple[Visit, ...]


def deployed_call(network: nn.Module, space: Space, runtime: Runtime) -> Callable[[], torch.Tensor]:
    """A network at the deployment size, batch 1, as a callable without arguments."""
    return partial(runtime.deploy(network), torch.randn(1, 1, *space.deployment_size, device=runtime.device))


def reference_kernel(space: Space, runtime: Runtime) -> Callable[[], torch.Tensor]:
    """What is timed in turn with networks, so that the machine's own drift shows: stem and head alone."""
    return deployed_call(nn.Sequential(Stem(1, space), Head(space, 4)), space, runtime)


def measure_network(
    network: Deployable, runtime: Runtime, seconds: float = 1.0, reference_ms: float | None = None
) -> Timing:
    """Time a network at its deployment size, batch 1: LT, and TP = 1000 / mean.

    Args:
        network: whatever its weights, which take no part.
        runtime: how it runs.
        seconds: to time for.
        reference_ms: the reference kernel when the device was profiled; a run in which it takes over 10 % longer
            is repeated, twice at most, and the least disturbed run counts.
    """
    call, reference = deployed_call(network, network.space, runtime), reference_kernel(network.space, runtime)
    runs: list[tuple[float, Timing]] = []
    while len(runs) < TRIES:
        times_ms = time_in_turn([call, reference, reference], runtime.device, seconds)
        drift = float(np.median(times_ms[:, 2])) / (reference_ms or np.inf)
        runs.append((drift, Timing.of(times_ms[:, 0])))
        if drift <= DISTURBED:
            break
        logger.info("The device ran at 1/%.2f of its speed when profiled: measured again", drift)
    return min(runs, key=lambda run: run[0])[1]


def sample_networks(
    space: Space,
    runtime: Runtime,
    seconds: float,
    random: Random,
    draw: Callable[[Space, Random], Architecture] = random_architecture,
    fewest: int = FEWEST,
) -> list[Sample]:
    """Time random networks for so many seconds, ``fewest`` at least, each twice with others in between."""
    reference = reference_kernel(space, runtime)
    waiting: deque[tuple[Architecture, Callable, list[Visit]]] = deque()
    samples: list[Sample] = []
    references: deque[float] = deque(maxlen=20)
    number = drawn = 0
    start = time.perf_counter()

    def visit(architecture: Architecture, call: Callable, visits: list[Visit]) -> None:
        nonlocal number
        visits.append(Visit(*_time_beside(call, reference, runtime, references), number))
        references.append(visits[-1].reference_ms)
        number += 1
        if len(visits) == VISITS:
            samples.append(Sample(architecture, tuple(visits)))
        else:
            waiting.append((architecture, call, visits))

    with tqdm(desc="networks", unit="network", total=fewest) as bar:
        while (elapsed := time.perf_counter() - start) < seconds or drawn < fewest:
            bar.total = max(fewest, round(drawn * seconds / max(elapsed, 1.0)))
            architecture = draw(space, random)
            visit(architecture, deployed_call(CineNet(architecture), space, runtime), [])
            if len(waiting) > APART:
                visit(*waiting.popleft())
            bar.update()
            drawn += 1
        bar.total = drawn
    while waiting:
        visit(*waiting.popleft())
    return samples


def _time_beside(
    call: Callable, reference: Callable, runtime: Runtime, references: Sequence[float], seconds: float = 0.15
) -> tuple[float, float]:
    """Medians of a network and of the reference kernel, in turn; again where the kernel was disturbed."""
    tries: list[tuple[float, float]] = []
    while len(tries) < TRIES:
        calls = [call, reference, reference]  # the first finds the caches as the network left them
        network_ms, _, reference_ms = np.median(time_in_turn(calls, runtime.device, seconds, 2), axis=0)
        tries.append((float(reference_ms), float(network_ms)))
        if references and reference_ms <= DISTURBED * np.median(references):
            break
    reference_ms, network_ms = min(tries)
    return network_ms, reference_ms


def latency_report(network: Deployable, runtime: Runtime, seconds: float = 3.0) -> dict[str, Any]:
    """Latency and throughput of the network alone, measured now, beside what its search predicted and allowed."""
    timing = measure_network(network, runtime, seconds, network.provenance.get("reference_ms"))
    return {
        "latency": {
            **asdict(timing),
            "volumes_per_second": 1000 / timing.mean_ms,
            "predicted_ms": network.provenance.get("predicted_ms"),
            "budget_ms": network.provenance.get("budget_ms"),
            "volumes_per_second_required": network.provenance.get("volumes_per_second_required"),
            "deployment_size": list(network.space.deployment_size),
            "device": describe_device(runtime.device),
            "runtime": runtime.describe(),
        }
    }
