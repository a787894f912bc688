"""A folder of shipped models that was changed."""

from __future__ import annotations

import os
import subprocess

import pytest

from scripts.core import manifest
from scripts.core.errors import CineError


@pytest.fixture
def shipped(model_dir):
    manifest.write(model_dir)
    return model_dir


def test_an_unchanged_folder_is_accepted(shipped, opens):
    opens(shipped)
    manifest.verify(shipped)


def test_the_manifest_can_be_checked_without_this_code(shipped):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", manifest.NAME], cwd=shipped, check=True)


@pytest.mark.parametrize("name", manifest.MODEL_FILES)
def test_a_changed_file(shipped, opens, name):
    content = bytearray((shipped / name).read_bytes())
    content[len(content) // 2] ^= 1
    (shipped / name).write_bytes(content)
    with pytest.raises(CineError, match=f"{name}: found SHA-256"):
        opens(shipped)


@pytest.mark.parametrize("name", manifest.MODEL_FILES)
def test_a_missing_file(shipped, opens, name):
    (shipped / name).unlink()
    with pytest.raises(CineError, match=f"{name}: found no such file; expected the file that SHA256SUMS lists"):
        opens(shipped)


@pytest.mark.parametrize("name", manifest.MODEL_FILES)
def test_a_file_that_is_not_listed(shipped, opens, name):
    path = shipped / manifest.NAME
    path.write_text("".join(line for line in path.read_text().splitlines(True) if name not in line))
    with pytest.raises(CineError, match=f"{name}: found a file that SHA256SUMS does not list"):
        opens(shipped)


def test_links_count_as_their_targets(shipped, opens, tmp_path_factory):
    """Hubs, DVC and git-annex keep every file as a link into a store."""
    store = tmp_path_factory.mktemp("store")
    for path in list(shipped.iterdir()):
        path.rename(store / path.name)
        path.symlink_to(store / path.name)
    opens(shipped)
    with (store / "model.pt").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(CineError, match=r"model\.pt: found SHA-256"):
        opens(shipped)
    (store / "model.pt").unlink()
    with pytest.raises(CineError, match=r"model\.pt: found a link that leads nowhere.*dvc pull, git annex get"):
        opens(shipped)


@pytest.mark.parametrize(
    "line", ["../model.pt", "/etc/passwd", "sub/model.pt", "", "model.pt\nmodel.pt", "-rf", ".hidden", "a b", "a\\b"]
)
def test_a_manifest_that_names_other_folders(shipped, opens, line):
    text = "".join(f"{'0' * 64}  {name}\n" for name in line.split("\n"))
    (shipped / manifest.NAME).write_text(text)
    with pytest.raises(CineError):
        opens(shipped)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\n", b"0" * 10_000_000])
def test_an_invalid_manifest(shipped, opens, content):
    (shipped / manifest.NAME).write_bytes(content)
    with pytest.raises(CineError, match="lines in another format"):
        opens(shipped)


def test_a_pipe_instead_of_a_manifest(shipped, opens):
    (shipped / manifest.NAME).unlink()
    os.mkfifo(shipped / manifest.NAME)
    with pytest.raises(CineError, match="a pipe or a device"):
        opens(shipped)


def test_the_bundle_s_own_models_need_a_manifest(model_dir, opens, monkeypatch):
    opens(model_dir)  # a user's own training needs no manifest
    monkeypatch.setattr(manifest, "SHIPPED", model_dir)
    with pytest.raises(CineError, match="SHA256SUMS: found no such file"):
        opens(model_dir)


def test_a_manifest_is_written_only_for_models(tmp_path):
    with pytest.raises(CineError, match="no model"):
        manifest.write(tmp_path)
    (tmp_path / "model.pt").write_text("")
    (tmp_path / "a b").write_text("")
    with pytest.raises(CineError, match="a name that the manifest does not allow"):
        manifest.write(tmp_path)


def test_a_training_that_replaces_shipped_models_updates_their_manifest(shipped, tmp_path):
    (shipped / "model.pt").write_bytes(b"trained")
    (shipped / "run.json").write_text("{}")
    with pytest.raises(CineError, match="SHA-256"):
        manifest.verify(shipped)
    manifest.renew(shipped)
    manifest.verify(shipped)
    assert "run.json" not in (shipped / manifest.NAME).read_text()  # since the next training writes it again
    manifest.renew(tmp_path / "work_dir")  # without a manifest: does nothing
    assert not (tmp_path / "work_dir").exists()
