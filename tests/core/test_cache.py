"""The folder for files that can be made again, also without a home."""

from __future__ import annotations

import os
import pwd
from unittest.mock import Mock

import pytest

from scripts.core import cache


@pytest.fixture(params=["unknown user", "a file in its place", "no right to write"])
def no_cache(request, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if request.param == "unknown user":
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", Mock(side_effect=KeyError("uid not found")))
    elif request.param == "a file in its place":
        (tmp_path / "home").write_text("")
    else:
        monkeypatch.setattr(cache.tempfile, "TemporaryFile", Mock(side_effect=PermissionError(13, "Permission denied")))
    cache._folder.cache_clear()
    yield
    cache._folder.cache_clear()


def test_without_a_cache_a_temporary_folder_is_used_and_logged_once(no_cache, caplog, tmp_path):
    path = cache.cached("phantom")
    path.write_text("whole")
    assert cache.cached("phantom") == path and cache.cached("other").parent == path.parent
    assert caplog.text.count("The cache folder cannot be used") == 1
    assert not path.is_relative_to(tmp_path / "home")


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_the_cache_of_the_user(tmp_path, monkeypatch, variable, caplog):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    folder = tmp_path / "rtdnas" if variable == "XDG_CACHE_HOME" else tmp_path / ".cache" / "rtdnas"
    assert cache.cached("a") == folder / "a" and os.listdir(folder) == []
    assert not caplog.text


def test_an_existing_cache_is_read_from_a_read_only_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "rtdnas" / "phantom").mkdir(parents=True)
    monkeypatch.setattr(cache.tempfile, "TemporaryFile", Mock(side_effect=PermissionError(13, "Permission denied")))
    assert cache.cached("phantom") == tmp_path / "rtdnas" / "phantom"
