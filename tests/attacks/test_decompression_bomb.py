"""A small archive with large contents. For a NIfTI larger than its header's claim see tests/cine/test_reader.py."""

from __future__ import annotations

import zipfile

import pytest

from scripts.core.errors import CineError


def test_a_storage_a_thousand_times_its_size(repack, model_dir, opens):
    def inflate(entries):
        for entry, content in entries:
            if entry.filename.endswith("/data/0"):
                entry.compress_type, content = zipfile.ZIP_DEFLATED, bytes(32 * 2**20)
            yield entry, content

    path = repack(inflate)
    assert path.stat().st_size < 2**18
    with pytest.raises(CineError, match="compressed or encrypted"):
        opens(model_dir)


def test_entries_that_share_their_bytes(repack, model_dir, opens):
    """Without compression: many entries of the directory that refer to the same bytes of the file."""
    path = repack(lambda entries: [(e, bytes(2**20) if e.filename.endswith("/data/0") else c) for e, c in entries])
    with zipfile.ZipFile(path, "a") as archive:
        first = next(entry for entry in archive.infolist() if entry.filename.endswith("/data/0"))
        for number in range(1000, 1100):
            again = zipfile.ZipInfo(first.filename.replace("/data/0", f"/data/{number}"))
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(again, name, getattr(first, name))
            archive.filelist.append(again)
        archive._didModify = True
    with pytest.raises(CineError, match="entries are larger than the archive"):
        opens(model_dir)


def test_a_file_beyond_what_any_model_needs(model_dir, opens):
    with (model_dir / "model.pt").open("r+b") as file:
        file.truncate(2**42)  # sparse: it needs no space
    with pytest.raises(CineError, match="above the limit of 4"):
        opens(model_dir)
