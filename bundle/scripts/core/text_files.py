"""Text and paths from other programs: byte order marks, UTF-16, quotes, tables, backslashes."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

from scripts.core.errors import CineError

COLUMNS = ("image", "images", "input", "path", "paths", "file", "filename")
"""Names that the column of images in a table may have."""
MAX_LIST_BYTES = 16 * 2**20
"""Bytes; a larger file is not treated as a list of paths."""


def listed_paths(path: Path) -> list[tuple[str, Path]]:
    """The paths that a text file lists, one per line, relative to the folder of that file.

    Blank lines, # comments and quotes around a path are ignored. The first line may name the columns of a table
    (separated by commas, semicolons or tabs); then the first column with a name in ``COLUMNS`` is read.

    Returns:
        For each path, its place (file and line) and the path itself, which need not exist.

    Raises:
        CineError: the file is too large, or is not text in UTF-8 or UTF-16; or a row of a table has too few columns.
    """
    lines = [
        (f"{path}, line {number}", line)
        for number, line in enumerate(map(str.strip, _read_list(path).splitlines()), start=1)
        if line and not line.startswith("#")
    ]
    if not lines or os.path.exists(located(lines[0][1], path.parent)):
        return [(where, located(line, path.parent)) for where, line in lines]
    delimiter = max(",;\t", key=lines[0][1].count)
    names = [name.strip().lower() for name in _cells(lines[0][1], delimiter)]
    column = next((names.index(name) for name in COLUMNS if name in names), None)
    if column is None:
        return [(where, located(line, path.parent)) for where, line in lines]
    paths = []
    for where, line in lines[1:]:
        cells = _cells(line, delimiter) if len(names) > 1 else [line]
        if len(cells) <= column:
            expected = f"{column + 1} or more, since column {column + 1} is {names[column]}"
            raise CineError(where, f"{len(cells)} columns", expected, "Correct the list.")
        paths.append((where, located(cells[column], path.parent)))
    return paths


def located(text: str, folder: Path) -> Path:
    """The path that a list in ``folder`` means. ~ is the home folder; \\ divides folders, if no file has that name."""
    text = os.path.expanduser(text.strip().strip("\"'"))
    path = folder / text
    return path if "\\" not in text or os.path.exists(path) else folder / text.replace("\\", "/")


def read_text(path: Path) -> str:
    """A file's text, in UTF-8 or UTF-16, with or without a byte order mark. Raises OSError or UnicodeDecodeError."""
    content = path.read_bytes()
    return content.decode(json.detect_encoding(content))


def _read_list(path: Path) -> str:
    expected = "a list of paths, as text in UTF-8 or UTF-16"
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise CineError(
                path,
                "a file that is too large",
                f"{expected}, of at most {MAX_LIST_BYTES // 2**20} MiB",
                "Check input.",
            )
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        found = f"a file that cannot be read as text ({error})"
        raise CineError(path, found, expected, "Check input; save a list as UTF-8.") from None


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
