"""Every network that an overlay uses instead of CineNet."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial
from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import DynUNet
from torch import nn

from scripts import BUNDLE_ROOT
from scripts.baselines.baseline import Baseline
from scripts.core.errors import CineError
from scripts.latency.network import latency_report
from scripts.runtime.backends import channels_last
from scripts.runtime.deploy import Runtime
from scripts.runtime.inferer import CineInferer
from scripts.train.checkpoint import initialise

NAMES = [path.stem.removeprefix("baseline_") for path in sorted((BUNDLE_ROOT / "configs").glob("baseline_*.json"))]
UNETS = {
    "unet_2d_d5_64": (2, 5, 64),
    "unet_2d_d3_16": (2, 3, 16),
    "unet_3d_d4_32": (3, 4, 32),
    "unet_3d_d3_16": (3, 3, 16),
}


def build(name: str) -> Baseline:
    config = ConfigParser.load_config_file(BUNDLE_ROOT / "configs" / f"baseline_{name}.json")
    return ConfigParser(config).get_parsed_content("network_def")


@pytest.fixture(scope="module")
def baseline() -> Callable[[str], Baseline]:
    """The networks, each built only once, since they are large; in evaluation mode."""
    built = cache(build)
    return lambda name: built(name).eval()


def after_training(network: nn.Module) -> nn.Module:
    """Set norms to values other than the identity."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def test_the_baselines_are_those_of_the_tables():
    assert set(NAMES) == {*UNETS, "dynunet_nnunet", "mednext", "dints", "bix_nas", "unet_monai", "dynunet_16"}


@pytest.mark.parametrize("name", NAMES)
def test_any_size_gives_logits_of_that_size_and_gradients(name, baseline):
    network = baseline(name).train()
    logits = network(torch.randn(1, 1, 9, 11, 3))
    assert logits.shape == (1, 4, 9, 11, 3)
    logits.square().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert sum(bool(gradient.any()) for gradient in gradients) > len(gradients) / 2
    with torch.no_grad():
        assert network(torch.randn(2, 1, 1, 1, 1)).shape == (2, 4, 1, 1, 1)
    network.zero_grad()


