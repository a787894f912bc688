"""Paths from the command line. MONAI's argument parser takes some for numbers, lists or comments, or drops them.

That parser is Fire: it reads a value as a Python literal where it can. A path that begins with "./" is not a literal.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from scripts.core.errors import CineError

_LISTS = {"input"}
"""Keys that may have a list of paths."""
_PATHS = {*_LISTS, "datalist", "pretrained"}
_ENDINGS = ("_dir", "_file")


def is_path(key: str) -> bool:
    """Whether the value of a configuration's key, nested or not, is a path."""
    name = key.split("#")[-1]
    return name in _PATHS or name.endswith(_ENDINGS)


def check_path(key: str, value: Any, where: str, optional: bool = False) -> None:
    """Refuse a value that is not a path, or that is another path than the user typed.

    Args:
        key: a key of the configuration for which ``is_path`` is true.
        value: the value as MONAI passes it on.
        where: names the key in the message.
        optional: whether a program may pass None; on a command line, None means that the parser misread a name.

    Raises:
        CineError: the message says what was typed, how it was read, and how to write it.
    """
    typed, lists = _typed(key), key in _LISTS
    if typed is None and value is None and optional:
        return
    fits = _fits(value, lists)
    if fits and (typed is None or _means(typed, value)):
        return
    expected = "a path, or a list of paths in brackets" if lists else "a path"
    if not typed:
        nothing = value is True or value == ""  # what the parser gives for a key without a value
        action = "Write it after the key." if nothing else "Write it as text, in quotes."
        raise CineError(where, "no value" if nothing else repr(value), expected, action)
    raise CineError(where, f"{typed}, which MONAI reads as {_described(value)}", expected, _advice(typed, value))


def _fits(value: Any, lists: bool) -> bool:
    """Whether the value is a path, or a list of only paths."""
    values = value if lists and isinstance(value, list | tuple) else [value]
    kinds = str | Path if lists else str
    return all(isinstance(entry, kinds) and str(entry) for entry in values)


def _means(typed: str, value: str | list[str] | tuple[str, ...]) -> bool:
    """Whether the value is what the user meant: the same text, a text in quotes, or a list in brackets."""
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
    instead = "Leave out the key to use its default, or write" if value is None else "Write"
    return f'{instead} the path as "./{typed}".'


def _typed(key: str) -> str | None:
    """The text after a key on MONAI's command line, as the shell passed it; "" or None where there is no such text.

    In a program that calls MONAI, the command line is that of the program, so the result is None.
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
