"""An architecture file of some hundred bytes whose network would need all memory to build or to run."""

from __future__ import annotations

import pytest

from scripts.core.errors import CineError

HUGE = 10**9
FIELDS = {
    "layers": {"layers": HUGE},
    "scales": {"scales": HUGE},
    "nodes": {"nodes": HUGE},
    "channels": {"channels": HUGE},
    "channels that are allowed, at scales that are allowed": {"channels": 512},
    "a size": {"deployment_size": [HUGE, HUGE, HUGE]},
    "a size whose sides are allowed": {"deployment_size": [2048, 2048, 2048]},
    "many paths": {"paths": [[0, 1, 2, 1, 0]] * 100_000},
    "a long path": {"paths": [[0] * 100_000]},
    "many nodes": {"cells": {"contracting": [[0, "identity"]] * 100_000}},
    "many operations": {"operations": [{str(n): n} for n in range(100_000)]},  # comparing all pairs would take hours
    "many keys": {str(n): n for n in range(100_000)},
    "a negative size": {"channels": -1},
    "no whole number": {"layers": 4.0},
    "a latency that is text": {"provenance": {"predicted_ms": "<b>"}},
    "a measurement without numbers": {"provenance": {"measured_ms": {}}},
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field(edit, model_dir, opens, name):
    fields = FIELDS[name]
    if "channels that" in name:
        fields = {**fields, "layers": 14, "scales": 8, "paths": [[*range(8), *range(6, -1, -1)]]}
    edit(**fields)
    with pytest.raises(CineError, match=r"architecture.json"):
        opens(model_dir)
