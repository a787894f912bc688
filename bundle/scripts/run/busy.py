"""A warning where other programs use the same cores, because OpenMP threads of two programs block each other."""

from __future__ import annotations

import logging
import os

import psutil

logger = logging.getLogger(__name__)
POLICY = "OMP_WAIT_POLICY"
BUSY_CORES = 0.5
"""Other programs that keep at least this many cores busy are worth a warning."""
INTERVAL_S = 0.2


def warn_if_busy() -> None:
    """Log a warning if other programs use this process's cores, and its OpenMP threads would spin while they wait.

    Only the environment of the process decides how they wait, before torch is loaded. So this can only be a warning.
    Call it while this process is idle otherwise.
    """
    if os.environ.get(POLICY, "").upper() == "PASSIVE":
        return
    process = psutil.Process()
    cores = process.cpu_affinity() if hasattr(process, "cpu_affinity") else range(os.cpu_count() or 1)
    of_all = psutil.cpu_percent(INTERVAL_S, percpu=True)
    busy = sum(of_all[core] for core in cores if core < len(of_all)) / 100
    if busy >= BUSY_CORES:
        logger.warning(
            "Other programs keep %.1f of the %d cores busy. Threads of two programs can block each other: steps may "
            "take many times as long. Stop them, or set %s=PASSIVE before the command: export %s=PASSIVE",
            busy,
            len(cores),
            POLICY,
            POLICY,
        )
