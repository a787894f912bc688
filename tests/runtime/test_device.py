from __future__ import annotations

import psutil
import torch

from scripts.runtime import device
from scripts.runtime.device import available_memory, peak_memory


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
