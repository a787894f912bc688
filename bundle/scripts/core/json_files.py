"""JSON files: read with a schema, written as a whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import jsonschema

from scripts.core.errors import CineError
from scripts.core.files import missing, replacing


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as readable JSON, as a whole or not at all; NaN and infinity raise ValueError."""
    text = json.dumps(content, indent=2, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path, schema: dict[str, Any], action: str, max_mib: int = 4) -> Any:
    """Read JSON and check it against ``schema``.

    Args:
        path: the file.
        schema: a JSON schema; limits of sizes must come before rules that look at every item.
        action: what to do if the file cannot be used, such as the command that writes it again.
        max_mib: a larger file is not parsed, since parsing takes about 20 times its size in memory.

    Raises:
        CineError: the file is missing, too large or not JSON, or does not fit the schema. A key that occurs twice and a
            number beyond float or 64 bits count as "not JSON". The message names the field.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise CineError(path, "a folder, a pipe or a device", "a JSON file", action)
    try:
        with path.open("rb") as file:
            text = file.read(max_mib * 2**20 + 1)
        if len(text) > max_mib * 2**20:
            raise CineError(path, "a file that is too large", f"at most {max_mib} MiB of JSON", action)
        content = json.loads(
            text.decode(json.detect_encoding(text)),  # Windows writes UTF-16 and byte order marks
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
        raise CineError(path, f"invalid JSON ({error})", "a complete JSON file", action) from None
    validate(content, schema, path, action)
    return content


def validate(content: Any, schema: dict[str, Any], where: str | Path, action: str) -> None:
    """Check parsed JSON against ``schema``; CineError names the first field that does not fit."""
    try:
        error = next(_Validator(schema).iter_errors(content), None)  # only the first: a hostile file may have very many
        if error is None:
            return
        found, expected = _found_and_expected(error)
    except RecursionError:
        raise CineError(where, "values nested too deeply to check", "the fields of its format", action) from None
    field = "#".join(str(part) for part in error.absolute_path) or "the whole file"
    found = found if len(found) <= 120 else found[:117] + "..."
    raise CineError(f"{where}, field {field}", found, expected, action)


def _found_and_expected(error: jsonschema.ValidationError) -> tuple[str, str]:
    """What was found and expected; in plain words if the rule is about names of fields."""
    names, rule = error.instance, error.validator_value
    if error.validator == "required":
        return f"no {', '.join(repr(name) for name in rule if name not in names)}", f"all of {', '.join(rule)}"
    if error.validator == "additionalProperties" and rule is False:
        known = list(error.schema["properties"])
        return f"unknown {', '.join(repr(n) for n in names if n not in known)}", f"only {', '.join(known)}"
    return json.dumps(names, default=str), f"{error.validator} {json.dumps(rule, default=str)[:200]}"


# JSON schema accepts 2.0 as an integer, but Python cannot use it as an index
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
    """Refuse an object that has a key twice: programs differ in which of the two values they use."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("an object has a key twice")
    return content
