from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from scripts.runtime import precision
from scripts.runtime.precision import autocast, bfloat16_pays


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bfloat16_pays.cache_clear()
    yield
    bfloat16_pays.cache_clear()


@pytest.mark.parametrize(("pays", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_autocast_only_where_bfloat16_pays(monkeypatch, pays, dtype):
    """With emulation, a search would take at least ten times as long."""
    monkeypatch.setattr(precision, "bfloat16_pays", lambda device: pays)
    with autocast("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    with autocast("cpu", enabled=False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(("bfloat16_ms", "pays"), [(0.9, True), (1.3, False)])
def test_a_processor_with_bfloat16_must_also_be_faster_in_it(monkeypatch, bfloat16_ms, pays):
    monkeypatch.setattr(precision, "has_native_bfloat16", lambda device: True)
    monkeypatch.setattr(precision, "_time_training", lambda: {"float32": 1.0, "bfloat16": bfloat16_ms})
    assert bfloat16_pays("cpu") is pays
    # another process reads this measurement, so that a resumed run continues in the same precision
    bfloat16_pays.cache_clear()
    monkeypatch.setattr(precision, "_time_training", lambda: {"float32": 1.0, "bfloat16": 2.2 - bfloat16_ms})
    assert bfloat16_pays("cpu") is pays


def test_nothing_is_timed_if_bfloat16_is_emulated(monkeypatch):
    monkeypatch.setattr(precision, "has_native_bfloat16", lambda device: False)
    monkeypatch.setattr(precision, "_time_training", lambda: pytest.fail("timed"))
    assert bfloat16_pays("cpu") is False


@pytest.mark.parametrize("context", [nullcontext, torch.no_grad, torch.inference_mode])
def test_both_precisions_are_timed_for_real(context):
    """Also during an inference, which may be the first caller."""
    before = torch.get_rng_state()
    with context():
        median_ms = precision._time_training()
    assert torch.equal(torch.get_rng_state(), before), "what follows would depend on the cache"
    assert median_ms.keys() == {"float32", "bfloat16"}
    assert all(ms > 0 for ms in median_ms.values())
