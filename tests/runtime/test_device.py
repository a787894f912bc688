from __future__ import annotations

import psutil
import pytest
import torch

from scripts.runtime import device
from scripts.runtime.device import autocast, available_memory, peak_memory


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_autocast_only_where_bfloat16_is_native(monkeypatch, native, dtype):
    """Emulated, a search would take ten times as long and more."""
    monkeypatch.setattr(device, "has_native_bfloat16", lambda name: native)
    with autocast("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    with autocast("cpu", enabled=False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_available_memory_minds_the_control_group(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "GROUP", tmp_path)
    machine = available_memory("cpu")
    assert 0 < machine <= psutil.virtual_memory().total
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory("cpu") > 10_000
    (tmp_path / "memory.max").write_text("5000\n")
    assert available_memory("cpu") == 4000


def test_peak_memory_knows_what_was_freed():
    held = psutil.Process().memory_info().rss
    block = torch.ones(2**26)  # 256 MiB
    del block
    assert peak_memory("cpu")["process"] >= held + 2**27
