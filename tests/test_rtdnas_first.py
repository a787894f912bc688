"""The bundle's own package ``scripts`` is used, even if the user's folder has one of that name."""

from __future__ import annotations

import importlib
import importlib.util
import sys

import pytest
import rtdnas_first

from scripts import BUNDLE_ROOT


@pytest.fixture(params=["scripts.py", "scripts/__init__.py", "scripts/mine.py"])
def project(request, tmp_path, monkeypatch):
    """A user's folder with a module, package or namespace of our name, first on the path."""
    path = tmp_path / request.param
    path.parent.mkdir(exist_ok=True)
    path.write_text("x = 1\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if p != str(BUNDLE_ROOT)), str(BUNDLE_ROOT)])
    importlib.invalidate_caches()
    return tmp_path


def test_the_bundle_s_package_is_preferred_to_one_in_the_user_s_folder(project, caplog):
    rtdnas_first.prefer_own_package()
    assert importlib.import_module("scripts").BUNDLE_ROOT == BUNDLE_ROOT
    importlib.import_module("scripts.core.files")
    assert not caplog.text


def test_the_bundle_s_package_replaces_an_imported_one_with_a_warning(project, caplog, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(BUNDLE_ROOT)])
    other = importlib.import_module("scripts")
    rtdnas_first.prefer_own_package()
    assert importlib.import_module("scripts").BUNDLE_ROOT == BUNDLE_ROOT
    assert str(project) in caplog.text and "is replaced by that of the bundle" in caplog.text
    assert not hasattr(other, "BUNDLE_ROOT")


def test_a_bundle_of_links_into_a_store_finds_itself_among_the_links(tmp_path):
    blob, link = tmp_path / "blobs" / "0a1b", tmp_path / "snapshot" / "scripts" / "__init__.py"
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    blob.write_text((BUNDLE_ROOT / "scripts" / "__init__.py").read_text())
    link.symlink_to(blob)
    spec = importlib.util.spec_from_file_location("linked", link)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert tmp_path / "snapshot" == module.BUNDLE_ROOT
