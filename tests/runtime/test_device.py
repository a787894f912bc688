from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import psutil
import pytest
import torch

from scripts.runtime import device
from scripts.runtime.device import available_memory, peak_memory


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A tree of control groups instead of the system's: a call adds a group and makes it this process's group."""
    monkeypatch.setattr(device, "GROUP", tmp_path)
    monkeypatch.setattr(device, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**9))

    def add(folder, member=None, **files):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (tmp_path / folder / f"memory.{name}").write_text(f"{content}\n")
        if member is not None:
            (tmp_path / "membership").write_text(member)

    return add


@pytest.mark.parametrize("member", [None, "0::/\n", "0::/../elsewhere\n", "4:memory:/docker/0a1b\n0::/\n", "no group"])
def test_available_memory_respects_the_limit_of_a_container(groups, member):
    assert available_memory("cpu") == 10**9
    groups(".", member, max="max", current=1000)
    assert available_memory("cpu") == 10**9
    groups(".", max=5000)
    assert available_memory("cpu") == 4000
    groups(".", stat="anon 400\ninactive_file 600\nactive_file 7")
    assert available_memory("cpu") == 4600
    groups(".", high=1500)
    assert available_memory("cpu") == 1100
    groups(".", high=100)
    assert available_memory("cpu") == 0
    groups("memory", limit_in_bytes=9223372036854771712, usage_in_bytes=1000)
    assert available_memory("cpu") == 0


@pytest.mark.parametrize(("root", "member"), [(".", "0::/a/b\n"), ("unified", "1:cpu:/\n0::/a/b\n")])
def test_the_tightest_of_nested_groups_counts(groups, root, member):
    groups(f"{root}/a/b", member, max=9000, current=1000)
    assert available_memory("cpu") == 8000
    groups(f"{root}/a", max=9000, current=2000)
    assert available_memory("cpu") == 7000
    groups(f"{root}/a/b/c", max=10, current=0)  # of another process
    groups(f"{root}/c", max=10, current=0)
    assert available_memory("cpu") == 7000


def test_groups_of_version_1(groups):
    statistics = "inactive_file 5\ntotal_inactive_file 300"
    groups("memory/a", "4:cpu,memory:/a/b\n0::/\n", limit_in_bytes=9000, usage_in_bytes=1000, stat=statistics)
    assert available_memory("cpu") == 8300
    groups("memory/a/b", limit_in_bytes=2000, usage_in_bytes=500)
    assert available_memory("cpu") == 1500


@pytest.mark.parametrize("missing", ["/proc", "/proc and resource"])
def test_peak_memory_on_other_systems(monkeypatch, missing):
    """macOS has no /proc; Windows also has no module resource."""
    here = peak_memory("cpu")["process"] if missing == "/proc" else psutil.Process().memory_info().rss
    monkeypatch.setattr(Path, "read_text", Mock(side_effect=FileNotFoundError))
    if missing != "/proc":
        monkeypatch.setitem(sys.modules, "resource", None)
    assert here / 4 < peak_memory("cpu")["process"] < 4 * here


def test_peak_memory_accounts_for_freed_tensors():
    block = torch.ones(2**26)  # 256 MiB, perhaps in memory that other tests have freed
    with_block = psutil.Process().memory_info().rss
    del block
    assert peak_memory("cpu")["process"] >= with_block - 2**24  # the kernel counts pages in batches
