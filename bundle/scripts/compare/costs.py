"""The costs of the compared networks on this device, timed side by side in one run."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from scripts.compare.plan import Plan
from scripts.core.errors import CineError
from scripts.core.files import sha256
from scripts.core.json_files import read_json, write_json
from scripts.latency.network import JUDGED, reference_network
from scripts.latency.visits import Call, Measured, Visit, Visitor
from scripts.runtime.cost import inference_cost
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.space.space import Space

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-costs-2"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "of", "states", "networks"],
    "properties": {
        "format": {"const": FORMAT},
        "of": {"type": "object"},
        "states": {"type": ["object", "null"]},
        "networks": {"type": "object"},
    },
}
SECONDS = 20.0
"""How long a network is timed if the device is not in its fast state."""


def measure_costs(plan: Plan, failures: Mapping[str, str], runtime: Runtime) -> dict[str, Any]:
    """Time all networks that did not fail and count their costs; ``costs.json`` keeps the result while nothing changes.

    Returns:
        The content of that file: device, runtime, size and networks, and the states of the device. Each network has the
        fields of ``Timing`` in the fast state, ``met`` with those of all visits, volumes_per_second, and the fields
        of ``Cost``.
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
        kept = read_json(path, SCHEMA, "It is measured again.")
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
    timed, states = time_side_by_side(
        [partial(runtime.deploy(network), image) for network in networks.values()], space, runtime
    )
    found = {}
    for (name, network), measured in zip(networks.items(), timed, strict=True):
        if not measured.fast_visits:
            logger.warning(
                "%s was never timed in the fast state: delete costs.json and run again on a quiet machine", name
            )
        found[name] = {
            **asdict(measured.timing),
            "met": asdict(measured.met),
            "fast_visits": measured.fast_visits,
            "volumes_per_second": 1000 / measured.timing.mean_ms,
            **asdict(inference_cost(network, space.deployment_size, runtime)),
        }
    return {"states": states, "networks": found}


def time_side_by_side(
    calls: Sequence[Call], space: Space, runtime: Runtime
) -> tuple[list[Measured], dict[str, float] | None]:
    """Time networks in rounds over all of them, until each has enough visits in the device's fast state.

    Args:
        calls: the networks, deployed.
        space: the space of the reference network.
        runtime: how the networks and the reference network run.

    Returns:
        The timing of each network; the states of the device, None if there is no network.
    """
    if not calls:
        return [], None
    visitor = Visitor(reference_network(space, runtime), runtime.device)
    visits: list[list[Visit]] = [[] for _ in calls]
    with tqdm(desc="timing", unit="visit", leave=False) as bar:
        end = time.perf_counter() + SECONDS * len(calls)
        visitor.visit_in_rounds(list(zip(calls, visits, strict=True)), end, JUDGED, bar.update)
    return [visitor.summarise(of_one) for of_one in visits], visitor.states()
