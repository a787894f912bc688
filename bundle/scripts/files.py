"""Files enter validated and leave whole: the typed error, JSON with a schema, atomic replacement."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema


class CineError(ValueError):
    """Input or configuration that cannot be used: where, what was found, what was expected, what to do.

    Args:
        where: the file, folder or configuration key at fault.
        found: what was found there.
        expected: what would have been accepted.
        action: what the user can do next.
    """

    def __init__(self, where: str | Path, found: str, expected: str, action: str):
        self.where, self.found, self.expected, self.action = str(where), found, expected, action
        super().__init__(f"{where}: found {found}; expected {expected}. {action}")

    def __reduce__(self):
        # a worker process hands the error over by pickling it
        return type(self), (self.where, self.found, self.expected, self.action)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` that replaces it once the block ends without an error.

    The temporary name keeps every suffix of ``path``, since writers choose the format by it. Readers see the
    old file or the new one, never half of either, also after a crash: the data reach the disk before the name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-", suffix="".join(path.suffixes))
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would hide results from the user's group
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def user_cache() -> Path:
    """The folder for what can be made again: $XDG_CACHE_HOME/rtdnas or ~/.cache/rtdnas."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rtdnas"


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as readable JSON, whole or not at all; NaN and infinities are refused (ValueError)."""
    text = json.dumps(content, indent=2, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path, schema: dict[str, Any], action: str) -> Any:
    """Read JSON and hold it against ``schema``.

    Args:
        path: the file.
        schema: a JSON schema.
        action: what to do where the file cannot be used, such as the command that writes it anew.

    Raises:
        CineError: the file is missing, no JSON, or does not fit; names the field, what was found and expected.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise CineError(path, "no such file", "a JSON file", action) from None
    except OSError as error:
        raise CineError(path, f"a file that cannot be read ({error.strerror})", "a JSON file", action) from None
    except (ValueError, RecursionError) as error:
        raise CineError(path, f"no valid JSON ({error})", "a whole JSON file", action) from None
    validate(content, schema, path, action)
    return content


def validate(content: Any, schema: dict[str, Any], where: str | Path, action: str) -> None:
    """Hold parsed JSON against ``schema``; CineError names the first field that does not fit."""
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(content))
    if error is None:
        return
    field = "#".join(str(part) for part in error.absolute_path) or "the whole file"
    found = json.dumps(error.instance, default=str)
    found = found if len(found) <= 120 else found[:117] + "..."
    expected = f"{error.validator} {json.dumps(error.validator_value, default=str)[:200]}"
    raise CineError(f"{where}, field {field}", found, expected, action)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON allows")


def first_existing(paths: Sequence[str]) -> str:
    """The first of some paths that exists; CineError where none does."""
    for path in paths:
        if Path(path).exists():
            return path
    raise CineError(" or ".join(paths), "no such file", "one of them", "Run the step that writes it: search, or train.")


def model_folder(folders: Sequence[str]) -> str:
    """The first folder that holds a trained network, ``architecture.json`` and ``model.pt``; else CineError."""
    for folder in folders:
        if all((Path(folder) / name).exists() for name in ("architecture.json", "model.pt")):
            return folder
    raise CineError(
        " or ".join(folders),
        "no architecture.json with a model.pt beside it",
        "a trained network",
        "Run the steps search and train with this work_dir, or name the work_dir of an earlier training.",
    )
