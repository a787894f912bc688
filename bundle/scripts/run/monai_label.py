"""Who runs our configs: a command of its own, or MONAI Label, in its server and in the processes that it starts.

MONAI Label loads weights from the bundle's ``models`` alone, trains again and again from what it serves, and names no
folder to work in.
"""

from __future__ import annotations

import sys
from typing import Any


def in_monai_label() -> bool:
    """Whether this process is MONAI Label's; its exceptions, signals and turns are no business of a step then."""
    return "monailabel" in sys.modules


def by_host(alone: Any, monai_label: Any) -> Any:
    """One value for a command of its own, another for MONAI Label."""
    return monai_label if in_monai_label() else alone
