from __future__ import annotations

import pytest
import torch

from scripts.files import CineError
from scripts.runtime.inferer import CineInferer


def test_memory_that_does_not_suffice_names_the_shape():
    with pytest.raises(CineError, match="3 volumes of 4x5x2: found not enough memory"):
        CineInferer(amp=False)(torch.zeros(1, 3, 4, 5, 2), lambda x: torch.empty(2**60))
