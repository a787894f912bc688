"""What every step asks of a network, whether it was searched here or is one that users would otherwise pick."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping

import torch
from torch import nn

from scripts.space.provenance import Provenance
from scripts.space.space import Space


class Deployable(nn.Module):
    """A network that is trained, timed and deployed: B 1 H W D to logits B 4 H W D, any H, W, D >= 1.

    Attributes:
        digest: SHA-256 of what it computes, whatever its weights.
        deployment_size: H, W, D in voxels of the volume whose latency counts.
        space: where it was searched; None where nobody searched.
        multiple: voxels in plane that its coarsest feature map steps over.
        provenance: how it was found and what was measured then; without entries where nobody searched.
        activations: of trained weights, the least and the greatest value that convolutions read, by name; None of
            random ones. Integers need them.
    """

    digest: str
    deployment_size: tuple[int, int, int]
    space: Space | None = None
    multiple: int
    provenance: Provenance
    activations: Mapping[str, tuple[float, float]] | None = None

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles in our place, and so MONAI's ``ckpt_export``: a trace, in evaluation.

        TorchScript cannot read a network that is built from an architecture. A trace holds for any size, as its
        forward pass takes no decision by the size. Its parameters are copies.
        """
        network = copy.deepcopy(self).eval()
        parameter = next(network.parameters())
        example_BCHWD = torch.zeros(1, 1, 2, 2, 2, device=parameter.device, dtype=parameter.dtype)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of shapes that libraries check
            return _Traced(torch.jit.trace(network, example_BCHWD, check_trace=False)).eval()


class _Traced(nn.Module):
    """A trace, which ``torch.jit.script`` takes as a part and not as the whole."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image_BCHWD: torch.Tensor) -> torch.Tensor:
        return self.network(image_BCHWD)
