"""docs/configuration.md names every key that a user sets, with the default that its file has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT

from release.presets import PRESETS
from scripts import BUNDLE_ROOT
from scripts.run.config_schema import SCHEMA

CONFIGS = BUNDLE_ROOT / "configs"
STEPS = [
    "profile",
    "search",
    "derive",
    "verify",
    "train",
    "evaluate",
    "inference",
    "stream",
    "serve",
    "compare",
    "export",
]
DOCUMENT = ROOT / "docs" / "configuration.md"
SHARED, OVERLAYS = "Keys of several steps", "Keys of overlays"


def settings(path: Path) -> dict[str, Any]:
    """What stands before the first blank line of a configuration, sections key by key."""
    head = path.read_text(encoding="utf-8").split("\n\n")[0].rstrip().rstrip(",")
    return {name: value for key, content in json.loads(head + "}").items() for name, value in plain(key, content)}


def plain(key: str, content: Any) -> list[tuple[str, Any]]:
    """A setting as the document states it: the space by its arguments, a component without arguments by its name."""
    if not (isinstance(content, dict) and "_target_" in content):
        return [(key, content)]
    name = content["_target_"].rsplit(".", 1)[-1]
    arguments = {argument: value for argument, value in content.items() if argument != "_target_"}
    if name == "Space":
        return [(f"{key}#{argument}", value) for argument, value in arguments.items()]
    return [(key, arguments["command"] if name == "by_host" else name)]


def tables() -> dict[str, list[list[str]]]:
    """Heading -> the rows of the tables below it, whose first cell is a key."""
    parts = re.split(r"^## (.+)$", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        heading.strip("`"): [
            [cell.strip() for cell in line.strip("|").split(" | ")]
            for line in body.splitlines()
            if re.match(r"\| `[\w#]+` \|", line)
        ]
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def value_of(cell: str) -> Any:
    """The default in a cell: JSON, else text."""
    text = cell.strip("`")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def documented(*headings: str) -> dict[str, Any]:
    """Key -> stated default, a later heading first."""
    found = tables()
    return {row[0].strip("`"): value_of(row[1]) for heading in headings for row in found.get(heading, [])}


@pytest.mark.parametrize("step", STEPS)
def test_every_setting_of_a_step_is_documented_with_its_default(step):
    stated, actual = documented(SHARED, f"{step}.json"), settings(CONFIGS / f"{step}.json")
    assert len(actual) > 1
    assert actual.keys() <= stated.keys(), actual.keys() - stated.keys()
    assert {key: stated[key] for key in actual} == actual


def test_no_documented_setting_is_without_a_file():
    everywhere = {step: settings(CONFIGS / f"{step}.json") for step in STEPS}
    assert documented(SHARED).keys() <= {key for keys in everywhere.values() for key in keys}
    for step, actual in everywhere.items():
        assert documented(f"{step}.json").keys() <= actual.keys()


def test_keys_of_overlays_have_the_defaults_of_their_files():
    rows = tables()[OVERLAYS]
    assert len(rows) > 5
    for key, overlay, default, *_ in rows:
        content = json.loads((CONFIGS / overlay.strip("`")).read_text(encoding="utf-8"))
        ((_, value),) = plain(key.strip("`"), content[key.strip("`")])
        assert value_of(default) == value, key


def test_every_key_that_is_checked_is_documented():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [key for key in SCHEMA["properties"] if f"`{key}`" not in text] == []


def test_every_preset_is_listed_with_its_parts():
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, parts in PRESETS.items():
        row = " | ".join([f"`{name}.json`", ", ".join(f"`{part}.json`" for part in parts)])
        assert f"| {row} |" in text


def test_every_configuration_is_named():
    text = DOCUMENT.read_text(encoding="utf-8")
    names = {path.name for path in CONFIGS.glob("*.json")} - {"metadata.json"}
    demos = {f"{name}_demo.json" for name in ("hw_nas", "ms_nas", "hypersegnas")}
    assert {name for name in names if f"`{name}`" not in text and not name.startswith("baseline_")} - demos == set()
    assert all(demo in text for demo in demos)
