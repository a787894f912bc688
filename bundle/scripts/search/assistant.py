"""The Meta-Assistant Network of HyperSegNAS (CVPR 2022), section 3.2: channel weights from image and architecture.

Tensors: B batch, C channels, H W in-plane, D slices; S scalars.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import torch
from monai.networks.blocks import Convolution
from torch import nn

from scripts.space.architecture import Architecture
from scripts.space.space import Space
from scripts.space.trellis import Cell

FIXED = 0.5  # the constant to which the scalars are annealed; it can be folded into the preceding normalisation
Weigh = Callable[[Cell, torch.Tensor], torch.Tensor]
ENCODER = ((16, 2), (32, 2), (64, 2), (128, 2), (256, 1), (256, 1))  # channels and in-plane stride


class MetaAssistant(nn.Module):
    """One scalar in 0..1 for each (layer, edge, operation, output channel) of a one-shot supernet.

    The image encoder is six times convolution, instance norm and ReLU, then the mean over all voxels: 256 numbers.
    These and the architecture's bits pass through five fully connected layers, with ReLU between them and a sigmoid at
    the end. A scalar multiplies the output of a cell after its normalisation, which would otherwise cancel it.

    Args:
        space: a space with one operation per edge.
        channels: the supernet's width at scale 0, or the widths of all scales, if smaller than the space's.
        architecture: whether it reads the architecture in addition to the image.
    """

    def __init__(self, space: Space, channels: int | tuple[int, ...] | None = None, architecture: bool = True):
        super().__init__()
        self.space = replace(space, channels=space.channels if channels is None else channels)
        self.reads_architecture = architecture
        self.cells = [cell for cell in space.trellis.cells if not cell.skip]
        self._slices: dict[tuple[str, str], slice] = {}
        count = 0
        for cell in self.cells:
            for name in space.operations:
                width = self.space.width(cell.target)
                self._slices[cell.name, name] = slice(count, count + width)
                count += width
        self.scalars = count
        widths = [1, *(width for width, _ in ENCODER)]
        self.encoder = nn.Sequential(
            *(
                Convolution(
                    3, before, width, strides=(stride, stride, 1), norm="INSTANCE", act="RELU", adn_ordering="NA"
                )
                for before, (width, stride) in zip(widths, ENCODER, strict=False)
            )
        )
        bits = len(self.cells) * len(space.operations) if architecture else 0
        sizes = [widths[-1] + bits, *[widths[-1]] * 4, count]
        layers: list[nn.Module] = []
        for before, size in itertools.pairwise(sizes):
            layers += [nn.Linear(before, size), nn.ReLU()]
        self.hyper = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def forward(self, image_BCHWD: torch.Tensor, architecture: Architecture) -> torch.Tensor:
        """From B 1 H W D to B S, in float32.

        Small patches end in two rows, where bfloat16's gradients are wrong on CPUs (see ``network.MIN_ROWS``).
        """
        with torch.autocast(image_BCHWD.device.type, enabled=False):
            meta = self.encoder(image_BCHWD.float()).mean((2, 3, 4))
            if self.reads_architecture:
                bits = self.bits(architecture).to(meta)
                meta = torch.cat([meta, bits.expand(len(meta), -1)], dim=1)
            return self.hyper(meta)

    def bits(self, architecture: Architecture) -> torch.Tensor:
        """1 for each (edge, operation) of the architecture, else 0; length edges times operations."""
        held = {(cell.name, name) for cell in architecture.union for _, name in architecture.nodes_of(cell)}
        return torch.tensor([float((cell.name, name) in held) for cell in self.cells for name in self.space.operations])

    def weigh(self, image_BCHWD: torch.Tensor, architecture: Architecture, annealed: float = 0.0) -> Weigh:
        """A function that a supernet applies to the outputs of the architecture's cells (HyperSegNAS Eq. 5).

        It does not use the scalars of edges and operations outside the architecture, so they get no gradient.

        Args:
            image_BCHWD: the image.
            architecture: the edges to use.
            annealed: 0 for the assistant's scalars, 1 for the constant, linear in between.
        """
        scalars_BS = annealed * FIXED + (1 - annealed) * self(image_BCHWD, architecture)

        def weigh(cell: Cell, x_BCHWD: torch.Tensor) -> torch.Tensor:
            ((_, name),) = architecture.nodes_of(cell)
            return x_BCHWD * scalars_BS[:, self._slices[cell.name, name], None, None, None]

        return weigh


def fixed(cell: Cell, x_BCHWD: torch.Tensor) -> torch.Tensor:
    """The function that replaces ``weigh`` after the assistant is removed: multiply by the constant."""
    del cell
    return x_BCHWD * FIXED
