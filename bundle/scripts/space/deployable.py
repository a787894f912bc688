"""What every step needs from a network, for searched networks and for baselines."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping

import torch
from torch import nn

from scripts.space.provenance import Provenance
from scripts.space.space import Space


class Deployable(nn.Module):
    """A network that can be trained, timed and deployed: B 1 H W D to logits B 4 H W D, any H, W, D >= 1.

    Attributes:
        digest: SHA-256 of what it computes; weights do not count.
        deployment_size: H, W, D in voxels of the volume whose latency counts.
        space: its search space; None for a network that was not searched.
        multiple: the in-plane stride of its coarsest feature map, in voxels.
        provenance: how it was found and what was measured; empty for a network that was not searched.
        activations: the smallest and the largest input value of each convolution, by name; None if the weights are
             random. Integer networks need them.
    """

    digest: str
    deployment_size: tuple[int, int, int]
    space: Space | None = None
    multiple: int
    provenance: Provenance
    activations: Mapping[str, tuple[float, float]] | None = None

    def __prepare_scriptable__(self) -> nn.Module:
        """Return a trace in evaluation mode for ``torch.jit.script``, which MONAI's ``ckpt_export`` calls.

        TorchScript cannot compile a network that is built from an architecture. A trace is valid for any size, since
        the forward pass makes no decisions by size. The trace has copies of the parameters.
        """
        network = copy.deepcopy(self).eval()
        parameter = next(network.parameters())
        example_BCHWD = torch.zeros(1, 1, 2, 2, 2, device=parameter.device, dtype=parameter.dtype)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # about checks of shapes in libraries
            return _Traced(torch.jit.trace(network, example_BCHWD, check_trace=False)).eval()


class _Traced(nn.Module):
    """Wraps a trace: ``torch.jit.script`` accepts a trace as a submodule, but not as the whole module."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image_BCHWD: torch.Tensor) -> torch.Tensor:
        return self.network(image_BCHWD)
