from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from scripts.core.errors import CineError
from scripts.space.fused import refuse_unknown
from scripts.space.operations import Scaling, build_operation, search_norm, upsample_in_plane
from scripts.space.registry import OPERATIONS, PARAMETER_FREE, REGISTRY, Operation


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_every_operation_keeps_the_shape(name, depth):
    x = torch.randn(2, 4, 7, 6, depth)
    operation = build_operation(name, 4)
    assert operation(x).shape == x.shape
    assert (sum(p.numel() for p in operation.parameters()) == 0) == (name in PARAMETER_FREE)


@pytest.mark.parametrize(
    ("name", "reach"),
    [
        ("conv_3x3x3", (1, 1, 1)),
        ("dilated_conv_3x3x3", (2, 2, 2)),
        ("separable_conv_3x3x3", (1, 1, 1)),
        ("conv_3x3x1", (1, 1, 0)),
    ],
)
def test_receptive_fields(name, reach):
    operation = build_operation(name, 4).eval()
    x = torch.rand(1, 4, 9, 9, 9, requires_grad=True)
    operation(x)[0, 0, 4, 4, 4].backward()
    seen = x.grad.abs().sum((0, 1)).nonzero()
    assert tuple((seen.max(0).values - 4).tolist()) == reach


@pytest.mark.parametrize(
    ("kind", "shape"), [("contracting", (4, 3, 5)), ("non_scaling", (8, 6, 5)), ("expanding", (16, 12, 5))]
)
def test_scaling_is_only_in_plane(kind, shape):
    x = torch.randn(1, 6, 8, 6, 5)
    assert Scaling(kind, 6, 3)([x]).shape == (1, 3, *shape)


@pytest.mark.parametrize("kind", ["contracting", "non_scaling", "expanding"])
def test_scaling_convolves_the_concatenation_of_the_nodes(kind):
    """As in the paper: concatenate, then (pool,) convolve, normalise (and upsample)."""
    scaling = Scaling(kind, 6, 5).double().train()
    nodes = [torch.randn(2, 2, 8, 6, 3, dtype=torch.float64) for _ in range(3)]
    x = torch.cat(nodes, 1)
    x = F.max_pool3d(x, (2, 2, 1)) if kind == "contracting" else x
    x = scaling.norm(F.conv3d(x, scaling.conv.weight))
    expected = F.interpolate(x, scale_factor=(2.0, 2.0, 1.0), mode="trilinear") if kind == "expanding" else x
    torch.testing.assert_close(scaling(nodes), expected)


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated
def test_an_exported_graph_upsamples_without_permutations():
    """After a permutation, engines continue in a layout in which pooling takes four times as long."""
    traced = torch.jit.trace(lambda x: upsample_in_plane(x, 2), torch.randn(1, 2, 4, 4, 3))
    kinds = {node.kind() for node in traced.graph.nodes()}
    assert "aten::upsample_trilinear3d" in kinds
    assert "aten::permute" not in kinds
    x = torch.randn(1, 2, 4, 4, 3)
    torch.testing.assert_close(traced(x), upsample_in_plane(x, 2))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_upsampling_is_bilinear_per_slice(memory_format):
    x = torch.randn(2, 3, 5, 4, 6, dtype=torch.float64).to(memory_format=memory_format)
    slices = [F.interpolate(x[..., d], scale_factor=2, mode="bilinear", align_corners=False) for d in range(6)]
    torch.testing.assert_close(upsample_in_plane(x, 2), torch.stack(slices, dim=-1))


def test_the_search_norm_has_no_state():
    norm = search_norm(4)
    assert not list(norm.parameters())
    assert not list(norm.buffers())


def test_the_supernet_refuses_operations_that_it_cannot_compute(monkeypatch):
    """The fused sums cannot represent a second pooling, or a pooling with another kernel."""
    monkeypatch.setitem(REGISTRY, "max_pool_3x3x1", Operation("pooling", "#000000", (3, 3, 1)))
    for names in (("conv_3x3x3", "max_pool_3x3x1"), ("conv_3x3x3", "max_pool_3x3x3", "max_pool_3x3x1")):
        with pytest.raises(CineError, match="space#operations: found max_pool_3x3x1"):
            refuse_unknown(names)
    refuse_unknown(tuple(name for name in REGISTRY if name != "max_pool_3x3x1"))
