"""What a stream reports: a record of every volume, a summary, and the content of the JSON file."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.latency.visits import QUANTILE, SLOW
from scripts.live.segmenter import Status
from scripts.live.volume_queue import Arrival, VolumeQueue
from scripts.runtime.deploy import Runtime

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-stream-1"
LATE_SHARE = 0.05
"""A larger share of late and dropped volumes is worth a warning."""


@dataclass(frozen=True)
class Record:
    """One volume of a stream: its number, arrival and mask (s after the first arrival), and its status."""

    number: int
    arrived_s: float
    done_s: float
    status: Status

    @property
    def latency_ms(self) -> float:
        """Time from arrival to mask."""
        return 1000 * (self.done_s - self.arrived_s)


def consume(inbox: VolumeQueue, work: Callable[[Arrival], Status | None]) -> Iterator[Record]:
    """Hand the volumes of an inbox to ``work`` until it closes.

    Args:
        inbox: its volumes.
        work: makes the mask of a volume and brings it where it is wanted. It returns None for a volume without a mask.

    Yields:
        The record of every volume with a mask.
    """
    first = None
    while (arrival := inbox.get()) is not None:
        arrived = time.perf_counter() if arrival.at is None else arrival.at
        status = work(arrival)
        if status is not None:
            first = arrived if first is None else first
            yield Record(arrival.number, arrived - first, time.perf_counter() - first, status)


def summarise(records: Sequence[Record], dropped: int, deadline_ms: float) -> dict[str, Any]:
    """The figures of a stream; the first volume, over the whole field, is reported separately."""
    first, rest = records[0], records[1:]
    latencies = [record.latency_ms for record in rest] or [first.latency_ms]
    network_ms = [record.status.network_ms for record in rest or [first]]
    in_window = [record.status for record in rest if not record.status.whole_field]
    fitted = sum(status.fitted_window for status in in_window)
    usual = fitted > len(in_window) / 2  # the two windows take different times: compare within one
    window_ms = np.array([one.network_ms for one in in_window if one.fitted_window == usual] or network_ms)
    duration = records[-1].done_s - first.done_s
    return {
        "volumes": len(records) + dropped,
        "segmented": len(records),
        "dropped": dropped,
        "deadline_ms": deadline_ms,
        "missed": sum(record.latency_ms > deadline_ms for record in rest),
        "per_second": len(rest) / duration if rest else None,
        "first_ms": first.latency_ms,
        **_percentiles("", latencies),
        **_percentiles("segmenter_", [record.status.milliseconds for record in rest or [first]]),
        **_percentiles("network_", network_ms),
        "network_slow_share": float(np.mean(window_ms > SLOW * np.quantile(window_ms, QUANTILE))),
        "whole_field": sum(record.status.whole_field for record in rest),
        "fitted_window": fitted,
        "flags": dict(Counter(flag for record in records for flag in record.status.flags)),
    }


def _percentiles(prefix: str, ms: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(ms, (50, 95, 99))
    names = ("p50_ms", "p95_ms", "p99_ms", "max_ms", "mean_ms")
    values = (p50, p95, p99, max(ms), np.mean(ms))
    return {prefix + name: float(value) for name, value in zip(names, values, strict=True)}


def content_of(
    name: str,
    summary: dict[str, Any],
    records: Sequence[Record],
    rate: float | None,
    late: str,
    runtime: Runtime,
    phantom: bool = False,
    frames_without_mask: Sequence[int] = (),
) -> dict[str, Any]:
    """The content of ``NAME_stream.json``.

    Args:
        name: of the file or the protocol that the volumes came from.
        summary: of ``summarise``, with ``doubts``.
        records: of every volume with a mask.
        rate: volumes a second that arrived; None: as fast as they were taken.
        late: what happened to late volumes, see ``VolumeQueue``.
        runtime: how the network ran.
        phantom: whether the volumes are of the phantom.
        frames_without_mask: the frames of a file that have none, from 1.
    """
    return {
        "format": FORMAT,
        "input": name,
        "phantom": phantom,
        "rate": rate,
        "late": late,
        "runtime": runtime.describe(),
        "summary": summary,
        "frames_without_mask": list(frames_without_mask),
        "records": [as_json(record) for record in records],
    }


def as_json(record: Record) -> dict[str, Any]:
    """A record as in ``NAME_stream.json``."""
    return {**asdict(record), "latency_ms": record.latency_ms}


def log_summary(summary: dict[str, Any], folder: Path) -> None:
    """Log the figures of a stream, and the folder of its results."""
    per_second = summary["per_second"]
    logger.info(
        "%d of %d volumes segmented, %d dropped, %d later than %g ms (first volume separately: %.1f ms)\n"
        "arrival to mask p50 %.1f, p95 %.1f, p99 %.1f, max %.1f ms; network p50 %.1f, p95 %.1f ms; %s a second\n"
        "the device was in a slower state during %.0f %% of the volumes, as the network's ms show\n"
        "flags: %s; results in %s",
        *(summary[name] for name in ("segmented", "volumes", "dropped", "missed", "deadline_ms", "first_ms")),
        *(summary[name] for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms", "network_p50_ms", "network_p95_ms")),
        "-" if per_second is None else f"{per_second:.1f}",
        100 * summary["network_slow_share"],
        *(summary["flags"] or "none", folder),
    )
    if summary["missed"] + summary["dropped"] > LATE_SHARE * summary["volumes"]:
        logger.warning(
            "%d of %d volumes were late or dropped; expected at most %.0f %%. The network takes %.0f of the %g ms. "
            "Stop other programs on this device, use --precision int8, or search with a smaller budget_ms.",
            summary["missed"] + summary["dropped"],
            summary["volumes"],
            100 * LATE_SHARE,
            summary["network_p95_ms"],
            summary["deadline_ms"],
        )
