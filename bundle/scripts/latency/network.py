"""Whole networks, timed on the device in the runtime that deploys."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from scripts.latency.timer import Timing, time_call
from scripts.runtime.deploy import Runtime, describe_device
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet


def measure_network(architecture: Architecture, runtime: Runtime, seconds: float = 1.0) -> Timing:
    """Time the network of an architecture at its deployment size, batch 1: LT, and TP = 1000 / mean."""
    network = runtime.deploy(CineNet(architecture))
    image_BCHWD = torch.randn(1, 1, *architecture.space.deployment_size)
    return time_call(lambda: network(image_BCHWD), seconds)


def latency_report(architecture_file: str, runtime: Runtime, seconds: float = 3.0) -> dict[str, Any]:
    """Latency and throughput of the network alone, measured now, beside what the search predicted and allowed."""
    architecture = Architecture.load(architecture_file)
    timing = measure_network(architecture, runtime, seconds)
    return {
        "latency": {
            **asdict(timing),
            "volumes_per_second": 1000 / timing.mean_ms,
            "predicted_ms": architecture.provenance.get("predicted_ms"),
            "budget_ms": architecture.provenance.get("budget_ms"),
            "volumes_per_second_required": architecture.provenance.get("volumes_per_second_required"),
            "deployment_size": list(architecture.space.deployment_size),
            "device": describe_device(runtime.device),
            "runtime": runtime.describe(),
        }
    }
