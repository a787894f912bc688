from __future__ import annotations

import os
import shutil
import zipfile

import pytest

from release.pack import NAME, files_of, pack
from scripts import BUNDLE_ROOT
from scripts.core import manifest
from scripts.core.errors import CineError

MAX_BYTES = 25e6  # bytes of a file in the model zoo; larger ones must be listed in large_files.yml


@pytest.fixture
def checkout(tmp_path):
    """Copies the bundle as if another user had checked it out."""

    def copy(name, umask):
        before = os.umask(umask)
        try:
            ignored = shutil.ignore_patterns("__pycache__")
            return shutil.copytree(BUNDLE_ROOT, tmp_path / name, ignore=ignored, copy_function=shutil.copyfile)
        finally:
            os.umask(before)

    return copy


def test_two_checkouts_give_the_same_bytes(checkout, tmp_path):
    mine, yours = checkout("mine", 0o022), checkout("yours", 0o077)
    os.utime(yours / "LICENSE", (2e9, 2e9))
    (yours / "scripts" / "__pycache__").mkdir()
    (yours / "scripts" / "__pycache__" / "files.pyc").write_text("cache")
    (yours / ".DS_Store").write_text("hidden")
    first, second = pack(tmp_path / "one", mine), pack(tmp_path / "two", yours)
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_one_top_folder_holds_every_file(checkout, tmp_path):
    bundle = checkout("bundle", 0o022)
    path = pack(tmp_path, bundle)
    assert path.name == f"{NAME}_v0.2.0.zip"
    shutil.unpack_archive(path, tmp_path / "unpacked")
    assert [folder.name for folder in (tmp_path / "unpacked").iterdir()] == [NAME]
    unpacked = tmp_path / "unpacked" / NAME
    for name in (
        "LICENSE",
        "configs/metadata.json",
        "configs/inference.json",
        "docs/README.md",
        "docs/data_license.txt",
    ):
        assert (unpacked / name).read_bytes() == (bundle / name).read_bytes()
    assert len(files_of(unpacked)) == len(files_of(bundle)) > 100
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}


def test_a_model_is_packed_with_its_manifest_or_not_at_all(checkout, tmp_path):
    bundle = checkout("bundle", 0o022)
    (bundle / "models" / manifest.NAME).unlink(missing_ok=True)
    (bundle / "models" / "model.pt").write_text("weights")
    with pytest.raises(CineError, match="Run make manifest"):
        pack(tmp_path, bundle)
    manifest.write(bundle / "models")
    with zipfile.ZipFile(pack(tmp_path, bundle)) as archive:
        assert {f"{NAME}/models/model.pt", f"{NAME}/models/{manifest.NAME}"} <= set(archive.namelist())
    (bundle / "models" / "model.pt").write_text("others")
    with pytest.raises(CineError, match="found SHA-256"):
        pack(tmp_path, bundle)


def test_a_link_is_refused(checkout, tmp_path):
    bundle = checkout("bundle", 0o022)
    (bundle / "docs" / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(CineError, match="found a link"):
        pack(tmp_path, bundle)


def test_no_file_needs_to_be_kept_out_of_the_zoo_s_repository():
    assert max(path.stat().st_size for path in files_of(BUNDLE_ROOT)) < MAX_BYTES
