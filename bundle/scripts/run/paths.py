"""Paths from the command line, where MONAI's parser of arguments takes some for numbers, lists, comments or nothing.

The parser is Fire's: it reads a value as a Python literal where it can. "./" before a path makes it no literal.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from scripts.core.errors import CineError

_LISTS = {"input"}
"""Keys that may be a list of paths."""
_PATHS = {*_LISTS, "datalist", "pretrained"}
_ENDINGS = ("_dir", "_file")


def is_path(key: str) -> bool:
    """Whether the value of a configuration's key, nested or not, is a path."""
    name = key.split("#")[-1]
    return name in _PATHS or name.endswith(_ENDINGS)


def check_path(key: str, value: Any, where: str, optional: bool = False) -> None:
    """Refuse a value that is no path, or another path than the user typed.

    Args:
        key: of the configuration, where ``is_path``.
        value: as MONAI hands it over.
        where: names the key for the message.
        optional: whether a program may hand over None; on a command line it is a name that went wrong.

    Raises:
        CineError: says what was typed, what it was read as, and how to write it.
    """
    typed, lists = _typed(key), key in _LISTS
    if typed is None and value is None and optional:
        return
    fits = _fits(value, lists)
    if fits and (typed is None or _means(typed, value)):
        return
    expected = "a path, or a list of paths in brackets" if lists else "a path"
    if not typed:
        nothing = value is True or value == ""  # the parser's word for a key without a value
        action = "Write it after the key." if nothing else "Write it as text, in quotes."
        raise CineError(where, "no value" if nothing else repr(value), expected, action)
    raise CineError(where, f"{typed}, which MONAI reads as {_described(value)}", expected, _advice(typed, value))


def _fits(value: Any, lists: bool) -> bool:
    """Whether every value is a path: those of a list, or the only one."""
    values = value if lists and isinstance(value, list | tuple) else [value]
    kinds = str | Path if lists else str
    return all(isinstance(entry, kinds) and str(entry) for entry in values)


def _means(typed: str, value: str | list[str] | tuple[str, ...]) -> bool:
    """Whether the value is what the user meant: the text itself, a text in quotes, or a list in brackets."""
    if isinstance(value, str):
        evaluated = value.startswith(("$", "@", "%"))
        return typed.lstrip().startswith(("'", '"')) or (value == typed and not (evaluated and Path(typed).exists()))
    return typed.lstrip().startswith(("[", "(")) and not Path(typed).exists()


def _described(value: Any) -> str:
    kinds = {int: "the number", float: "the number", str: "the text", type(None): "the word", bool: "the word"}
    return f"{kinds.get(type(value), f'a {type(value).__name__},')} {value!r}"


def _advice(typed: str, value: Any) -> str:
    if isinstance(value, list | tuple) and typed.lstrip().startswith(("[", "(")) and not Path(typed).exists():
        return f'Write the list as "{[f"./{entry}" for entry in value]}".'
    instead = "Leave the key out for its default, or write" if value is None else "Write"
    return f'{instead} the path as "./{typed}".'


def _typed(key: str) -> str | None:
    """What stands behind a key on the command line of MONAI, as the shell gave it; None where it does not stand there.

    In a program that calls MONAI, the command line is the program's own.
    """
    program, *words = sys.argv
    if Path(program).parts[-3:] != ("monai", "bundle", "__main__.py"):
        return None
    names = {key, key.replace("#", "::")}
    found = None
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name.replace("-", "_") in names:
                found = value if equals else None if following.startswith("--") else following
    return found
