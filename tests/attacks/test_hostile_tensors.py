"""Weights with shapes or types that do not fit a network."""

from __future__ import annotations

import pytest
import torch

from scripts.core.errors import CineError
from scripts.space.network import CineNet
from scripts.train import checkpoint

TENSORS = {
    "a shape of terabytes over four bytes": (lambda: torch.zeros(1).expand(2**40), "with too few bytes of storage"),
    "no memory at all": (lambda: torch.zeros(2**40, device="meta"), "a pickle that calls"),
    "sparse": (lambda: torch.sparse_coo_tensor([[0]], [1.0], (2**50,), check_invariants=True), "a pickle that calls"),
    "complex": (lambda: torch.zeros(4, dtype=torch.complex64), "a pickle that calls"),
    "another shape": (lambda: torch.zeros(2, 2), "weights of another network"),
    "no numbers": (lambda: torch.zeros(0), "weights of another network"),
    "text": (lambda: "weights", "weights of another network"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_an_invalid_weight(model_dir, opens, architecture, name):
    make, found = TENSORS[name]
    torch.save({**CineNet(architecture).state_dict(), "stem.0.weight": make()}, model_dir / "model.pt")
    with pytest.raises(CineError, match=found):
        opens(model_dir)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(model_dir, opens, architecture, number):
    state = CineNet(architecture).state_dict()
    state["heads.0.conv.bias"] = torch.full_like(state["heads.0.conv.bias"], number)
    torch.save(state, model_dir / "model.pt")
    with pytest.raises(CineError, match="not finite"):
        opens(model_dir)


@pytest.mark.parametrize("content", [[], torch.zeros(3), None, 3, "text", {}, {3: torch.zeros(3)}, {"a": {"b": 1}}])
def test_a_file_that_is_not_a_state_dict(model_dir, opens, content):
    torch.save(content, model_dir / "model.pt")
    with pytest.raises(CineError):
        opens(model_dir)


@pytest.mark.parametrize("key", [(1, 2), None, 1.5])
def test_a_key_that_is_not_text(model_dir, opens, key):
    torch.save({key: torch.zeros(1)}, model_dir / "model.pt")
    with pytest.raises(CineError, match="a key that is neither text nor a number"):
        opens(model_dir)


def test_an_optimiser_state_that_would_grow_when_it_is_copied(tmp_path):
    """load_state_dict converts it to the parameter's type, and so allocates its full shape."""
    parts = {"optimizer": {"state": {0: {"exp_avg": torch.zeros(1, dtype=torch.float64).expand(2**40)}}}}
    torch.save({"identity": {}, "parts": parts}, tmp_path / "checkpoint.pt")
    with pytest.raises(CineError, match="with too few bytes of storage"):
        checkpoint.load(tmp_path / "checkpoint.pt", "cpu", {})


def test_a_flipped_bit(model_dir, opens):
    """torch's own reader does not verify the archive's checksums."""
    path = model_dir / "model.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CineError, match="a wrong checksum"):
        opens(model_dir)
