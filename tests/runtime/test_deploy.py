from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.blocks import Convolution
from torch import nn

from scripts.core.errors import CineError
from scripts.runtime.deploy import Runtime, fold_norms
from scripts.runtime.device import describe_device
from scripts.runtime.inferer import CineInferer
from scripts.space.network import CineNet


@pytest.fixture
def network(architecture):
    network = CineNet(architecture)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):  # like after training: no norm is the identity
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def test_folded_network_equals_the_network(network):
    x = torch.randn(2, 1, 16, 16, 3)
    deployed = Runtime("cpu", "float32").deploy(network)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in deployed.modules())
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), network(x), rtol=1e-4, atol=1e-4)


def test_the_original_network_does_not_change(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    Runtime("cpu", "bfloat16").deploy(network)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert network.stems["0"].conv.weight.dtype == torch.float32


def test_half_precision_is_close(network):
    x = torch.randn(1, 1, 16, 16, 3)
    logits = Runtime("cpu", "bfloat16").deploy(network)(x)
    assert logits.dtype == torch.bfloat16
    with torch.no_grad():
        torch.testing.assert_close(logits.float(), network(x), rtol=0.1, atol=0.1)


def test_a_norm_without_a_convolution_before_it_stays():
    module = nn.Sequential(nn.ReLU(), nn.BatchNorm3d(2)).eval()
    assert isinstance(fold_norms(module)[1], nn.BatchNorm3d)


def test_descriptions_contain_all_settings_of_a_measurement():
    assert {"kind", "name", "units", "driver"} <= describe_device("cpu").keys()
    assert Runtime("cpu", "float32").describe()["dtype"] == "float32"
    assert Runtime("cpu").dtype in ("float32", "bfloat16")
    with pytest.raises(CineError, match="dtype: found 'int3'"):
        Runtime("cpu", "int3")


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_frames_go_through_the_network_one_by_one(network, frames):
    cine = MetaTensor(torch.randn(2, frames, 16, 16, 3))
    logits = CineInferer(amp=False, frames_at_once=2)(cine, network)
    assert logits.shape == (2, 4 * frames, 16, 16, 3)
    assert logits.dtype == torch.float32
    with torch.no_grad():
        for b in range(2):
            for t in range(frames):
                single = network(cine[b, t][None, None].as_tensor())[0]
                torch.testing.assert_close(logits[b, 4 * t : 4 * t + 4], single, rtol=1e-4, atol=1e-4)


def test_training_gradients_pass_the_inferer(architecture):
    network = CineNet(architecture)
    logits = CineInferer(amp=True)(torch.randn(1, 1, 16, 16, 2), network)
    logits.square().sum().backward()
    assert network.stems["0"].conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("ordering", ["NDA", "ADN"])
def test_a_norm_after_an_activation_is_not_folded(ordering):
    """Only in the first of these orders (apart from dropout) does the norm directly follow the convolution."""
    block = Convolution(3, 2, 3, act="relu", norm="batch", dropout=0.5, adn_ordering=ordering).eval()
    block.adn.N.running_mean.normal_()
    image = torch.randn(1, 2, 4, 4, 3)
    expected = block(image)
    torch.testing.assert_close(fold_norms(block)(image), expected, rtol=1e-4, atol=1e-4)
    assert isinstance(block.adn.N, nn.BatchNorm3d) == (ordering == "ADN")
