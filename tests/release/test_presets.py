import json

import pytest
from monai.bundle import ConfigParser

from release.presets import CONFIGS, PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_its_parts_make(name):
    written = json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))
    assert written == preset(name), "run make presets"
    assert ConfigParser.load_config_files(str(CONFIGS / f"{name}.json")) == written
