"""What the compared networks cost on this device, timed side by side in one run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from scripts.compare.plan import Plan
from scripts.files import CineError, read_json, sha256, write_json
from scripts.latency.network import DISTURBED
from scripts.latency.timer import Timing, time_in_turn
from scripts.runtime.cost import inference_cost
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.space.space import Space

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-costs-1"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "of", "slowdown", "networks"],
    "properties": {
        "format": {"const": FORMAT},
        "of": {"type": "object"},
        "slowdown": {"type": "number"},
        "networks": {"type": "object"},
    },
}
ROUNDS, SECONDS = 5, 0.5


def measure_costs(plan: Plan, failures: Mapping[str, str], runtime: Runtime) -> dict[str, Any]:
    """Time all networks that did not fail and count what they need; kept in ``costs.json`` while nothing changes.

    Returns:
        as in that file: of which device, runtime, size and networks it is; the slowdown of the
        busiest round; for each network the fields of ``Timing``, volumes_per_second, and those of ``Cost``.
    """
    networks = [network for network in plan.entries if network.name not in failures]
    of = {
        "device": describe_device(runtime.device),
        "runtime": runtime.describe(),
        "deployment_size": list(plan.deployment_size),
        "weights": {network.name: sha256(network.folder / "model.pt") for network in networks},
    }
    path = Path(plan.work_dir) / "costs.json"
    try:
        kept = read_json(path, SCHEMA, "It is measured anew.")
        if kept["of"] == json.loads(json.dumps(of)):
            return kept
    except CineError as error:
        if path.exists():
            logger.warning("%s", error)
    measured = _measure({network.name: plan.build(network) for network in networks}, plan.space_of(), runtime)
    content = {"format": FORMAT, "of": of, **measured}
    write_json(path, content)
    return content


def _measure(networks: Mapping[str, nn.Module], space: Space, runtime: Runtime) -> dict[str, Any]:
    image = torch.randn(1, 1, *space.deployment_size, device=runtime.device)
    calls = [partial(runtime.deploy(network), image) for network in networks.values()]
    timings = time_side_by_side(calls, runtime.device)
    slowed = slowdown(timings)
    if slowed > DISTURBED:
        logger.warning(
            "Networks took %.0f %% longer in the busiest round of timing than in their quietest: delete costs.json and "
            "run again in quiet",
            100 * (slowed - 1),
        )
    found = {}
    for (name, network), rounds in zip(networks.items(), timings, strict=True):
        timing, cost = quietest(rounds), inference_cost(network, space.deployment_size, runtime)
        found[name] = {**asdict(timing), "volumes_per_second": 1000 / timing.mean_ms, **asdict(cost)}
    return {"slowdown": slowed, "networks": found}


def time_side_by_side(
    calls: Sequence[Callable[[], Any]], device: str, rounds: int = ROUNDS, seconds: float = SECONDS
) -> list[list[Timing]]:
    """Time networks round by round, each for some time by itself, with caches as a stream of volumes finds them.

    Returns:
        for each call its timings, one a round.
    """
    found: list[list[Timing]] = [[] for _ in calls]
    with tqdm(total=rounds * len(calls), desc="timing", unit="network", leave=False) as bar:
        for _ in range(rounds):
            for call, timings in zip(calls, found, strict=True):
                timings.append(Timing.of(time_in_turn([call], device, seconds)[:, 0]))
                bar.update()
    return found


def quietest(timings: Sequence[Timing]) -> Timing:
    """The round of the least median, since other programs only add."""
    return min(timings, key=lambda timing: timing.median_ms)


def slowdown(timings: Sequence[Sequence[Timing]]) -> float:
    """How much longer networks took in the busiest round than each in its quietest: the mean factor, 1 where none did.

    Args:
        timings: of ``time_side_by_side``.
    """
    if not timings:
        return 1.0
    ms = np.array([[timing.median_ms for timing in rounds] for rounds in timings])
    return float((ms / ms.min(axis=1, keepdims=True)).mean(axis=0).max())
