"""Baseline: a network that users would otherwise choose, instead of CineNet.

Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from scripts.space.deployable import Deployable
from scripts.space.network import MIN_ROWS, at_least, steps
from scripts.space.provenance import Provenance
from scripts.space.space import Space

MIN_STRIDED = 2
"""The minimum output size of a strided convolution along the last axis. With 1, the weight gradient in bfloat16 is
uninitialised memory on CPUs with AMX (torch 2.13)."""


class Baseline(Deployable):
    """A network of another library or paper, for any size: B 1 H W D to logits B 4 H W D, any H, W, D >= 1.

    The volume is padded at its ends to sizes that the network accepts, with zeros, the mean of a normalised volume. The
    logits are cropped. So any number of slices works; the time for padding is part of the network's latency.

    Args:
        build: the network's class with its configuration (in a config: ``"_mode_": "callable"``), with one input tensor
            and one output tensor, so without deep supervision.
        multiple: H and W are padded to a multiple of it: H to at least three times, W to twice (``MIN_STRIDED``).
        slice_multiple: D is padded to a multiple of it.
        fewest_slices: D is padded to at least this.
        planar: whether the network takes slices; they are then folded into the batch, B*D 1 H W.
        deployment_size: H, W, D in voxels of the volume for which latency is measured.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        multiple: int,
        slice_multiple: int = 1,
        fewest_slices: int = 1,
        planar: bool = False,
        deployment_size: Sequence[int] = (128, 112, 20),
    ):
        super().__init__()
        self.build, self.multiple, self.planar = build, multiple, planar
        self.slice_multiple, self.fewest_slices = slice_multiple, fewest_slices
        self.space = Space(deployment_size=tuple(deployment_size))  # type: ignore[arg-type]
        self.provenance = Provenance()
        self.network = build()
        self.digest = self._digest()

    def forward(self, image_BCHWD: torch.Tensor) -> torch.Tensor:
        height, width, depth = image_BCHWD.shape[2:]
        image_BCHWD = self._pad(image_BCHWD)
        if self.planar:
            slices = image_BCHWD.movedim(-1, 1)
            logits = self.network(slices.flatten(0, 1)).unflatten(0, slices.shape[:2]).movedim(1, -1)
        else:
            logits = self.network(image_BCHWD)
        return logits[:, :, :height, :width, :depth]

    def reset_parameters(self) -> None:
        """Draw new weights with the network's own initialisation; a reset of each layer would give others."""
        self.network.load_state_dict(self.build().state_dict())

    def _pad(self, x_BCHWD: torch.Tensor) -> torch.Tensor:
        height, width, depth = x_BCHWD.shape[2:]
        rows = at_least(steps(height, self.multiple), MIN_ROWS) * self.multiple
        columns = at_least(steps(width, self.multiple), MIN_STRIDED) * self.multiple
        slices = steps(at_least(depth, self.fewest_slices), self.slice_multiple) * self.slice_multiple
        if (rows, columns, slices) == (height, width, depth) and not torch.jit.is_tracing():  # see pad_in_plane
            return x_BCHWD
        return F.pad(x_BCHWD, (0, slices - depth, 0, columns - width, 0, rows - height))

    def _digest(self) -> str:
        """The hash of class, configuration, parameter shapes, and settings of the padding."""
        build = self.build if isinstance(self.build, partial) else partial(self.build)
        content = [
            f"{build.func.__module__}.{build.func.__qualname__}",
            [list(build.args), build.keywords],
            {name: list(parameter.shape) for name, parameter in self.network.named_parameters()},
            [self.multiple, self.slice_multiple, self.fewest_slices, self.planar],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
