"""Write one configuration file for each search, combined from its parts.

``make presets`` writes them; a test compares them with their parts. So a user names only one file, without rules about
the order.
"""

from __future__ import annotations

import json
from typing import Any

from monai.bundle import ConfigParser

from scripts import BUNDLE_ROOT

CONFIGS = BUNDLE_ROOT / "configs"
PRESETS = {
    "search_hw_nas": ("search", "hw_nas"),
    "search_ms_nas": ("search", "ms_nas"),
    "search_hypersegnas": ("search", "hypersegnas"),
    "demo_hw_nas": ("search", "hw_nas", "demo", "hw_nas_demo"),
    "demo_ms_nas": ("search", "ms_nas", "demo", "ms_nas_demo"),
    "demo_hypersegnas": ("search", "hypersegnas", "demo", "hypersegnas_demo"),
}
"""Preset -> its parts; a later file overrides an earlier one."""


def preset(name: str) -> dict[str, Any]:
    """The configuration that MONAI loads from the parts of a preset."""
    return ConfigParser.load_config_files([str(CONFIGS / f"{part}.json") for part in PRESETS[name]])


def main() -> None:
    for name in PRESETS:
        (CONFIGS / f"{name}.json").write_text(json.dumps(preset(name), indent=4) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
