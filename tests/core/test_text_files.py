"""Lists in the formats of other programs give the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.core.errors import CineError
from scripts.core.json_files import read_json
from scripts.core.text_files import listed_paths, located

PLAIN = "# exams\r\na.nii.gz\r\n\r\nb c.nii.gz\r\n"


def names(path: Path) -> list[str]:
    return [str(found.relative_to(path.parent)) for _, found in listed_paths(path)]


@pytest.fixture
def folder(tmp_path):
    for name in ("a.nii.gz", "b c.nii.gz", "sub/a,b.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-16-le"),
        b"\"a.nii.gz\"\n'b c.nii.gz'\n",
        b"Image\na.nii.gz\nb c.nii.gz\n",
        b"patient,image\n1,a.nii.gz\n2,b c.nii.gz\n",
        b'patient;"image"\r\n"1; 2";a.nii.gz\r\n2;"b c.nii.gz"\r\n',
        b"path\tlabel\na.nii.gz\t\nb c.nii.gz\tc.nii.gz\n",
    ],
    ids=["crlf", "mark", "utf16", "utf16be", "utf16bare", "quotes", "header", "commas", "semicolons", "tabs"],
)
def test_every_notation_of_a_list_gives_the_same_files(folder, content):
    (folder / "list.txt").write_bytes(content)
    assert names(folder / "list.txt") == ["a.nii.gz", "b c.nii.gz"]


def test_a_name_with_a_comma_is_not_a_table(folder):
    (folder / "list.txt").write_text("sub\\a,b.nii.gz\na.nii.gz\n")
    assert names(folder / "list.txt") == ["sub/a,b.nii.gz", "a.nii.gz"]


def test_home_folder_and_backslashes_are_resolved_unless_a_file_has_that_name(folder, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/the/user")
    assert located("~/a.nii", folder) == Path("/home/of/the/user/a.nii")
    assert located(r"sub\a,b.nii.gz", folder) == folder / "sub" / "a,b.nii.gz"
    (folder / r"sub\a,b.nii.gz").touch()
    assert located(r"sub\a,b.nii.gz", folder).name == r"sub\a,b.nii.gz"


def test_a_file_that_is_not_a_list_is_reported(folder):
    path = folder / "list.txt"
    path.write_bytes("Müller/a.nii.gz\n".encode("latin-1"))
    with pytest.raises(
        CineError, match=r"cannot be read as text .*; expected a list of paths, as text in UTF-8 or UTF"
    ):
        listed_paths(path)
    path.write_text("patient,image\n1\n")
    with pytest.raises(
        CineError, match=r"list.txt, line 2: found 1 columns; expected 2 or more, since column 2 is image"
    ):
        listed_paths(path)
    with path.open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(CineError, match=r"found a file that is too large; expected a list of paths.*at most 16 MiB"):
        listed_paths(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_json_is_read_in_the_encodings_of_windows(tmp_path, encoding):
    (tmp_path / "list.json").write_text('{"training": ["é"]}', encoding=encoding)
    assert read_json(tmp_path / "list.json", {"type": "object"}, "") == {"training": ["é"]}
