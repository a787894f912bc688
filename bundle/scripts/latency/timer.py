"""Time callables: in turn, so that a disturbance of the machine affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call: median, mean, 95th percentile, interquartile range, and the number of timed calls."""

    median_ms: float
    mean_ms: float
    p95_ms: float
    iqr_ms: float
    runs: int

    @classmethod
    def of(cls, times_ms: Sequence[float] | np.ndarray) -> Timing:
        times_ms = np.asarray(times_ms, dtype=np.float64)
        low, median, high, p95 = np.percentile(times_ms, (25, 50, 75, 95))
        return cls(float(median), float(times_ms.mean()), float(p95), float(high - low), len(times_ms))


def time_in_turn(
    calls: Sequence[Callable[[], Any]], device: str = "cpu", seconds: float = 0.2, warm_up: int = 3, min_rounds: int = 5
) -> np.ndarray:
    """Time callables in turn; each round calls each of them once.

    Args:
        calls: the callables.
        device: "cpu", or a CUDA device, whose events then measure the time.
        seconds: the minimum time for all rounds.
        warm_up: the number of rounds before the first timed one (memory planning, kernel selection).
        min_rounds: the minimum number of rounds.
    Returns:
        ms of every call, rounds x calls.
    """
    on_cuda = device.startswith("cuda")
    time_once = _time_cuda if on_cuda else _time_cpu
    rounds: list[list[float]] = []
    with torch.inference_mode(), torch.cuda.device(device) if on_cuda else nullcontext():
        for _ in range(warm_up):
            for call in calls:
                call()
        end = time.perf_counter() + seconds
        while len(rounds) < min_rounds or time.perf_counter() < end:
            rounds.append([time_once(call) for call in calls])
    return np.asarray(rounds)


def _time_cpu(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def _time_cuda(call: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
