from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.compare.plan import Plan

SETTINGS = {"seed": 0, "fold": 0, "budget_ms": 50.0, "volumes_per_second": 22.0, "device": "cpu"}
NETWORKS = [
    {"name": "genetic", "system": "RT", "search": "rt", "derive": {"paths": 3, "method": "genetic"}},
    {"name": "auto", "system": "RT", "search": "rt", "derive": {"method": "genetic"}},
    {"name": "plain", "system": "RT", "search": "rt"},
    {"name": "chance", "system": "random", "search": "rt", "random": 7},
]


@pytest.fixture
def make_plan(tmp_path: Path) -> Callable[..., Plan]:
    def make(networks: Any = NETWORKS, searches: Any = ({"name": "rt"},), **options: Any) -> Plan:
        settings = {**SETTINGS, **options.pop("settings", {})}
        return Plan(str(tmp_path / "w"), searches, networks, settings, **options)

    return make
