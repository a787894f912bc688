"""An archive with entries that would be unpacked elsewhere. Nothing here unpacks one, but it is refused anyway."""

from __future__ import annotations

import stat
import zipfile

import pytest

from scripts.core.errors import CineError


@pytest.mark.parametrize(
    "name", ["../evil", "model/../../evil", "/etc/evil", "model//evil", "model/..\\evil", "C:\\evil", "model/./evil"]
)
def test_a_path_that_leads_elsewhere(repack, model_dir, opens, name):
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    repack(lambda entries: [*entries, (entry, b"evil")])
    with pytest.raises(CineError, match=r"an archive (with the path|of other entries)"):
        opens(model_dir)


def test_a_link(repack, model_dir, opens):
    def add(entries):
        link = zipfile.ZipInfo(entries[0][0].filename.partition("/")[0] + "/data/999")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        return [*entries, (link, b"/etc/passwd")]

    repack(add)
    with pytest.raises(CineError, match="an archive with a link"):
        opens(model_dir)


def test_a_repeated_entry(repack, model_dir, opens):
    """The checked entry must be the loaded one: torch ignores the case of entry names."""

    def add(entries):
        name = next(entry.filename for entry, _ in entries if entry.filename.endswith("data.pkl"))
        return [*entries, (zipfile.ZipInfo(name.upper().replace(*reversed(_top(name)))), b"\x80\x02}.")]

    repack(add)
    with pytest.raises(CineError, match="an archive with entries that torch does not write"):
        opens(model_dir)


def _top(name):
    folder = name.partition("/")[0]
    return folder, folder.upper()


def test_an_archive_after_another_file(model_dir, opens):
    path = model_dir / "model.pt"
    path.write_bytes(b"PK\x03\x04" + bytes(60) + path.read_bytes())
    with pytest.raises(CineError, match="an archive with entries that torch does not write"):
        opens(model_dir)
