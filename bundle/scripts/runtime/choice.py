"""The fastest backend of a device: measured once, on a small network, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
import time
from typing import Any

import torch
from tqdm import tqdm

from scripts.distributed import on_main
from scripts.files import CineError, read_json, user_cache, write_json
from scripts.runtime.backends import BACKENDS
from scripts.runtime.deploy import Deployed, Runtime
from scripts.runtime.device import check_device, describe_device
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.space.space import Space

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-backends-1"
ROUNDS, RUNS = 3, 5


@on_main
def choose_runtime(device: str = "cpu", dtype: str = "auto", backend: str = "auto") -> Runtime:
    """How networks run here.

    Args:
        device: torch device.
        dtype: see ``Runtime``.
        backend: see ``Runtime``; "auto": the fastest on this device, measured at the first call and kept in the
            user's cache until the device, torch or a backend changes.
    """
    device = check_device(device)
    if backend != "auto":
        return Runtime(device, dtype, backend)
    runtimes = _candidates(device, dtype)
    if len(runtimes) == 1:
        return runtimes[0]
    described = {"device": describe_device(device), "runtimes": [runtime.describe() for runtime in runtimes]}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    path = user_cache() / f"backends-{digest}.json"
    try:
        median_ms = read_json(path, SCHEMA, "Delete it.")["median_ms"]
    except (CineError, OSError):  # none yet, or damaged
        median_ms = race(runtimes)
        shown = ", ".join(f"{name} {ms:.2f}" for name, ms in sorted(median_ms.items(), key=lambda pair: pair[1]))
        logger.info("ms of a small network in each backend: %s", shown)
        try:
            write_json(path, {"format": FORMAT, **described, "median_ms": median_ms})
        except OSError as error:
            logger.warning("The choice cannot be kept, and is made anew each time (%s)", error)
    fastest = min(median_ms, key=median_ms.__getitem__)
    return next(runtime for runtime in runtimes if runtime.backend == fastest)


def _candidates(device: str, dtype: str) -> list[Runtime]:
    runtimes = []
    for name in BACKENDS:
        try:
            runtimes.append(Runtime(device, dtype, name))
        except CineError:
            if name == "eager":  # runs everywhere: the device or the dtype is at fault
                raise
    return runtimes


def probe() -> Architecture:
    """A network of four cells that holds every kind of work that larger ones do."""
    space = Space(layers=2, scales=2, nodes=2, deployment_size=(128, 112, 20))
    convolutions = ((0, "conv_3x3x3"), (1, "separable_conv_3x3x3"))
    others = ((0, "dilated_conv_3x3x3"), (0, "max_pool_3x3x3"))
    cells = {"contracting": convolutions, "non_scaling": others, "expanding": convolutions}
    return Architecture(space, cells, ((0, 1, 0), (0, 0, 0)))  # type: ignore[arg-type]


def race(runtimes: list[Runtime]) -> dict[str, float]:
    """Median ms of the probe network in each runtime, by backend; those that fail here are left out, and logged."""
    architecture = probe()
    network, image = CineNet(architecture), torch.randn(1, 1, *architecture.space.deployment_size)
    deployed: dict[str, Deployed] = {}
    times_ms: dict[str, list[float]] = {}
    for runtime in tqdm(runtimes, desc="backends", unit="backend"):
        try:
            deployed[runtime.backend] = runtime.deploy(network)
            deployed[runtime.backend](image)
        except Exception as error:  # whatever an optional package raises, the others still run
            logger.warning("Backend %s fails here (%s: %s)", runtime.backend, type(error).__name__, error)
            deployed.pop(runtime.backend, None)
    for _ in range(ROUNDS):
        for name, call in deployed.items():
            call(image)  # threads of another backend are still spinning
            for _ in range(RUNS):
                start = time.perf_counter()
                call(image).float().cpu()
                times_ms.setdefault(name, []).append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in times_ms.items()}


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "median_ms"],
    "properties": {
        "format": {"const": FORMAT},
        "median_ms": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"enum": list(BACKENDS)},
            "additionalProperties": {"type": "number", "exclusiveMinimum": 0},
        },
    },
}
