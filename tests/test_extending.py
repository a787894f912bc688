"""Each recipe of docs/extending.md, carried out in a copy of the project: its files, its changes, its tests."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, blocks_of, named_blocks_of
from rooms import faults, imports, rooms_of

RECIPES = dict(
    re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "extending.md").read_text("utf-8"), re.M | re.S)
)


def copy_project(folder: Path) -> None:
    """What code and tests need; what the models and documents hold takes no part."""
    ignored = shutil.ignore_patterns("__pycache__", "models", "docs")
    shutil.copytree(ROOT / "bundle", folder / "bundle", ignore=ignored)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)


def changed(text: str, diff: str) -> str:
    """A text after a change; its lines begin with a blank, - or +, and those before the change are there once."""
    before, after = (
        "".join(line[1:] for line in diff.splitlines(keepends=True) if line[0] in kept) for kept in (" -", " +")
    )
    assert text.count(before) == 1, f"{before!r} is there {text.count(before)} times"
    return text.replace(before, after)


def carry_out(recipe: str, folder: Path) -> list[str]:
    """Write the files of a recipe and change those that it changes; returns their names."""
    written = []
    for language, name, content in named_blocks_of(recipe):
        path = folder / name
        assert path.is_file() == (language == "diff"), f"{name} is there, or should be"
        path.write_text(changed(path.read_text("utf-8"), content) if language == "diff" else content, "utf-8")
        written.append(name)
    return written


def selection_of(recipe: str) -> tuple[list[str], str]:
    """The files and the expression of the recipe's command of pytest."""
    lines = "\n".join(blocks_of(recipe, "")).splitlines()
    (words,) = [shlex.split(line)[3:] for line in lines if line.startswith("python -m pytest ")]
    files = words[: words.index("-k")] if "-k" in words else words
    return files, words[-1] if "-k" in words else Path(words[0]).stem


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Path, list[str]]:
    """A copy of the project after all recipes, and what pytest reports of their commands: one run, since torch and
    MONAI take longer to import than these tests take."""
    folder = tmp_path_factory.mktemp("project")
    copy_project(folder)
    for recipe in RECIPES.values():
        carry_out(recipe, folder)
    selections = [selection_of(recipe) for recipe in RECIPES.values()]
    files = [name for names, _ in selections for name in names]
    expression = " or ".join(f"({expression})" for _, expression in selections)
    options = ["-q", "-r", "A", "-p", "no:cacheprovider", "-k", expression]
    return folder, run(folder, "pytest", *files, *options).stdout.splitlines()


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_does_what_it_says(title, project):
    _, lines = project
    files, _ = selection_of(RECIPES[title])
    of_recipe = [
        line for line in lines if re.match(r"(PASSED|FAILED|ERROR) ", line) and line.split()[1].startswith(tuple(files))
    ]
    assert len(of_recipe) >= 2, "\n".join(lines)
    assert all(line.startswith("PASSED") for line in of_recipe), "\n".join(lines)


def test_the_recipes_keep_the_style_and_the_order_of_the_rooms(project):
    folder, _ = project
    assert faults(imports(folder / "bundle" / "scripts"), rooms_of(ROOT / "docs" / "architecture.md")) == []
    for check in (["check"], ["format", "--check"]):
        done = run(folder, "ruff", *check, ".")
        assert done.returncode == 0, done.stdout


def test_every_recipe_is_found():
    assert len(RECIPES) == 5
    assert all(named_blocks_of(recipe) for recipe in RECIPES.values())


@pytest.mark.parametrize("text", ["a\nb\n", "a\nold\na\nold\n"])
def test_a_change_that_does_not_fit_fails(text):
    with pytest.raises(AssertionError, match="times"):
        changed(text, " a\n-old\n+new\n")


def test_a_change_is_made():
    assert changed("a\nold\nb\n", " a\n-old\n+new\n") == "a\nnew\nb\n"
