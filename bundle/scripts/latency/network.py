"""Whole networks, timed on the device with the deployment runtime."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from random import Random
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from scripts.latency.counts import SPACE_KEYS
from scripts.latency.visits import Call, Measured, Visit, Visitor
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.space.architecture import Architecture
from scripts.space.deployable import Deployable
from scripts.space.network import CineNet
from scripts.space.provenance import Provenance
from scripts.space.registry import DEFAULT
from scripts.space.sampling import random_architecture
from scripts.space.space import Space

MIN_NETWORKS = 10
BATCH = 30
"""The number of networks that are compiled at the same time: about 50 MB each."""
REFERENCE_PATHS = 3
REFERENCE_OPERATIONS = (*DEFAULT, "conv_3x3x1")
"""By name: a new entry of the registry must not change the network that older tables were measured against."""
ENOUGH = 2
"""Fast visits of a network for the fit: more networks improve the fit more than more visits of the same network."""
JUDGED = 6
"""Fast visits of a single network that is measured, also for its 95th percentile."""
MAX_SECONDS = 60.0
"""How long such a network is visited if the device is not in its fast state."""


@dataclass(eq=False)
class Sample:
    """A network and its visits."""

    architecture: Architecture
    visits: list[Visit] = field(default_factory=list)


def deployed_call(network: nn.Module, space: Space, runtime: Runtime) -> Callable[[], torch.Tensor]:
    """A network at the deployment size, batch 1, as a callable without arguments."""
    return partial(runtime.deploy(network), torch.randn(1, 1, *space.deployment_size, device=runtime.device))


def reference_network(space: Space, runtime: Runtime) -> Callable[[], torch.Tensor]:
    """The network that is timed in turn with others and shows the state of the device.

    It depends only on settings that a latency table depends on, so it is the same for all spaces that a table fits.
    """
    kept = {key: getattr(space, key) for key in SPACE_KEYS}
    space = Space(layers=max(2, 2 * (space.scales - 1)), operations=REFERENCE_OPERATIONS, **kept)
    architecture = random_architecture(space, Random(0), paths=REFERENCE_PATHS)
    return deployed_call(CineNet(architecture), space, runtime)


def known_reference_ms(provenance: Provenance, runtime: Runtime) -> float | None:
    """The reference network's ms in the fast state, from a provenance that is of this device; else None."""
    here = (describe_device(runtime.device), runtime.describe())
    return provenance.fast_reference_ms if here == (provenance.device, provenance.runtime) else None


def measure_network(network: Deployable, runtime: Runtime, reference_ms: float | None = None) -> Measured:
    """Time a network at its deployment size, batch 1, until enough visits found the device in its fast state.

    Args:
        network: the network; its weights do not matter.
        runtime: how it runs.
        reference_ms: the reference network's earlier latency in that state, on this device and in this runtime.
    """
    space = network.space or Space(deployment_size=network.deployment_size)
    visitor = Visitor(reference_network(space, runtime), runtime.device, reference_ms)
    visits: list[Visit] = []
    call = deployed_call(network, space, runtime)
    visitor.visit_in_rounds([(call, visits)], time.perf_counter() + MAX_SECONDS, JUDGED)
    return visitor.summarise(visits)


def sample_networks(
    space: Space,
    runtime: Runtime,
    seconds: float,
    random: Random,
    visitor: Visitor,
    draw: Callable[[Space, Random], Architecture] = random_architecture,
    count: int | None = None,
    enough: int = ENOUGH,
    twice: bool = False,
) -> list[Sample]:
    """Time random networks until the time is up, in batches that are compiled together.

    Args:
        space, runtime: of the networks.
        seconds: the total time.
        random: the source of randomness.
        visitor: times the networks.
        draw: draws an architecture.
        count: the number of networks, which are then visited at least twice each, even after the time is up. None: as
            many as the time allows, but at least ``MIN_NETWORKS``.
        enough: the number of fast visits of each network before the next batch starts.
        twice: whether networks of the first batch need twice as many, so that they are measured twice.
    """
    fewest, most = (MIN_NETWORKS, sys.maxsize) if count is None else (count, count)
    samples: list[Sample] = []
    start = time.perf_counter()
    end = start + seconds
    with tqdm(total=seconds, desc="networks, timed", bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:

        def show() -> None:
            bar.set_postfix(networks=len(samples), refresh=False)
            bar.update(min(seconds, time.perf_counter() - start) - bar.n)

        while len(samples) < fewest or (len(samples) < most and time.perf_counter() < end):
            batch: list[tuple[Call, list[Visit]]] = []
            half_time = (time.perf_counter() + end) / 2
            while len(samples) < fewest or (len(samples) < most and time.perf_counter() < half_time):
                architecture = draw(space, random)
                call = deployed_call(CineNet(architecture), space, runtime)
                samples.append(Sample(architecture, visitor.visit(call)))
                batch.append((call, samples[-1].visits))
                show()
                if len(batch) == BATCH:
                    break
            is_first = len(samples) == len(batch)
            visitor.visit_in_rounds(batch, end, 2 * enough if twice and is_first else enough, show)
    return samples


def latency_report(network: Deployable, runtime: Runtime) -> dict[str, Any]:
    """Latency and throughput of a network, measured now, with its predicted latency and its budget.

    The values are for the device's fast state; ``met`` has the values of all visits.
    """
    provenance = network.provenance
    found = measure_network(network, runtime, known_reference_ms(provenance, runtime))
    return {
        "latency": {
            **asdict(found.timing),
            "met": asdict(found.met),
            "visits": found.visits,
            "fast_visits": found.fast_visits,
            "volumes_per_second": 1000 / found.timing.mean_ms,
            "predicted_ms": provenance.predicted_ms,
            "budget_ms": provenance.budget_ms,
            "volumes_per_second_required": provenance.volumes_per_second_required,
            "deployment_size": list(network.deployment_size),
            "device": describe_device(runtime.device),
            "runtime": runtime.describe(),
        }
    }
