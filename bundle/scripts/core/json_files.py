"""JSON files: read with a schema, written whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import jsonschema

from scripts.core.errors import CineError
from scripts.core.files import missing, replacing


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as readable JSON, whole or not at all; NaN and infinities are refused (ValueError)."""
    text = json.dumps(content, indent=2, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path, schema: dict[str, Any], action: str, max_mib: int = 4) -> Any:
    """Read JSON and hold it against ``schema``.

    Args:
        path: the file.
        schema: a JSON schema; what bounds sizes stands before what looks at every item.
        action: what to do where the file cannot be used, such as the command that writes it anew.
        max_mib: a larger file is not parsed, which takes some 20 times its size.

    Raises:
        CineError: the file is missing, too large, no JSON (also: a key twice, a number beyond float or 64 bits), or
            does not fit; names the field, what was found and expected.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise CineError(path, "no plain file", "a JSON file", action)
    try:
        with path.open("rb") as file:
            text = file.read(max_mib * 2**20 + 1)
        if len(text) > max_mib * 2**20:
            raise CineError(path, "a larger file", f"at most {max_mib} MiB of JSON", action)
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
