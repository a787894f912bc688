from __future__ import annotations

import pytest
import torch

from scripts.files import CineError
from scripts.runtime.inferer import CineInferer


def test_memory_that_does_not_suffice_names_the_shape():
    with pytest.raises(CineError, match="3 volumes of 4x5x2: found not enough memory"):
        CineInferer(amp=False)(torch.zeros(1, 3, 4, 5, 2), lambda x: torch.empty(2**60))


def test_a_network_as_it_was_built_computes_as_one_that_was_laid_out():
    """MONAI Label hands over the former; they would round otherwise."""
    network = torch.nn.Conv3d(1, 4, 3, padding=1)
    CineInferer()(torch.ones(1, 1, 8, 8, 3), network)
    assert network.weight.is_contiguous(memory_format=torch.channels_last_3d)
