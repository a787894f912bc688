from __future__ import annotations

import pytest
import torch

from scripts.core.errors import CineError
from scripts.runtime.deploy import Runtime
from scripts.runtime.inferer import CineInferer
from scripts.space.network import CineNet


def test_an_out_of_memory_error_names_the_shape():
    with pytest.raises(CineError, match="3 volumes of 4x5x2: found not enough memory"):
        CineInferer(amp=False)(torch.zeros(1, 3, 4, 5, 2), lambda x: torch.empty(2**60))


def test_a_network_in_the_default_layout_gives_the_same_result_as_channels_last():
    """MONAI Label passes the default layout, for which results would be rounded differently."""
    network = torch.nn.Conv3d(1, 4, 3, padding=1)
    CineInferer()(torch.ones(1, 1, 8, 8, 3), network)
    assert network.weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_int8_inference_equals_the_deployed_int8_network(architecture):
    torch.manual_seed(0)
    network, volume = CineNet(architecture).eval(), torch.randn(1, 1, 16, 16, 4)
    expected = Runtime("cpu", "int8", "eager").deploy(network)(volume)
    inferer = CineInferer(precision="int8")
    torch.testing.assert_close(inferer(volume, network), expected)
    with torch.no_grad():
        assert not torch.allclose(network(volume), expected, atol=1e-5)
