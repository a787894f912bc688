"""Paths as people type them, with Fire's own argument parser."""

from __future__ import annotations

import os

import pytest
from fire.parser import DefaultParseValue

from scripts import BUNDLE_ROOT
from scripts.core.errors import CineError
from scripts.run.paths import check_path, is_path
from scripts.run.start import check_keys

CONFIG = str(BUNDLE_ROOT / "configs" / "inference.json")
MONAI = os.path.join("site-packages", "monai", "bundle", "__main__.py")


@pytest.fixture
def type_in(monkeypatch, tmp_path):
    """Sets the command line of ``monai.bundle run``, and returns the value that Fire reads from a text."""
    monkeypatch.chdir(tmp_path)

    def type_in(key: str, text: str, joined: bool = False):
        words = [f"--{key}={text}"] if joined else [f"--{key}", text]
        monkeypatch.setattr("sys.argv", [MONAI, "run", "infer", "--config_file", CONFIG, *words, "--existing", "skip"])
        return DefaultParseValue(text)

    return type_in


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("20230101", "the number 20230101"),
        ("1e5", "the number 100000.0"),
        ("1_000", "the number 1000"),
        ("None", "the word None"),
        ("True", "the word True"),
        ("case, two", "a tuple, ('case', 'two')"),
        ("case,two", "a tuple, ('case', 'two')"),
        ("exam #3", "the text 'exam'"),
        ("{exam}", "a set, {'exam'}"),
    ],
)
@pytest.mark.parametrize("key", ["input", "output_dir", "dataset_dir", "datalist", "work_dir", "pretrained"])
def test_a_name_that_the_parser_changes_is_refused_with_advice(type_in, key, text, read_as):
    with pytest.raises(CineError) as caught:
        check_path(key, type_in(key, text), "the key", optional=True)
    assert caught.value.found == f"{text}, which MONAI reads as {read_as}"
    assert f'the path as "./{text}".' in caught.value.action
    advised = f"./{text}"
    check_path(key, type_in(key, advised), "the key")  # and the advice works
    assert DefaultParseValue(advised) == advised


@pytest.mark.parametrize("joined", [False, True])
def test_the_check_is_part_of_every_start(type_in, joined):
    value = type_in("input", "20230101", joined)
    with pytest.raises(CineError, match=r"inference.json, key input: found 20230101, .* the number 20230101; expected"):
        check_keys(CONFIG, {"input": value})


def test_a_folder_in_brackets_is_distinguished_from_a_list(type_in, tmp_path):
    check_path("input", type_in("input", "[old, new]"), "input")
    with pytest.raises(CineError, match=r"""Write the list as "\['./7', './8'\]".$"""):
        check_path("input", type_in("input", "[7, 8]"), "input")
    (tmp_path / "[old]").mkdir()
    with pytest.raises(CineError, match=r"""a list, \['old'\]; .* Write the path as "./\[old\]".$"""):
        check_path("input", type_in("input", "[old]"), "input")
    with pytest.raises(CineError, match="a list"):
        check_path("work_dir", type_in("work_dir", "[a]"), "work_dir")


@pytest.mark.parametrize(
    "text", ["007", "1.3.6.1.4", "M\u00fcller \u00df", "a b", "'20230101'", '"None"', "/data/exam #3", "@old"]
)
def test_other_names_pass(type_in, text):
    check_path("input", type_in("input", text), "input")


def test_an_existing_name_that_monai_would_evaluate_is_refused(type_in, tmp_path):
    check_path("output_dir", type_in("output_dir", "$@work_dir + '/other'"), "output_dir")
    (tmp_path / "@old").mkdir()
    with pytest.raises(CineError, match=r'Write the path as "./@old".$'):
        check_path("input", type_in("input", "@old"), "input")


def test_values_from_a_program_are_not_compared_with_its_command_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["mine.py", "--input", "9"])
    check_path("input", ["a.nii", "b.nii"], "input")
    check_path("dataset_dir", None, "dataset_dir", optional=True)
    with pytest.raises(CineError, match=r"found None; expected a path, or a list of paths in brackets. Write it as"):
        check_path("input", None, "input")


def test_the_keys_of_paths():
    assert all(map(is_path, ("input", "work_dir", "exams#dataset_dir", "latency_file", "pretrained")))
    assert not any(map(is_path, ("paths", "fold", "existing")))
