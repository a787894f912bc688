"""The fastest backend and precision of a device: measured once with a small network, and kept in the user's cache."""

from __future__ import annotations

import logging
import statistics
import time

import torch
from tqdm import tqdm

from scripts.core.distributed import on_main
from scripts.core.errors import CineError
from scripts.runtime.backends import BACKENDS
from scripts.runtime.deploy import Deployed, Runtime
from scripts.runtime.device import check_device, describe_device, has_native_bfloat16
from scripts.runtime.measurement_cache import measured_once
from scripts.space.architecture import Architecture
from scripts.space.deployable import Deployable
from scripts.space.network import CineNet
from scripts.space.space import Space

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-backends-2"
ROUNDS, RUNS = 3, 5


@on_main
def choose_runtime(device: str = "cpu", dtype: str = "auto", backend: str = "auto") -> Runtime:
    """Choose how networks run on this machine.

    Args:
        device: torch device.
        dtype: a name from ``DTYPES``, or "auto". "auto" never chooses integers, since they change results.
        backend: a name from ``BACKENDS``, or "auto". For "auto", the fastest one is measured at the first call. It is
            kept in the user's cache until the device, torch or a backend changes.
    """
    device = check_device(device)
    runtimes = _candidates(device, dtype, backend)
    if dtype == "int8" and backend == "auto" and {runtime.backend for runtime in runtimes.values()} == {"eager"}:
        logger.warning("8-bit integers are emulated with floats here, which is slow: install the package openvino")
    if len(runtimes) == 1:
        return next(iter(runtimes.values()))
    described = {"device": describe_device(device), "runtimes": [runtime.describe() for runtime in runtimes.values()]}
    median_ms = measured_once("backends", FORMAT, described, runtimes, lambda: race(runtimes))
    return runtimes[min(median_ms, key=median_ms.__getitem__)]


def accepted_precision(network: Deployable) -> str:
    """The precision in which a network was accepted, if that is "int8"; else "auto"."""
    return "int8" if (network.provenance.runtime or {}).get("dtype") == "int8" else "auto"


def _candidates(device: str, dtype: str, backend: str) -> dict[str, Runtime]:
    """The runtimes that may run here, by backend and precision."""
    # bfloat16 may be available but slower than float32, so both are timed
    dtypes = [dtype] if dtype != "auto" else ["float32", "bfloat16"] if has_native_bfloat16(device) else ["float32"]
    runtimes = {}
    errors = []
    for name in BACKENDS if backend == "auto" else [backend]:
        for precision in dtypes:
            try:
                runtimes[f"{name} {precision}"] = Runtime(device, precision, name)
            except CineError as error:
                errors.append(error)
    if not runtimes:
        raise errors[0]
    return runtimes


def probe() -> Architecture:
    """A network of four cells with all kinds of work that larger networks have."""
    space = Space(layers=2, scales=2, nodes=2, deployment_size=(128, 112, 20))
    convolutions = ((0, "conv_3x3x3"), (1, "separable_conv_3x3x3"))
    others = ((0, "dilated_conv_3x3x3"), (0, "max_pool_3x3x3"))
    cells = {"contracting": convolutions, "non_scaling": others, "expanding": convolutions}
    return Architecture(space, cells, ((0, 1, 0), (0, 0, 0)))  # type: ignore[arg-type]


def race(runtimes: dict[str, Runtime]) -> dict[str, float]:
    """ms of the probe network in each runtime, by name.

    It is the minimum of the rounds' medians, since slower states of a machine last for seconds. Runtimes that fail here
    are logged and left out.
    """
    architecture = probe()
    network, image = CineNet(architecture), torch.randn(1, 1, *architecture.space.deployment_size)
    deployed: dict[str, Deployed] = {}
    medians_ms: dict[str, list[float]] = {}
    for name, runtime in tqdm(runtimes.items(), desc="backends", unit="backend"):
        try:
            deployed[name] = runtime.deploy(network)
            deployed[name](image)
        except Exception as error:  # an optional package may raise any error; the others can still run
            logger.warning("Backend %s fails here (%s: %s)", name, type(error).__name__, error)
            deployed.pop(name, None)
    for _ in range(ROUNDS):
        for name, call in deployed.items():
            call(image)  # threads of another backend may still be spinning
            times_ms = []
            for _ in range(RUNS):
                start = time.perf_counter()
                call(image).float().cpu()
                times_ms.append(1000 * (time.perf_counter() - start))
            medians_ms.setdefault(name, []).append(statistics.median(times_ms))
    return {name: min(medians) for name, medians in medians_ms.items()}
