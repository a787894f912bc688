"""Files enter validated and leave whole: the typed error, JSON with a schema, atomic replacement."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import jsonschema

logger = logging.getLogger(__name__)
PARTIAL = ".partial-"
"""What the names of files begin with that are being written."""
# what a disk or a folder answers to someone who writes
_REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST),
}


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
        return type(self), (self.where, self.found, self.expected, self.action), self.__dict__


def cine_error_of(error: BaseException) -> CineError | None:
    """The CineError behind an error, which MONAI wraps; None where there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CineError):
        cause = cause.__cause__ or cause.__context__
    return cause


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path`` that replaces it once the block ends without an error.

    The temporary name keeps the last suffixes of ``path``, since writers choose the format by it. Readers see the
    old file or the new one, never half of either, also after a crash: the data reach the disk before the name.

    Raises:
        CineError: the disk is full or the folder cannot be written; what stood at ``path`` still does.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL, suffix="".join(path.suffixes[-2:]))
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would hide results from the user's group
            _sync(temporary)
            os.replace(temporary, path)
            with suppress(OSError):  # Windows and some network folders cannot do this, and the file is whole without it
                _sync(path.parent, os.O_RDONLY)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what a disk or a folder refuses while ``path`` is written into a CineError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        found = f"that it cannot be written ({error.strerror})"
        expected = "a folder with room and the right to write"
        raise CineError(path, found, expected, "Make room or choose another folder; nothing was lost.") from error


def _sync(path: Path, flags: int = os.O_RDWR) -> None:
    descriptor = os.open(path, flags)  # Windows syncs what is open for writing
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as readable JSON, whole or not at all; NaN and infinities are refused (ValueError)."""
    text = json.dumps(content, indent=2, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path, schema: dict[str, Any], action: str, most_mib: int = 4) -> Any:
    """Read JSON and hold it against ``schema``.

    Args:
        path: the file.
        schema: a JSON schema; what bounds sizes stands before what looks at every item.
        action: what to do where the file cannot be used, such as the command that writes it anew.
        most_mib: a larger file is not parsed, which takes some 20 times its size.

    Raises:
        CineError: the file is missing, too large, no JSON (also: a key twice, a number beyond float or 64 bits), or
            does not fit; names the field, what was found and expected.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise CineError(path, "no plain file", "a JSON file", action)
    try:
        with path.open("rb") as file:
            text = file.read(most_mib * 2**20 + 1)
        if len(text) > most_mib * 2**20:
            raise CineError(path, "a larger file", f"at most {most_mib} MiB of JSON", action)
        content = json.loads(
            text.decode(json.detect_encoding(text)),  # Windows writes UTF-16, and byte order marks
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_int=_bounded,
            parse_constant=_refuse_number,
        )
    except CineError:
        raise
    except FileNotFoundError:
        found, action = missing(path, action)
        raise CineError(path, found, "a JSON file", action) from None
    except OSError as error:
        raise CineError(path, f"a file that cannot be read ({error.strerror})", "a JSON file", action) from None
    except (ValueError, RecursionError) as error:
        raise CineError(path, f"no valid JSON ({error})", "a whole JSON file", action) from None
    validate(content, schema, path, action)
    return content


def validate(content: Any, schema: dict[str, Any], where: str | Path, action: str) -> None:
    """Hold parsed JSON against ``schema``; CineError names the first field that does not fit."""
    try:
        error = next(_Validator(schema).iter_errors(content), None)  # what follows it may cost a hostile file's time
        if error is None:
            return
        found, expected = _told(error)
    except RecursionError:
        raise CineError(where, "a nesting too deep to look at", "what its format names", action) from None
    field = "#".join(str(part) for part in error.absolute_path) or "the whole file"
    found = found if len(found) <= 120 else found[:117] + "..."
    raise CineError(f"{where}, field {field}", found, expected, action)


def _told(error: jsonschema.ValidationError) -> tuple[str, str]:
    """What was found and expected, in words where the rule is about names of fields."""
    names, rule = error.instance, error.validator_value
    if error.validator == "required":
        return f"no {', '.join(repr(name) for name in rule if name not in names)}", f"all of {', '.join(rule)}"
    if error.validator == "additionalProperties" and rule is False:
        known = list(error.schema["properties"])
        return f"the unknown {', '.join(repr(n) for n in names if n not in known)}", f"none but {', '.join(known)}"
    return json.dumps(names, default=str), f"{error.validator} {json.dumps(rule, default=str)[:200]}"


# JSON schema takes 2.0 for an integer, which would be no index
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is not a number that JSON allows")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _bounded(text: str) -> int:
    return int(text) if len(text) < 20 else _refuse_number(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object with a key twice means one thing here and another to the next program."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("an object holds a key twice")
    return content


def missing(path: str | Path, action: str) -> tuple[str, str]:
    """What a path without a file is, and what to do: DVC and git-annex leave links until they fetch content."""
    if Path(path).is_symlink():
        return "a link that leads nowhere", "Fetch what it links to (dvc pull, git annex get), or copy the file itself."
    return "no such file", action


def first_existing(paths: Sequence[str]) -> str:
    """The first of some paths that exists; CineError where none does."""
    for path in paths:
        if Path(path).exists():
            _tell_of_fallback(path, paths[0])
            return path
    raise CineError(" or ".join(paths), "no such file", "one of them", "Run the step that writes it: search, or train.")


def _tell_of_fallback(found: str, wanted: str) -> None:
    if found != wanted:
        logger.info("%s is used, since there is no %s", found, wanted)


def model_folder(folders: Sequence[str]) -> str:
    """The first folder that holds a trained network, ``model.pt``; else CineError."""
    for folder in folders:
        if (Path(folder) / "model.pt").exists():
            _tell_of_fallback(f"{folder}/model.pt", f"{folders[0]}/model.pt")
            return folder
        if (Path(folder) / "model.pt").is_symlink():
            found, action = missing(Path(folder) / "model.pt", "")
            raise CineError(Path(folder) / "model.pt", found, "a trained network", action)
    raise CineError(
        " or ".join(folders),
        "no model.pt",
        "a trained network",
        "Run the steps search and train with this work_dir, or name the work_dir of an earlier training.",
    )
