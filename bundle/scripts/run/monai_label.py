"""Who runs the configs: a command, or MONAI Label, in its server or in the processes that it starts.

MONAI Label differs in three ways: it loads weights only from the bundle's ``models``, it trains repeatedly from the
weights that it serves, and it sets no work_dir.
"""

from __future__ import annotations

import sys
from typing import Any


def in_monai_label() -> bool:
    """Whether this process belongs to MONAI Label; a step then leaves exceptions, signals and locks to it."""
    return "monailabel" in sys.modules


def by_host(command: Any, monai_label: Any) -> Any:
    """The first value where a command runs the config, the second where MONAI Label does."""
    return monai_label if in_monai_label() else command
