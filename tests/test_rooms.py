"""The order of the rooms that docs/architecture.md shows is that of the imports, and what it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from documents import ROOT
from rooms import faults, imports, rooms_of

from scripts import BUNDLE_ROOT

DOCUMENT = ROOT / "docs" / "architecture.md"
SCRIPTS = BUNDLE_ROOT / "scripts"
NAMED = re.findall(r"`([\w.]+)` \(`(\w+/\w+\.py)`\)", DOCUMENT.read_text(encoding="utf-8"))


def package(folder: Path, **modules: str) -> Path:
    """A package of modules; ``room__module`` is a file in a room."""
    for name, content in modules.items():
        path = folder / "made_up" / f"{name.replace('__', '/', 1)}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder / "made_up"


def test_no_import_runs_up_and_none_in_a_circle():
    graph, rooms = imports(SCRIPTS), rooms_of(DOCUMENT)
    assert len(graph) > 100 and len(rooms) > 10  # else they are not found
    assert "scripts.core.errors" in graph["scripts.space.space"]
    assert faults(graph, rooms) == []


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        ({"low__a": "from made_up.high.b import x", "high__b": ""}, "low.a imports made_up.high.b: high is below low"),
        ({"low__a": "def f():\n    import made_up.high.b", "high__b": ""}, "low.a imports made_up.high.b"),
        ({"low__a": "from ..high import b", "high__b": ""}, "low.a imports made_up.high.b"),
        ({"low__a": "", "high__b": "", "attic__c": ""}, "made_up.attic.c is in no room"),
        ({"low__a": "", "high__b": "", "loose": ""}, "made_up.loose is in no room"),
        ({"low__a": ""}, "high is in the table and nowhere else"),
        (
            {"low__a": "from made_up.low import b", "low__b": "from made_up.low.a import x", "high__c": ""},
            "a circle: made_up.low.",
        ),
    ],
)
def test_what_breaks_the_order_is_found(tmp_path, modules, says):
    found = faults(imports(package(tmp_path, **modules)), ["low", "high"])
    assert len(found) == 1 and says in found[0]


def test_a_package_in_order_has_no_faults(tmp_path):
    made_up = package(
        tmp_path,
        **{"low__a": "import json", "low__b": "from . import a", "high__c": "from made_up.low import a, b"},
        **{"high____init__": "from made_up.low.b import x"},
    )
    assert imports(made_up)["made_up.high"] == {"made_up.low.b"}
    assert faults(imports(made_up), ["low", "high"]) == []


def test_the_diagram_shows_the_rooms_of_the_table_and_no_arrow_that_is_not_there():
    (diagram,) = re.findall(r"^```mermaid\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    arrows = {pair for a, b in re.findall(r"^ *([\w &]+) --> ([\w &]+)$", diagram, re.MULTILINE)
              for pair in ((x, y) for x in a.split(" & ") for y in b.split(" & "))}  # fmt: skip
    graph = imports(SCRIPTS)
    real = {(a.split(".")[1], b.split(".")[1]) for a, of_a in graph.items() for b in of_a if "." in b and "." in a}
    assert arrows <= real
    assert {room for arrow in arrows for room in arrow} == set(rooms_of(DOCUMENT))
    # every import is an arrow, or follows from arrows
    reached = set(arrows)
    while more := {(a, d) for a, b in reached for c, d in reached if b == c} - reached:
        reached |= more
    assert {(a, b) for a, b in real if a != b} <= reached


@pytest.mark.parametrize(("name", "file"), NAMED)
def test_what_the_walks_name_is_there(name, file):
    body = ast.parse((SCRIPTS / file).read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part]
        assert found, f"{file} defines no {name}"
        body = found[0].body


def test_the_walks_name_many_places():
    assert len(NAMED) > 30  # else they are not found
