"""The entries of the latency table, fitted to whole networks.

Operations timed apart leave out what a network adds: caches that another layer has filled, layouts, sums. So their
timings are the prior of a fit to measured networks, in which every entry is what it adds to a network's latency.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import median_filter
from scipy.optimize import nnls
from scipy.stats import kendalltau

from scripts.latency.network import DISTURBED, Sample
from scripts.latency.table import Entry, Key, counts_of
from scripts.latency.timer import Timing

logger = logging.getLogger(__name__)
PRIOR = 0.1  # weight of an entry's relative error against its isolated timing, beside a network's
FOLDS = 10
RUNNING = 15


def calibrate(samples: Sequence[Sample], isolated: dict[Key, Timing]) -> tuple[dict[Key, Entry], dict[str, Any]]:
    """Fit the entries to the measured networks.

    Non-negative least squares of the relative errors of the networks, with the relative errors of the entries
    against their isolated timings as prior. Every network also counts as kept out, in a fit without its tenth.

    Returns:
        entries, and the calibration's description for the table.
    """
    keys = sorted(isolated)
    counts = np.array([[counts_of(sample.architecture)[key] for key in keys] for sample in samples], dtype=float)
    measured, twice = divide_drift_out(samples)
    whole = ~np.isnan(measured)
    if whole.sum() < FOLDS:
        logger.warning(
            "%d of %d networks were disturbed: all count. Profile again in quiet",
            *(~whole).nonzero()[0].shape,
            len(whole),
        )
        measured, whole = twice.min(axis=0), np.ones_like(whole)
    counts, measured, twice = counts[whole], measured[whole], twice[:, whole]
    prior = np.array([isolated[key].median_ms for key in keys])
    held_out = np.empty(len(measured))
    for fold in range(FOLDS):
        left = np.arange(len(measured)) % FOLDS == fold
        held_out[left] = counts[left] @ _fit(counts[~left], measured[~left], prior)
    fitted = _fit(counts, measured, prior)
    entries = {key: Entry(float(ms), isolated[key]) for key, ms in zip(keys, fitted, strict=True)}
    return entries, {
        "networks": len(measured),
        "disturbed_networks": len(samples) - len(measured),
        "reference_ms": float(np.median([visit.reference_ms for sample in samples for visit in sample.visits])),
        "held_out": agreement(held_out, measured),
        "operations_timed_apart": agreement(counts @ prior, measured),
        "measured_twice": agreement(*twice[:2]),
    }


def divide_drift_out(samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """What each network takes at the device's usual speed.

    Slow drift shows in the reference kernel's running median and is divided out. A visit is disturbed where the
    kernel took over 10 % longer than that; of a network's others the faster counts, since other programs only add.

    Returns:
        ms of every network, NaN where every visit was disturbed; and of all visits, visits x networks.
    """
    visits = sorted((visit for sample in samples for visit in sample.visits), key=lambda visit: visit.number)
    references = np.array([visit.reference_ms for visit in visits])
    running = median_filter(references, size=RUNNING, mode="nearest")
    corrected = np.array([visit.ms for visit in visits]) * np.median(references) / running
    disturbed = references > DISTURBED * running
    order = [visit.number for visit in visits]
    numbers = np.searchsorted(order, [[visit.number for visit in sample.visits] for sample in samples]).T
    every = corrected[numbers]
    undisturbed = np.where(disturbed[numbers], np.inf, every).min(axis=0)
    return np.where(np.isinf(undisturbed), np.nan, undisturbed), every


def _fit(counts: np.ndarray, measured: np.ndarray, prior: np.ndarray) -> np.ndarray:
    # entries of nearly nothing (identity) shall not be held to nearly nothing
    scale = PRIOR / np.maximum(prior, 0.1 * prior.mean())
    rows = np.vstack([counts / measured[:, None], np.diag(scale)])
    return nnls(rows, np.concatenate([np.ones(len(measured)), scale * prior]))[0]


def agreement(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """Bias and spread of the relative error, the shares within 10 and 15 %, and Kendall's tau."""
    error = predicted / measured - 1
    return {
        "bias": float(error.mean()),
        "spread": float(error.std()),
        "within_10": float(np.mean(np.abs(error) <= 0.10)),
        "within_15": float(np.mean(np.abs(error) <= 0.15)),
        "kendall_tau": float(kendalltau(predicted, measured).statistic),
    }
