"""JSON that makes a parser fail, or that two parsers read differently."""

from __future__ import annotations

import json
import os

import pytest

from scripts.core.errors import CineError
from scripts.core.json_files import read_json

ANY = {"type": "object", "properties": {"a": {"type": ["number", "string", "array", "object"]}}}
TEXTS = {
    "a key twice": ('{"a": 1, "a": 2}', "a key twice"),
    "a key twice, deep inside": ('{"a": {"b": {"c": 1, "c": 1}}}', "a key twice"),
    "NaN": ('{"a": NaN}', "NaN is not a number"),
    "Infinity": ('{"a": -Infinity}', "-Infinity is not a number"),
    "a number beyond float": ('{"a": 1e999}', "1e999 is not a number"),
    "an integer beyond 64 bits": ('{"a": 99999999999999999999}', "not a number"),
    "an integer that takes long to read": ('{"a": ' + "9" * 1_000_000 + "}", "not a number"),
    "deep": ("[" * 500_000, "invalid JSON"),
    "as deep as the parser goes": ('{"a":' * 400 + "1" + "}" * 400, None),
    "no UTF-8": (b"\xff\xfe{}", "invalid JSON"),
    "half": ('{"a": ', "invalid JSON"),
    "two": ("{} {}", "invalid JSON"),
    "empty": ("", "invalid JSON"),
    "no object": ("[]", "the whole file"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text(tmp_path, name):
    text, found = TEXTS[name]
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if found is None:
        assert read_json(path, ANY, "Mend it.")
        return
    with pytest.raises(CineError, match=found):
        read_json(path, ANY, "Mend it.")


def test_a_nesting_that_can_be_read_but_not_shown(tmp_path):
    path = tmp_path / "a.json"
    for depth in range(100, 1000, 10):  # the depth at which the parser fails depends on the stack
        path.write_text('{"a":' * depth + "1" + "}" * depth)
        with pytest.raises(CineError):
            read_json(path, {"type": "object", "properties": {"a": {"type": "number"}}}, "Mend it.")


def test_a_file_without_end(tmp_path, opens, model_dir):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**42)  # sparse: it needs no space
    with pytest.raises(CineError, match="at most 4 MiB"):
        read_json(tmp_path / "a.json", ANY, "Mend it.")
    os.truncate(model_dir / "architecture.json", 2**42)
    with pytest.raises(CineError, match="at most 4 MiB"):
        opens(model_dir)


def test_a_pipe_without_a_writer(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(CineError, match="a pipe or a device"):
        read_json(tmp_path / "a.json", ANY, "Mend it.")


def test_an_invalid_model_card(model_dir, opens):
    path = model_dir / "model.json"
    card = json.loads(path.read_text())
    for fields in ({"architecture": 3}, {"exams": "all"}, {"exams": [None]}, {"spacing_mm": "wide"}, {"format": "new"}):
        path.write_text(json.dumps({**card, **fields}))
        with pytest.raises(CineError, match=f"model.json, field {next(iter(fields))}"):
            opens(model_dir)
