"""The public surface is frozen: what users type and what their files contain changes only on purpose.

``surface.txt`` has one line for every run id, key of a config (two levels), file format and exit code. Write it again
by ``PYTHONPATH=bundle:. python tests/test_surface.py``.
"""

from __future__ import annotations

import ast
import difflib
from pathlib import Path

from monai.bundle import ConfigParser

from release.presets import PRESETS
from scripts import BUNDLE_ROOT
from scripts.run import start

GOLDEN = Path(__file__).with_name("surface.txt")
REMEDY = """The public surface differs from tests/surface.txt:

{diff}

Users' commands, configs and files depend on it. If you want this change, describe it in a line of CHANGELOG.md, then
run PYTHONPATH=bundle:. python tests/test_surface.py, and commit both together."""


def surface() -> list[str]:
    lines = [f"exit {code} {name}" for name, code in exit_codes().items()]
    lines += [f"format {form} {where}" for where, form in formats().items()]
    for path in sorted((BUNDLE_ROOT / "configs").glob("*.json")):
        if path.name != "metadata.json" and path.stem not in PRESETS:  # presets are made of the others
            config = ConfigParser.load_config_file(path)
            lines += [f"run {path.name} {name}" for name in run_ids(config)]
            lines += [f"key {path.name} {key}" for key in sorted(keys(config))]
    return lines


def keys(config: dict) -> set[str]:
    """The names that an override or overlay may use: keys of two levels, including arguments of components."""
    below = {f"{key}#{name}" for key, value in config.items() if isinstance(value, dict) for name in value}
    return {*config, *(key for key in below if "#_" not in key)}


def exit_codes() -> dict[str, int]:
    """The codes of Python itself, for success and for faults of this code, are tested elsewhere."""
    return {"done": 0, "fault": 1, "bad_input": start.BAD_INPUT, "interrupted": start.INTERRUPTED}


def formats() -> dict[str, str]:
    """The constant FORMAT of each module that has one."""
    found = {}
    for path in sorted((BUNDLE_ROOT / "scripts").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["FORMAT"]:
                found[path.relative_to(BUNDLE_ROOT).as_posix()] = ast.literal_eval(node.value)
    return found


def run_ids(config: dict) -> list[str]:
    """Steps, which are lists of calls that begin with start, and their other names."""
    steps = [key for key, value in config.items() if _starts(value.get("run") if isinstance(value, dict) else value)]
    names = [
        key
        for key, value in config.items()
        if str(value) in {f"{sign}{step}{end}" for step in steps for sign in "%@" for end in ("", "#run")}
    ]
    return sorted(steps + names)


def _starts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and "scripts.run.start.start" in str(value[0])


def test_the_public_surface_is_frozen():
    frozen = GOLDEN.read_text(encoding="utf-8").splitlines()
    diff = "\n".join(difflib.unified_diff(frozen, surface(), "frozen", "found", lineterm="", n=0))
    assert not diff, REMEDY.format(diff=diff)


def test_every_step_is_frozen_by_its_own_name_and_as_run():
    """Checks the check: a step that it did not see could change unnoticed."""
    frozen = set(GOLDEN.read_text(encoding="utf-8").splitlines())
    for config in (
        "profile",
        "search",
        "derive",
        "verify",
        "evaluate",
        "stream",
        "serve",
        "compare",
        "correlate",
        "train",
    ):
        assert {f"run {config}.json {config}", f"run {config}.json run"} <= frozen
    assert {"run inference.json infer", "run inference.json run"} <= frozen
    assert "format rtdnas-architecture-2 scripts/space/architecture.py" in frozen


if __name__ == "__main__":
    GOLDEN.write_text("\n".join(surface()) + "\n", encoding="utf-8")
