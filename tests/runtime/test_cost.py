from __future__ import annotations

from torch import nn

from scripts.runtime.cost import inference_cost
from scripts.runtime.deploy import Runtime


def test_cost_of_two_convolutions_by_hand():
    """A 3x3x3 convolution 1 -> 4 with norm and a 1x1x1 convolution 4 -> 2, on 6 x 5 x 3 = 90 voxels, in float32."""
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1, bias=False), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 1))
    cost = inference_cost(network, (6, 5, 3), Runtime("cpu", "float32", "eager"))
    assert cost.parameters == 4 * 27 + 2 * 4 + (2 * 4 + 2)
    assert cost.flops == 2 * 90 * (27 * 4) + 2 * 90 * (4 * 2)
    weights = (4 * 27 + 4) + (2 * 4 + 2)  # the norm is folded into the convolution, which gets a bias
    # the largest set at once: image, and the first convolution's output before and after ReLU
    assert cost.peak_memory == 4 * (weights + 90 * (1 + 4 + 4))


def test_bfloat16_halves_the_memory():
    network = nn.Conv3d(1, 4, 3, padding=1)
    runtimes = [Runtime("cpu", dtype, "eager") for dtype in ("float32", "bfloat16")]
    full, half = (inference_cost(network, (6, 5, 3), runtime) for runtime in runtimes)
    assert (half.parameters, half.flops) == (full.parameters, full.flops)
    assert 2 * half.peak_memory == full.peak_memory