@pytest.mark.parametrize("name", ["unet_2d_d3_16", "unet_3d_d3_16", "unet_monai", "dynunet_16"])  # the fast ones
def test_torch_jit_script_equals_the_network(name, baseline):
    network = baseline(name).eval()
    script = torch.jit.script(network)
    x = torch.randn(2, 1, 9, 37, 3)
    with torch.no_grad():
        torch.testing.assert_close(script(x), network(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_bfloat16_are_as_large_as_in_float32(name, baseline):
    """With few rows or one slice, some of torch's kernels do not write the gradients of weights.

    Such gradients are NaN or huge; rounding changes the gradient norm of a deep network by up to a half.
    """
    network, volume, norms = channels_last(deepcopy(baseline(name)).train()), torch.randn(1, 1, 16, 16, 3), []
    for amp in (True, False):
        network.zero_grad()
        (CineInferer(amp)(volume, network)[:, 1:2] * volume).mean().backward()
        norms.append(sum(float(parameter.grad.square().sum()) for parameter in network.parameters()) ** 0.5)
    assert norms[1] / 3 < norms[0] < 3 * norms[1]


def unet_parameters(dimensions: int, depth: int, first: int) -> int:
    """By hand: per level two convolutions without bias, with norms; 2x2 transposed ones; 1x1 with bias at the end."""
    kernel, widths = 3**dimensions, [first * 2**level for level in range(depth)]

    def level(inputs: int, width: int) -> int:
        return kernel * inputs * width + kernel * width * width + 2 * 2 * width

    down = sum(level(inputs, width) for inputs, width in zip([1, *widths], widths))  # noqa: B905
    up = sum(4 * 2 * width * width + level(2 * width, width) for width in widths[:-1])
    return down + up + 4 * first + 4


@pytest.mark.parametrize(("name", "form"), UNETS.items())
def test_the_parameters_of_a_u_net_follow_from_its_depth_and_filters(name, form, baseline):
    assert sum(parameter.numel() for parameter in baseline(name).parameters()) == unet_parameters(*form)


def test_the_largest_u_net_is_the_well_known_one():
    assert unet_parameters(2, 5, 64) == pytest.approx(31.0e6, rel=0.002)


def test_nnunet_s_plan_follows_from_nnunet_s_rules(baseline):
    """Halve an axis while it has 8 voxels and no other is half as coarse; kernels become 3 at similar spacings."""
    spacing, size = np.array([1.5625, 1.5625, 5.0]), np.array([256, 224, 20])
    strides, kernels = [[1, 1, 1]], [[1, 1, 1]]
    while True:
        kernels.append(
            [3 if mm < 2 * spacing.min() else before for mm, before in zip(spacing, kernels[-1], strict=True)]
        )
        large = size >= 8
        halved = large & (spacing < 2 * spacing[large].min(initial=np.inf))
        if halved.sum() < 2:  # nnU-Net continues along a single axis only from 12 voxels on
            break
        strides.append([2 if half else 1 for half in halved])
        spacing, size = np.where(halved, 2 * spacing, spacing), np.where(halved, size // 2, size)
    network = baseline("dynunet_nnunet").network
    assert [list(np.broadcast_to(stride, 3)) for stride in network.strides] == strides
    assert [list(np.broadcast_to(kernel, 3)) for kernel in network.kernel_size] == kernels[1:]
    assert network.filters == [min(32 * 2**stage, 320) for stage in range(6)]
    assert list(prod(column) for column in zip(*strides, strict=True)) == [32, 32, 4]


def test_slices_of_a_planar_network_are_independent():
    network = after_training(build("unet_2d_d3_16"))
    volume = torch.randn(2, 1, 16, 20, 5)
    other = volume.clone()
    other[..., 2] += 1
    with torch.no_grad():
        differs = (network(volume) != network(other)).flatten(0, 3).any(0)
        single = network.network(nn.functional.pad(volume[1:, ..., 4], (0, 0, 0, 0)))
        torch.testing.assert_close(network(volume)[1, ..., 4], single[0], rtol=1e-4, atol=1e-5)
    assert differs.tolist() == [False, False, True, False, False]


def test_padding_is_zeros_at_the_ends():
    network = Baseline(nn.Identity, multiple=4, slice_multiple=4, min_slices=7)
    seen = []
    network.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    volume = torch.randn(1, 1, 13, 5, 1)
    assert torch.equal(network(volume), volume)
    assert seen[0].shape == (1, 1, 16, 8, 8)
    assert seen[0].count_nonzero() == volume.count_nonzero()


def test_digests_depend_only_on_the_network(baseline):
    digests = {name: baseline(name).digest for name in NAMES}
    assert len(set(digests.values())) == len(NAMES)
    assert build("bix_nas").digest == digests["bix_nas"]
    convolution = partial(nn.Conv3d, 1, 4, 3, padding=1)
    known = Baseline(convolution, 2).digest
    assert Baseline(convolution, 2, deployment_size=(8, 8, 2)).digest == known
    dilated = partial(nn.Conv3d, 1, 4, 3, padding=1, dilation=2)  # parameters of the same shapes
    assert len({known, Baseline(dilated, 2).digest, Baseline(convolution, 4).digest}) == 3


def test_initial_weights_are_those_of_the_class():
    """DynUNet's own initialisation is Kaiming's normal distribution; a reset of each convolution is uniform."""
    networks = [build("unet_3d_d3_16") for _ in range(2)]
    for network in networks:
        initialise(network, 3)
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    weight = networks[0].network.bottleneck.conv2.conv.weight
    assert weight.abs().max() > 3 * weight.std()  # the maximum of a uniform distribution is 1.7 times its deviation
    initialise(networks[1], 4)
    assert not torch.equal(weight, networks[1].network.bottleneck.conv2.conv.weight)


@pytest.mark.parametrize("name", UNETS)
def test_the_norms_of_monai_s_blocks_fold(name, baseline):
    network = after_training(baseline(name))
    deployed = Runtime("cpu", "float32").deploy(network)
    assert not any(isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d) for module in deployed.modules())
    volume = torch.randn(1, 1, 16, 16, 2)
    with torch.no_grad():
        torch.testing.assert_close(deployed(volume), network(volume), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "backend"),
    # the others have the same blocks
    [
        *((name, "openvino") for name in NAMES),
        *product(("unet_2d_d3_16", "bix_nas"), ("eager", "onnxruntime")),
        ("dints", "onnxruntime"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of exporters: not ours
def test_every_baseline_deploys(name, backend, baseline):
    try:
        runtime = Runtime("cpu", "float32", backend)
    except CineError as error:
        pytest.skip(str(error))
    network = after_training(baseline(name))
    volume = torch.randn(1, 1, 9, 11, 3)
    with torch.no_grad():
        expected = network(volume)
    error = (runtime.deploy(network)(volume) - expected).abs().max() / expected.abs().max()
    assert error < 1e-3


def test_a_baseline_is_timed_at_its_deployment_size(monkeypatch):
    monkeypatch.setattr("scripts.latency.network.MAX_SECONDS", 0.0)
    network = Baseline(
        partial(DynUNet, 3, 1, 4, [3] * 3, [1, 2, 2], [2, 2], filters=[2, 4, 8]), 4, 4, deployment_size=(16, 12, 3)
    )
    report = latency_report(network, Runtime("cpu", "float32"))["latency"]
    assert report["deployment_size"] == [16, 12, 3]
    assert report["median_ms"] > 0
    assert report["predicted_ms"] is report["budget_ms"] is None
