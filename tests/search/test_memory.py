from __future__ import annotations

import pytest
import torch

from scripts.core.errors import CineError
from scripts.runtime.device import has_native_bfloat16
from scripts.search import memory
from scripts.search.memory import FIXED, KEPT, fit_memory, step_memory
from scripts.search.relaxation import uniform_mixing
from scripts.space.space import Space
from scripts.space.supernet import Supernet


@pytest.fixture
def supernet(space) -> Supernet:
    return Supernet(space, partial=2)


def test_the_prediction_counts_tensors_kept_by_autograd(supernet):
    """At least every tensor that is kept for the backward pass, of the real network in real memory."""
    sizes: dict[int, int] = {}
    keep = []

    def pack(tensor):
        keep.append(tensor)
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = supernet(torch.randn(2, 1, 32, 32, 4), uniform_mixing(supernet.space))
    kept = sum(sizes.values()) + logits.nbytes
    living = (step_memory(supernet, 2, (32, 32, 4)) - FIXED) / KEPT
    assert kept < living < 2 * kept


def test_prediction_grows_with_patch_and_falls_with_recomputation_and_bfloat16(supernet):
    def above_fixed(patch, **options):
        return step_memory(supernet, 2, patch, **options) - FIXED

    once, twice = above_fixed((64, 64, 4)), above_fixed((64, 64, 8))
    assert twice == pytest.approx(2 * once, rel=0.05)
    assert above_fixed((64, 64, 4), amp=True) < 0.75 * once
    supernet.recompute = True
    assert above_fixed((64, 64, 4)) < once


def test_a_step_that_fits_keeps_its_activations(supernet, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 2**40)
    assert not fit_memory(supernet, 2, (16, 16, 3)).recompute


def test_a_step_recomputes_activations_if_it_fits_only_then(monkeypatch, caplog):
    space = Space(layers=6, scales=3, nodes=2, channels=8, deployment_size=(64, 64, 6))
    supernet = Supernet(space, partial=2)
    kept = step_memory(supernet, 2, (64, 64, 6), amp=has_native_bfloat16("cpu"))
    monkeypatch.setattr(memory, "available_memory", lambda device: kept - 1)
    with caplog.at_level("INFO"):
        assert fit_memory(supernet, 2, (64, 64, 6)).recompute
    assert "computed twice" in caplog.text


def test_an_error_for_a_step_that_cannot_fit_names_the_keys(supernet, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 2**20)
    with pytest.raises(CineError, match=r"2 patches of 16x16x3.*0.0 GiB.*search_batch_size") as error:
        fit_memory(supernet, 2, (16, 16, 3))
    assert "search_patch_size" in str(error.value)


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2"])
def test_an_invalid_batch_size_is_refused(supernet, batch):
    with pytest.raises(CineError, match="search_batch_size: found"):
        fit_memory(supernet, batch, (16, 16, 3))


@pytest.mark.parametrize("patch", [(16, 16), (16, 16, 0), "96", 96, (16, 16, 2.5)])
def test_an_invalid_patch_is_refused(supernet, patch):
    with pytest.raises(CineError, match="search_patch_size: found"):
        fit_memory(supernet, 2, patch)


def test_a_frozen_supernet_needs_as_much(supernet):
    before = step_memory(supernet, 2, (16, 16, 3))
    assert step_memory(supernet.requires_grad_(False), 2, (16, 16, 3)) == before
