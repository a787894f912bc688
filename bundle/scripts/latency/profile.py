"""The step profile: time operations, then networks, within a given time, and write the table."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from random import Random

from scripts.core.distributed import on_main
from scripts.core.errors import CineError
from scripts.latency.calibration import calibrate
from scripts.latency.isolated import time_operations
from scripts.latency.network import reference_network, sample_networks
from scripts.latency.table import LatencyTable, relevant
from scripts.latency.visits import Visitor
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.space.space import Space

logger = logging.getLogger(__name__)
SHARE = 0.2  # the share of the time for the operations


def measure(space: Space, runtime: Runtime, seconds: float = 240.0, seed: int = 0) -> LatencyTable:
    """Time the operations, then networks of the space in the remaining time, and fit the table.

    Args:
        space: the search space.
        runtime: the deployment runtime.
        seconds: the total time.
        seed: the seed of the sampled networks.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
        raise CineError("profile_seconds", repr(seconds), "a number of seconds", "Change the key: 240 is the default.")
    end = time.perf_counter() + seconds
    visitor = Visitor(reference_network(space, runtime), runtime.device)
    isolated = time_operations(space, runtime, SHARE * seconds, visitor)
    left = max(0.0, end - time.perf_counter())
    samples = sample_networks(space, runtime, left, Random(seed), visitor, twice=True)
    entries, calibration = calibrate(samples, isolated, visitor)
    return LatencyTable(entries, relevant(space), describe_device(runtime.device), runtime.describe(), calibration)


@on_main
def load_or_measure(
    path: str | Path, space: Space, runtime: Runtime, seconds: float = 240.0, target: str = "here"
) -> LatencyTable:
    """The table at ``path`` if there is one, which must fit; otherwise a new measurement, which is saved there."""
    if target == "foreign" or Path(path).exists():
        return LatencyTable.load(path, space, runtime, target)
    return profile(path, space, runtime, seconds)


def profile(path: str | Path, space: Space, runtime: Runtime, seconds: float = 240.0) -> LatencyTable:
    """Measure and save the table, and log it with its error."""
    table = measure(space, runtime, seconds)
    table.save(path)
    logger.info("Latency of %s on %s, saved as %s\n%s", table.runtime, table.device, path, describe(table))
    return table


def describe(table: LatencyTable) -> str:
    """The entries by latency, the table's error on held-out networks, and the states of the device."""
    lines = [f"{'operation':24}{'scale':>6}{'ms':>9}{'isolated':>10}{'p95':>9}{'spread':>9}{'runs':>6}"]
    lines += [
        f"{name:24}{scale:6}{entry.ms:9.3f}{entry.isolated.median_ms:10.3f}{entry.isolated.p95_ms:9.3f}"
        f"{entry.isolated.iqr_ms:9.3f}{entry.isolated.runs:6}"
        for name, scale, entry in table.rows()
    ]
    known = table.calibration
    titles = {
        "held_out": "the table, for held-out networks",
        "isolated": "isolated operations",
        "measured_twice": "the first batch, measured twice",
    }
    columns = {"bias": "bias", "spread": "spread", "within_2": "in 2 %", "within_5": "in 5 %", "within_10": "in 10 %"}
    lines.append(
        f"{known['networks']} networks".ljust(32) + "".join(f"{t:>9}" for t in columns.values()) + f"{'tau':>7}"
    )
    for name, title in titles.items():
        row = known[name]
        shares = "".join(f"{row[column]:9.1%}" for column in columns) if row else "   too few visits"
        lines.append(f"{title:32}{shares}" + (f"{row['kendall_tau']:7.3f}" if row else ""))
    lines.append(
        f"fast state: {known['fast_share']:.0%} of the visits; in slower states the reference network takes "
        f"{known['slowdown']:.2f} times as long; {known['slow_only']} networks were never timed in the fast state"
    )
    return "\n".join(lines)
