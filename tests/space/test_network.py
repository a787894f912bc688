from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn import functional as F

from scripts.space.architecture import Architecture
from scripts.space.network import MIN_SLICES, CineNet


@pytest.mark.parametrize("size", [(16, 16, 3), (17, 23, 1), (1, 1, 1), (40, 9, 21)])
def test_any_size_is_preserved(architecture, size):
    network = CineNet(architecture).eval()
    assert network(torch.randn(1, 1, *size)).shape == (1, 4, *size)


def test_padding_does_not_change_what_fits(architecture):
    """A volume of the right size, and the same volume as the corner of a larger one padded with zeros."""
    network = CineNet(architecture).eval()
    x = torch.randn(1, 1, 13, 16, 2)
    padded = F.pad(x, (0, 0, 0, 0, 0, 3))
    torch.testing.assert_close(network(x), network(padded)[:, :, :13])


def test_the_forward_pass_equals_a_walk_over_the_paths(architecture):
    """Tiles add what arrives: evaluated from the end by recursion, instead of by layer."""
    network = CineNet(architecture).double().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 1, 24, 16, MIN_SLICES, dtype=torch.float64)

    def run_cell(cell, x):
        nodes = architecture.cells[cell.kind]
        module = network.cells[cell.name]
        tensors = [x]
        for (j, _), operation in zip(nodes, module.operations, strict=True):
            tensors.append(operation(tensors[j]))
        return module.scaling(tensors[1:])

    def tile(layer, scale):
        if layer == 0:
            return network.stems["0"](x)
        arriving = [c for c in architecture.union if (c.layer, c.target) == (layer, scale)]
        return sum(run_cell(c, tile(layer - 1, c.source)) for c in arriving)

    torch.testing.assert_close(network(x), network.heads["0"](tile(4, 0)))


@pytest.mark.parametrize(
    ("depth", "index"), [(1, [0] * 5), (2, [0, 0, 1, 1, 1]), (3, [0, 0, 1, 2, 2]), (4, [0, 1, 2, 3, 3])]
)
def test_few_slices_are_padded_and_only_their_logits_returned(architecture, depth, index):
    network = CineNet(architecture).eval()
    x = torch.randn(1, 1, 24, 16, depth)
    before = index.index(1) - 1 if depth > 1 else 2
    expected = network(x[..., index])[..., before : before + depth]
    torch.testing.assert_close(network(x), expected)


def test_only_chosen_cells_have_weights(architecture):
    assert set(CineNet(architecture).cells) == {cell.name for cell in architecture.union}


def test_the_network_is_built_only_from_the_file(architecture, tmp_path):
    architecture.save(tmp_path / "architecture.json")
    network = CineNet(str(tmp_path / "architecture.json"))
    network.load_state_dict(CineNet(architecture).state_dict())


def test_a_stem_without_stride_works(architecture):
    from dataclasses import replace

    plain = Architecture(replace(architecture.space, stem_stride=1), architecture.cells, architecture.paths)
    assert CineNet(plain).eval()(torch.randn(1, 1, 18, 16, 2)).shape == (1, 4, 18, 16, 2)


def test_a_trace_is_also_valid_for_few_slices(architecture):
    """As TorchScript's users do: traced with ten slices, applied to fewer."""
    network = CineNet(architecture).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about tracing itself
        traced = torch.jit.trace(network, torch.randn(1, 1, 16, 16, 10), check_trace=False)
        for depth in (1, 2, 4, 7):
            x = torch.randn(1, 1, 24, 16, depth)
            torch.testing.assert_close(traced(x), network(x))


def test_torch_jit_script_equals_the_network_at_any_size(architecture, tmp_path):
    """As the model zoo's own script exports ``network_def``: without a trace option, and so without an example."""
    network = CineNet(architecture)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.jit.save(torch.jit.script(network), tmp_path / "model.ts")
    script = torch.jit.load(tmp_path / "model.ts")
    assert network.training and not script.training
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.eval()
    for size in ((16, 16, 3), (33, 41, 1), (5, 64, 9), (1, 1, 1)):
        x = torch.randn(2, 1, *size)
        torch.testing.assert_close(script(x), network(x))
