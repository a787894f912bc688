"""The step profile: operations, then networks, then the table, within a given time."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from random import Random

from scripts.distributed import on_main
from scripts.files import CineError
from scripts.latency.calibration import calibrate
from scripts.latency.isolated import time_operations
from scripts.latency.network import sample_networks
from scripts.latency.table import LatencyTable, relevant
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.space.space import Space

logger = logging.getLogger(__name__)
SHARE = 0.2  # of the time, for the operations


def measure(space: Space, runtime: Runtime, seconds: float = 240.0, seed: int = 0) -> LatencyTable:
    """Time the operations, then networks of the space for as long as is left, and fit.

    Args:
        space: the search space.
        runtime: the runtime that deploys.
        seconds: for all of it.
        seed: of the sampled networks.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
        raise CineError("profile_seconds", repr(seconds), "a number of seconds", "Change the key: 240 is the default.")
    end = time.perf_counter() + seconds
    isolated = time_operations(space, runtime, SHARE * seconds)
    samples = sample_networks(space, runtime, max(0.0, end - time.perf_counter()), Random(seed))
    entries, calibration = calibrate(samples, isolated)
    return LatencyTable(entries, relevant(space), describe_device(runtime.device), runtime.describe(), calibration)


@on_main
def load_or_measure(
    path: str | Path, space: Space, runtime: Runtime, seconds: float = 240.0, target: str = "here"
) -> LatencyTable:
    """The table at ``path`` where there is one, which must fit, else a new measurement, saved there."""
    if target == "foreign" or Path(path).exists():
        return LatencyTable.load(path, space, runtime, target)
    return profile(path, space, runtime, seconds)


def profile(path: str | Path, space: Space, runtime: Runtime, seconds: float = 240.0) -> LatencyTable:
    """Measure anew, save, and log the table sorted by cost with its error on networks kept out of the fit."""
    table = measure(space, runtime, seconds)
    table.save(path)
    lines = [f"{'operation':24}{'scale':>6}{'ms':>9}{'apart: median':>15}{'p95':>9}{'spread':>9}{'runs':>6}"]
    lines += [
        f"{name:24}{scale:6}{entry.ms:9.3f}{entry.isolated.median_ms:15.3f}{entry.isolated.p95_ms:9.3f}"
        f"{entry.isolated.iqr_ms:9.3f}{entry.isolated.runs:6}"
        for name, scale, entry in table.rows()
    ]
    lines.append(
        f"{table.calibration['networks']} networks{'bias':>16}{'spread':>9}{'in 10 %':>9}{'in 15 %':>9}{'tau':>7}"
    )
    for title, key in (
        ("kept out of the fit", "held_out"),
        ("operations apart", "operations_timed_apart"),
        ("measured twice", "measured_twice"),
    ):
        row = table.calibration[key]
        lines.append(
            f"{title:22}{row['bias']:+10.1%}{row['spread']:9.1%}{row['within_10']:9.0%}{row['within_15']:9.0%}"
            f"{row['kendall_tau']:7.2f}"
        )
    logger.info("Latency of %s on %s, saved as %s\n%s", table.runtime, table.device, path, "\n".join(lines))
    return table
