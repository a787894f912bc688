from __future__ import annotations

import errno
import json
import os
import pickle

import pytest

from scripts.core.errors import CineError
from scripts.core.files import first_existing, model_folder, replacing
from scripts.core.json_files import read_json, validate, write_json


def test_a_failed_block_leaves_only_the_old_file(tmp_path):
    path = tmp_path / "result.nii.gz"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.name.endswith(".nii.gz")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.nii.gz"]


def test_a_successful_block_replaces_the_file_with_the_user_s_permissions(tmp_path):
    path = tmp_path / "new" / "result.json"
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_numbers_that_json_lacks_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not os.listdir(tmp_path)


def test_invalid_names_are_reported():
    schema = {"required": ["a", "b"], "properties": {"a": {}, "b": {}}, "additionalProperties": False}
    with pytest.raises(CineError, match=r"found unknown 'pear', 'c'; expected only a, b\. Mend it\."):
        validate({"a": 1, "pear": 2, "b": 3, "c": 4}, schema, "x.json", "Mend it.")
    with pytest.raises(CineError, match=r"found no 'b'; expected all of a, b\."):
        validate({"a": 1}, schema, "x.json", "Mend it.")


def test_invalid_json_is_refused_and_its_field_is_named(tmp_path):
    path = tmp_path / "a.json"
    schema = {"type": "object", "properties": {"n": {"type": "array", "items": {"minimum": 0}}}}
    path.write_text('{"n": [1, -2]}')
    with pytest.raises(CineError, match=r"field n#1: found -2; expected minimum 0. Mend it."):
        read_json(path, schema, "Mend it.")
    path.write_text('{"n": [NaN]}')
    with pytest.raises(CineError, match="NaN is not a number that JSON allows"):
        read_json(path, schema, "Mend it.")
    path.write_text("[" * 100_000)
    with pytest.raises(CineError, match="invalid JSON"):
        read_json(path, schema, "Mend it.")


def test_the_error_crosses_processes():
    error = pickle.loads(pickle.dumps(CineError("a", "b", "c", "d")))
    assert str(error) == "a: found b; expected c. d"


def test_the_first_existing_file_is_used(tmp_path):
    (tmp_path / "b").write_text("")
    assert first_existing([str(tmp_path / "a"), str(tmp_path / "b")]) == str(tmp_path / "b")
    with pytest.raises(CineError, match="Run the step"):
        first_existing([str(tmp_path / "c")])


def test_a_folder_without_weights_is_not_a_model(tmp_path):
    """An architecture that was searched here must not be combined with the weights of another one."""
    for name in ("work", "shipped"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "architecture.json").write_text("")
    (tmp_path / "shipped" / "model.pt").write_text("")
    assert model_folder([str(tmp_path / "work"), str(tmp_path / "shipped")]) == str(tmp_path / "shipped")
    with pytest.raises(CineError, match="search and train"):
        model_folder([str(tmp_path / "work")])
    (tmp_path / "work" / "model.pt").symlink_to(tmp_path / "not fetched")
    with pytest.raises(CineError, match=r"model\.pt: found a link that leads nowhere.*git annex get"):
        model_folder([str(tmp_path / "work"), str(tmp_path / "shipped")])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_disk_errors_are_reported_and_the_old_file_stays(tmp_path, monkeypatch, number):
    write_json(tmp_path / "a.json", {"old": 1})

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CineError, match=f"cannot be written .{os.strerror(number)}"):
        write_json(tmp_path / "a.json", {"new": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_file_instead_of_a_folder_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CineError, match="cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})


def test_files_are_written_to_a_folder_that_cannot_be_synced(tmp_path, monkeypatch):
    """As on Windows, which cannot open a folder, and on some network drives."""
    opened = os.open

    def refuse_folders(path, *arguments, **keys):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *arguments, **keys)

    monkeypatch.setattr(os, "open", refuse_folders)
    write_json(tmp_path / "a.json", {"whole": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"whole": 1}


def test_a_name_full_of_dots_is_not_too_long_while_it_is_written(tmp_path):
    name = "1.2." * 60 + ".json"  # like exports that name files after UIDs
    write_json(tmp_path / name, {})
    assert os.listdir(tmp_path) == [name]
