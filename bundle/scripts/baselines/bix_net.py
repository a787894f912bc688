"""BiX-Net, the network found by BiX-NAS, extended to volumes.

Source: X. Wang et al., BiX-NAS: Searching Efficient Bi-directional Architecture for Medical Image Segmentation,
MICCAI 2021, and the gene and code in github.com/tiangexiang/BiX-NAS.
Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import ADN, Convolution
from torch import nn
from torch.nn import functional as F

LEVELS = 4
Block = tuple[int, int]  # (stage, level)
Stage = Sequence[Sequence[int]]


class BiXNet(nn.Module):
    """A U-Net that applies the same convolutions several times: B C H W D to logits, H W multiples of 32.

    Stages alternate between encoder (its level l at 1/2^l of the stem's size) and decoder (level l at 1/2^(3-l)).
    Every block averages its inputs, resized to its own size, and applies two convolutions. All encoders share the
    convolutions of a level, and so do all decoders; the norms are separate. As in the authors' code, blocks without
    influence on the output are left out. Kernels are 3x3x3 instead of 3x3; pooling and resizing stay in plane.

    Args:
        in_channels, out_channels: channels of image and logits.
        gene: for each stage and level the inputs of the block: 0 is the block before it; k > 0 is level k-1 of the
            stage before it. The first stage reads the stem.
        stem_channels, channels: width at full resolution, and width of the blocks.

    Raises:
        ValueError: a decoder with influence on the output reads the block before it at its level 0. That is the bridge
            below the encoder, which the published network does not have.
    """

    def __init__(
        self, in_channels: int, out_channels: int, gene: Sequence[Stage], stem_channels: int = 32, channels: int = 48
    ):
        super().__init__()
        self.sources = needed(gene)
        self.stem = nn.Sequential(
            _layer(in_channels, stem_channels),
            _layer(stem_channels, stem_channels),
            _layer(stem_channels, channels),
            nn.MaxPool3d((2, 2, 1)),
        )
        shared = {_shared(block) for block in self.sources}
        self.convolutions = nn.ModuleDict(
            {name: nn.ModuleList(_convolution(channels) for _ in range(2)) for name in sorted(shared)}
        )
        self.norms = nn.ModuleDict(
            {_own(block): nn.ModuleList(_norm_and_relu(channels) for _ in range(2)) for block in self.sources}
        )
        self.head = nn.Sequential(
            _layer(channels, stem_channels),
            _layer(stem_channels, stem_channels),
            nn.Conv3d(stem_channels, out_channels, 1, bias=False),
        )

    def forward(self, image_BCHWD: torch.Tensor) -> torch.Tensor:
        stem = self.stem(image_BCHWD)
        outputs: dict[Block, torch.Tensor] = {}
        for (stage, level), sources in self.sources.items():
            factor = 2 ** (LEVELS - 1 - level if stage % 2 else level)
            size = (stem.shape[2] // factor, stem.shape[3] // factor, stem.shape[4])
            inputs = []
            for source in sources:
                x_BCHWD = stem if source is None else outputs[source]
                if stage % 2 == 0 and source == (stage, level - 1):
                    x_BCHWD = F.max_pool3d(x_BCHWD, (2, 2, 1))
                inputs.append(_resize(x_BCHWD, size))
            x_BCHWD = torch.stack(inputs).mean(0) if len(inputs) > 1 else inputs[0]
            block = (stage, level)
            shared, own = self.convolutions[_shared(block)], self.norms[_own(block)]
            for convolution, norm in zip(shared.children(), own.children(), strict=True):
                x_BCHWD = norm(convolution(x_BCHWD))
            outputs[block] = x_BCHWD
        return self.head(_resize(x_BCHWD, tuple(image_BCHWD.shape[2:])))  # type: ignore[arg-type]


def needed(gene: Sequence[Stage]) -> dict[Block, list[Block | None]]:
    """The blocks with influence on the last one, in the order of computation, with their inputs; None is the stem."""
    found: dict[Block, list[Block | None]] = {}
    waiting: list[Block] = [(len(gene) - 1, LEVELS - 1)]
    while waiting:
        stage, level = block = waiting.pop()
        if block in found:
            continue
        found[block] = [_source(stage, level, read) for read in gene[stage][level]]
        waiting += [source for source in found[block] if source is not None]
    return dict(sorted(found.items()))


def _source(stage: int, level: int, read: int) -> Block | None:
    if read:
        return stage - 1, read - 1
    if level:
        return stage, level - 1
    if stage % 2:
        raise ValueError(f"stage {stage} reads the bridge, which this network does not have")
    return None


def _shared(block: Block) -> str:
    return f"{'decoder' if block[0] % 2 else 'encoder'}_level{block[1]}"


def _own(block: Block) -> str:
    return f"stage{block[0]}_level{block[1]}"


def _layer(in_channels: int, out_channels: int) -> nn.Module:
    return Convolution(3, in_channels, out_channels, kernel_size=3, act="relu", norm="batch", bias=False)


def _convolution(channels: int) -> nn.Module:
    return nn.Conv3d(channels, channels, 3, padding=1, bias=False)


def _norm_and_relu(channels: int) -> nn.Module:
    return ADN(ordering="NA", in_channels=channels, act="relu", norm="batch", norm_dim=3)


def _resize(x_BCHWD: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    """Bilinear in plane, since D does not change."""
    if x_BCHWD.shape[2:] == size:
        return x_BCHWD
    return F.interpolate(x_BCHWD, size, mode="trilinear", align_corners=True)
