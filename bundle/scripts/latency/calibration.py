"""The entries of the latency table, fitted to whole networks.

Operations that are timed in isolation miss effects of a network: caches filled by another layer, layouts, sums. So
their timings are only the prior of a fit to measured networks. In this fit, each entry is its share of a network's
latency. The fit first scales the timings by kind of entry, since isolated timings of one kind have similar errors. Then
it corrects each entry. Networks that were not in the fit decide how strongly entries are corrected.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls
from scipy.stats import kendalltau

from scripts.latency.counts import Key, counts_of, operation_of
from scripts.latency.network import ENOUGH, Sample
from scripts.latency.table import Entry
from scripts.latency.timer import Timing
from scripts.latency.visits import Visitor
from scripts.space.registry import OPERATIONS

logger = logging.getLogger(__name__)
WEIGHTS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Candidate weights of the entries' relative corrections, compared with the networks' relative errors."""
KIND_WEIGHT = 0.05
FOLDS, MIN_KEPT = 10, 5
FLOOR = 0.01
"""The minimum of an entry, as a share of the mean entry; an entry of 0 could not be corrected."""


def calibrate(
    samples: Sequence[Sample], isolated: dict[Key, Timing], visitor: Visitor
) -> tuple[dict[Key, Entry], dict[str, Any]]:
    """Fit the entries to the measured networks.

    The fit is non-negative least squares of the networks' relative errors, with the entries' relative corrections as a
    penalty. In cross-validation, ten fits each leave out a tenth of the networks and predict it. The weight of the
    penalty with the best predictions is chosen, or one common factor for all entries if that predicts better.

    Args:
        samples: networks and their visits; networks without a visit in the device's fast state are not fitted.
        isolated: the timing of every entry in isolation.
        visitor: decides which visits were in the fast state.

    Returns:
        The entries, and the description of the calibration for the table..
    """
    keys = sorted(isolated)
    kept = [sample for sample in samples if any(map(visitor.is_fast, sample.visits))]
    slow_only = len(samples) - len(kept)
    if len(kept) < MIN_KEPT:
        logger.warning(
            "%d of %d networks were never timed in the fast state: all visits are used", slow_only, len(samples)
        )
        kept = list(samples)
    counts_NE = np.array([[counts_of(sample.architecture)[key] for key in keys] for sample in kept], dtype=float)
    measured_N = np.array([visitor.summarise(sample.visits).timing.median_ms for sample in kept])
    fit = _Fit(keys, np.array([isolated[key].median_ms for key in keys]))
    held_out = {weight: _held_out(fit, counts_NE, measured_N, weight) for weight in (*WEIGHTS, None)}
    errors = {weight: np.mean((p_N / measured_N - 1) ** 2) for weight, p_N in held_out.items()}
    weight = min(errors, key=errors.__getitem__)
    fitted_E = fit(counts_NE, measured_N, weight)
    entries = {key: Entry(float(ms), isolated[key]) for key, ms in zip(keys, fitted_E, strict=True)}
    return entries, {
        "networks": len(kept),
        "slow_only": slow_only,
        "prior_weight": weight,
        **visitor.states(),
        "held_out": agreement(held_out[weight], measured_N),
        "isolated": agreement(counts_NE @ fit.isolated_E, measured_N),
        "measured_twice": agreement(*measured_twice(kept, visitor)),
    }


class _Fit:
    """Entries in ms from networks: E entries, K kinds of entries, N networks."""

    def __init__(self, keys: Sequence[Key], isolated_E: np.ndarray):
        self.isolated_E = np.maximum(isolated_E, FLOOR * isolated_E.mean())
        kinds = [_kind(name) for name, _ in keys]
        self.kinds_KE = np.array([[kind == one for kind in kinds] for one in sorted(set(kinds))], dtype=float)

    def __call__(self, counts_NE: np.ndarray, measured_N: np.ndarray, weight: float | None) -> np.ndarray:
        """The entries with this weight of the prior; None: one common factor for all."""
        if weight is None:
            return self.isolated_E * np.median(measured_N / (counts_NE @ self.isolated_E))
        shares_NE = counts_NE * self.isolated_E / measured_N[:, None]
        factors_K = _solve(shares_NE @ self.kinds_KE.T, KIND_WEIGHT * np.ones(len(self.kinds_KE)))
        factors_E = np.maximum(factors_K, 0.1) @ self.kinds_KE
        prior_E = self.isolated_E * factors_E
        # entries near 0 (identity) must be free to change
        weights_E = weight * prior_E / np.maximum(prior_E, 0.1 * prior_E.mean())
        return prior_E * _solve(shares_NE * factors_E, weights_E)


def _kind(name: str) -> str:
    """The kind of an entry: isolated timings of one kind have similar errors."""
    operation = operation_of(name)
    if operation in OPERATIONS:
        return name.removeprefix(operation) or "operation"
    return "end" if name in ("stem", "head") else name.split("_")[0]


def _solve(shares: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Non-negative factors with row sums of shares * factors near 1; the weights keep the factors near 1."""
    rows = np.vstack([shares, np.diag(weights)])
    return nnls(rows, np.concatenate([np.ones(len(shares)), weights]))[0]


def _held_out(fit: _Fit, counts_NE: np.ndarray, measured_N: np.ndarray, weight: float | None) -> np.ndarray:
    """The prediction of each network by the fit that left out its tenth."""
    predicted_N = np.empty(len(measured_N))
    for fold in range(FOLDS):
        left = np.arange(len(measured_N)) % FOLDS == fold
        predicted_N[left] = counts_NE[left] @ fit(counts_NE[~left], measured_N[~left], weight)
    return predicted_N


def measured_twice(samples: Sequence[Sample], visitor: Visitor) -> tuple[np.ndarray, np.ndarray]:
    """Two estimates for each network with enough fast visits: from the earlier and from the later half of them."""
    halves = []
    for sample in samples:
        fast = [visit for visit in sample.visits if visitor.is_fast(visit)]
        if len(fast) >= 2 * ENOUGH:
            middle = len(fast) // 2
            halves.append([visitor.summarise(part).timing.median_ms for part in (fast[:middle], fast[middle:])])
    first, second = np.array(halves).reshape(-1, 2).T
    return first, second


def agreement(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """How well predictions agree with measurements, for at least two networks; empty for fewer.

    Returns:
        bias and spread of the relative error; within_2, within_5 and within_10, the shares of networks with an error
        within that many percent; kendall_tau.
    """
    if len(measured) < 2:
        return {}
    error = predicted / measured - 1
    return {
        "bias": float(error.mean()),
        "spread": float(error.std()),
        **{f"within_{percent}": float(np.mean(np.abs(error) <= percent / 100)) for percent in (2, 5, 10)},
        "kendall_tau": float(kendalltau(predicted, measured).statistic),
    }
