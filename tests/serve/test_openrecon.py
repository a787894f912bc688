"""The files for OpenRecon, which no scanner has tried: they parse, agree with the project, and start our command."""

from __future__ import annotations

import json
import re

from documents import ROOT
from monai.bundle import ConfigParser

from scripts.run.start import check_keys

FOLDER = ROOT / "docs" / "openrecon"


def test_the_label_names_this_version_and_the_port_of_the_server():
    label = json.loads((FOLDER / "OpenReconLabel.json").read_text(encoding="utf-8"))
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert label["general"]["version"] == label["general"]["regulatory_information"]["production_identifier"] == version
    assert label["reconstruction"]["port"] == 9002
    assert label["reconstruction"]["transfer_protocol"]["protocol"] == "ISMRMRD"
    assert label["general"]["information"]["en"].startswith("NOT TRIED")


def test_the_container_starts_the_server():
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert text.startswith("# NOT TRIED")
    words = json.loads(re.search(r"^CMD (\[.*\])", text.replace("\\\n", ""), re.MULTILINE)[1])
    assert words[:5] == ["python", "-m", "monai.bundle", "run", "serve"]
    keys = dict(zip((word.lstrip("-") for word in words[5::2]), words[6::2], strict=True))
    config = str(ROOT / keys.pop("config_file"))
    check_keys([config], keys)
    assert (keys["protocol"], keys["host"]) == ("mrd", "0.0.0.0")
    assert "serve" in ConfigParser.load_config_file(config)
    for name in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / part).exists() for part in name.split())
