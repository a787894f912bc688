import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from scripts.core.errors import CineError
from scripts.runtime.deploy import Runtime
from scripts.runtime.quantization import QuantizedConv, observe, quantizable, quantize
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.space.operations import PointwiseSum
from scripts.space.space import Space


@pytest.fixture
def network():
    """All kinds of convolutions of a derived network, with non-trivial statistics in its norms."""
    torch.manual_seed(0)
    space = Space(layers=2, scales=2, nodes=2, channels=8, deployment_size=(16, 16, 4))
    convolutions = ((0, "conv_3x3x3"), (1, "separable_conv_3x3x3"))
    cells = {"contracting": convolutions, "non_scaling": ((0, "dilated_conv_3x3x3"),) * 2, "expanding": convolutions}
    network = CineNet(Architecture(space, cells, ((0, 1, 0), (0, 0, 0)))).train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(2, 1, 16, 16, 4))
    return network.eval()


def test_a_convolution_equals_one_in_integers():
    torch.manual_seed(0)
    conv = nn.Conv3d(2, 3, 3, padding=1)
    x = torch.rand(1, 2, 5, 4, 6) * 3 - 1  # -1 to 2
    step = 3 / 255
    zero = round(1 / step)
    integers = np.clip(np.rint(x[0].numpy() / np.float32(step)) + zero, 0, 255).astype(np.int64) - zero
    weight = conv.weight.detach().numpy()
    expected = np.zeros((3, 5, 4, 6))
    for channel, kernel in enumerate(weight):
        of_channel = np.abs(kernel).max() / 127
        whole = np.rint(kernel / of_channel).astype(np.int64)
        total = sum(ndimage.correlate(a, b, mode="constant") for a, b in zip(integers, whole, strict=True))
        expected[channel] = total * step * of_channel + float(conv.bias.detach()[channel])
    found = QuantizedConv(conv, -1.0, 2.0)(x)[0].detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_values_beyond_the_range_are_clipped():
    conv = nn.Conv3d(1, 1, 1, bias=False)
    conv.weight.data.fill_(1.0)
    found = QuantizedConv(conv, 0.0, 1.0)(torch.tensor([-5.0, 0.5, 7.0]).view(1, 1, 3, 1, 1))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 0.5, 1.0]), atol=0.5 / 255, rtol=0)


def test_observed_ranges_are_the_minimum_and_maximum_over_all_images():
    layers = nn.Sequential(nn.Conv3d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv3d(2, 2, 3))
    layers[0].weight.data = torch.tensor([2.0, -1.0]).view(2, 1, 1, 1, 1)
    images = [torch.full((1, 1, 3, 3, 3), value) for value in (1.0, -4.0, 0.5)]
    assert observe(layers, images) == {"2": (0.0, 4.0)}  # 2 x 1, -1 x -4, and never below 0 after ReLU


def test_a_folded_norm_leaves_names_and_ranges_as_they_are(network):
    images = [torch.randn(1, 1, 16, 16, 4)]
    folded = Runtime().deploy(network).network
    before, after = observe(network, images), observe(folded, images)
    assert before.keys() == after.keys() == quantizable(network).keys()
    assert len(before) == 12  # four cells, each with two nodes (the first step of separable ones) and the scaling
    for name, ends in before.items():
        assert after[name] == pytest.approx(ends, abs=1e-4)


def test_stem_head_and_single_voxel_convolutions_are_not_rounded(network):
    names = quantizable(network)
    assert not any(name.startswith(("stems", "heads")) or name.endswith("operations.1.2") for name in names)


def test_a_sum_of_convolutions_is_rounded_part_by_part():
    torch.manual_seed(0)
    whole = PointwiseSum(4, 3)
    parts = [torch.rand(1, 2, 3, 3, 2), torch.rand(1, 2, 3, 3, 2) - 1]
    (ends,) = observe(whole, [parts]).values()
    assert ends == (float(parts[1].min()), float(parts[0].max()))
    plain = nn.Conv3d(4, 3, 1, bias=False)
    plain.weight = whole.weight
    rounded = QuantizedConv(whole, -1.0, 1.0)(parts)
    torch.testing.assert_close(rounded, QuantizedConv(plain, -1.0, 1.0)(torch.cat(parts, 1)))
    assert not torch.equal(rounded, whole(parts))


@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_the_deployed_int8_network_is_close_but_not_equal(network, backend):
    image = torch.randn(1, 1, 16, 16, 4)
    network.activations = observe(network, [image])
    with torch.no_grad():
        exact = network(image)
    found = Runtime("cpu", "int8", backend).deploy(network)(image)
    error = float((found - exact).abs().mean() / exact.abs().mean())
    assert 1e-4 < error < 0.05


def test_backends_agree_in_integers(network):
    image = torch.randn(1, 1, 16, 16, 4)
    network.activations = observe(network, [image])
    eager, openvino = (Runtime("cpu", "int8", name).deploy(network)(image) for name in ("eager", "openvino"))
    assert float((eager - openvino).abs().mean() / eager.abs().mean()) < 0.01


def test_trained_ranges_are_used_instead_of_the_image_s(network):
    image = torch.randn(1, 1, 16, 16, 4)
    runtime = Runtime("cpu", "int8", "eager")
    untrained = runtime.deploy(network)(image)
    network.activations = {name: (0.0, 1e-3) for name in quantizable(network)}
    assert not torch.allclose(untrained, runtime.deploy(network)(image), atol=1e-3)


def test_weights_without_ranges_are_refused(network):
    network.activations = {}
    with pytest.raises(CineError, match=r"no activations.*--precision auto"):
        Runtime("cpu", "int8", "eager").deploy(network)


def test_unobserved_convolutions_stay_exact(network):
    image = torch.randn(1, 1, 16, 16, 4)
    exact = network(image)
    torch.testing.assert_close(quantize(network, {})(image), exact)
