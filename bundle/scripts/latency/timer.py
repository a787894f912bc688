"""One way to time a callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import Timer


@dataclass(frozen=True)
class Timing:
    """Milliseconds a call: median, mean, 95th percentile, interquartile range, and the number of timed blocks."""

    median_ms: float
    mean_ms: float
    p95_ms: float
    iqr_ms: float
    runs: int


def time_call(call: Callable[[], Any], min_seconds: float = 0.2, warm_up: int = 3) -> Timing:
    """Time a callable with torch.utils.benchmark, which synchronises CUDA devices around each block.

    Args:
        call: what to time.
        min_seconds: repeat for at least this long.
        warm_up: calls before the first timed one (memory planning, kernel selection).
    """
    with torch.inference_mode():
        for _ in range(warm_up):
            call()
        timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
        measurement = timer.blocked_autorange(min_run_time=min_seconds)
    times_ms = 1000 * np.asarray(measurement.times)
    low, median, high, p95 = np.percentile(times_ms, (25, 50, 75, 95))
    return Timing(float(median), float(times_ms.mean()), float(p95), float(high - low), len(times_ms))
