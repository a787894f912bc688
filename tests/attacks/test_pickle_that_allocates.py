"""Calls that ``weights_only`` allows and that use all memory: ``bytearray(10**12)``, ``torch.Tensor(10**12)``."""

from __future__ import annotations

import pytest
import torch

from scripts.core.errors import CineError

TERA = b"\x8a\x06" + (10**12).to_bytes(6, "little")


@pytest.mark.parametrize("call", ["__builtin__\nbytearray", "torch\nTensor", "torch._utils\n_rebuild_meta_tensor"])
def test_a_call_with_an_absurd_size(with_pickle, model_dir, opens, call):
    with_pickle(b"\x80\x02c" + call.encode() + b"\n" + TERA + b"\x85R.")
    with pytest.raises(CineError, match=f"a pickle that calls {call.split()[0]}"):
        opens(model_dir)


def test_a_storage_that_claims_more_than_its_entry_contains(repack, model_dir, opens):
    """Reading beyond the entry's bytes would copy the process's memory into the weights."""
    torch.save({"a": torch.zeros(4)}, model_dir / "model.pt")
    claim, absurd = b"K\x04tq\x07QK\x00K\x04", b"J\x00\x00\x00\x10tq\x07QK\x00K\x04"
    repack(lambda entries: [(entry, content.replace(claim, absurd)) for entry, content in entries])
    with pytest.raises(CineError, match="cannot be read"):
        opens(model_dir)
