"""Read README.md, docs and bundle/docs: their commands as the shell splits them, their Python, and the benchmarks among
the commands, to be called."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template
from types import ModuleType

import pytest

from scripts import BUNDLE_ROOT

ROOT = BUNDLE_ROOT.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((BUNDLE_ROOT / "docs").glob("*.md")),
]
_BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:\w+=\S+ )*(?:python3?|make) [^`]+)`")
_ENDS = {";", "&", "&&", "|"}
_SHELL = {"for", "do", "done", "wait", "in"}


def blocks(document: Path, language: str) -> list[str]:
    """The contents of the fenced blocks of a language that name no file; "" gives the commands."""
    return blocks_of(document.read_text(encoding="utf-8"), language)


def blocks_of(text: str, language: str) -> list[str]:
    """The same as ``blocks``, for a part of a document."""
    found = _BLOCK.findall(text)
    return [
        re.sub(f"^{indent}", "", content, flags=re.MULTILINE) for indent, name, content in found if name == language
    ]


def named_blocks_of(text: str) -> list[tuple[str, str, str]]:
    """(language, file, content) of the blocks that name a file after their language."""
    return [(*name.split(), content) for _, name, content in _BLOCK.findall(text) if " " in name]


def commands() -> Iterator[tuple[str, list[str]]]:
    """(document, words) of every command; variables have the values from the documents."""
    for document in DOCUMENTS:
        name, text = document.relative_to(ROOT).as_posix(), document.read_text(encoding="utf-8")
        variables = {"B": "bundle/configs", "D": "DATA", "f": "0", "PWD": "."}
        for block in blocks(document, ""):
            if not block.lstrip().startswith("@"):  # a citation
                for words in simple_commands(block, variables):
                    yield name, words
        for line in _INLINE.findall(_BLOCK.sub("", text)):
            if not re.search(r" \.\.\.| STEP", line):  # otherwise not meant literally
                for words in simple_commands(line.replace("\n", " "), variables):
                    yield name, words


def simple_commands(text: str, variables: dict[str, str]) -> Iterator[list[str]]:
    """The simple commands of a script, without comments, loops and assignments, which change the variables."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(re.sub(r"(^|\s)#.*", "", line), posix=True, punctuation_chars=";&|")
        lexer.whitespace_split, lexer.commenters = True, ""
        words: list[str] = []
        for word in [*lexer, ";"]:
            expanded = Template(word).safe_substitute(variables)
            if word not in _ENDS:
                words += (
                    expanded.split() if word[0] == "$" and expanded != word else [expanded]
                )  # split like the shell does
                continue
            while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
                key, _, value = words.pop(0).partition("=")
                variables[key] = value
            if words and words[0] == "do":
                del words[0]
            if words and words[0] not in _SHELL:
                yield words
            words = []


def load_benchmark(script: Path, options: list[str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a benchmark as a module whose ``main`` reads these options."""
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script), *options])
    specification = importlib.util.spec_from_file_location(script.stem, script)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, script.stem, module)
    specification.loader.exec_module(module)
    return module
