"""CineNet: the derived network, network_def of every workflow.

Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from scripts.space.architecture import Architecture, Node, Space
from scripts.space.deployable import Deployable
from scripts.space.operations import Norm, Scaling, build_operation, upsample_planes
from scripts.space.trellis import Cell, Kind, Tile


class Stem(nn.Sequential):
    """3x3x3 convolution with in-plane stride, and norm: the image to tile (0, 0)."""

    def __init__(self, in_channels: int, space: Space, norm: Norm = nn.BatchNorm3d):
        stride = (space.stem_stride, space.stem_stride, 1)
        super().__init__(
            nn.Conv3d(in_channels, space.channels, 3, stride=stride, padding=1, bias=False), norm(space.channels)
        )


class Head(nn.Module):
    """ReLU and 1x1x1 convolution to the classes, upsampled where the stem strides: logits at the image's size."""

    def __init__(self, space: Space, out_channels: int):
        super().__init__()
        self.stride = space.stem_stride
        self.conv = nn.Conv3d(space.channels, out_channels, 1)

    def forward(self, x_BCHWD: torch.Tensor) -> torch.Tensor:
        x_BCHWD = self.conv(F.relu(x_BCHWD))
        return x_BCHWD if self.stride == 1 else upsample_planes(x_BCHWD, self.stride)


class DerivedCell(nn.Module):
    """A cell with one (input, operation) a node (RT-DNAS Eq. 1 after decoding) and its scaling operation."""

    def __init__(self, kind: Kind, nodes: tuple[Node, ...], width: int, out_channels: int):
        super().__init__()
        self.inputs = [j for j, _ in nodes]
        self.operations = nn.ModuleList(build_operation(name, width) for _, name in nodes)
        self.scaling = Scaling(kind, len(nodes) * width, out_channels)

    def forward(self, x_BCHWD: torch.Tensor) -> torch.Tensor:
        tensors = [x_BCHWD]
        for j, operation in zip(self.inputs, self.operations, strict=True):
            tensors.append(operation(tensors[j]))
        return self.scaling(tensors[1:])


class CineNet(Deployable):
    """The network of an architecture: B in_channels H W D to logits B out_channels H W D, any H, W, D >= 1.

    Args:
        architecture: an Architecture, or the path of its JSON file (CineError where that does not fit).
        in_channels: image channels.
        out_channels: classes, background first; 4 here: background, RV, MYO, LV.
    """

    def __init__(self, architecture: Architecture | str, in_channels: int = 1, out_channels: int = 4):
        super().__init__()
        if not isinstance(architecture, Architecture):
            architecture = Architecture.load(architecture)
        self.architecture = architecture
        self.digest, self.provenance = architecture.digest, architecture.provenance
        self.space = space = architecture.space
        self.multiple = space.stem_stride * 2**architecture.depth
        self.stem = Stem(in_channels, space)
        self.edges = architecture.union
        self.cells = nn.ModuleDict(
            {
                name_of(cell): DerivedCell(
                    cell.kind, architecture.cells[cell.kind], space.width(cell.source), space.width(cell.target)
                )
                for cell in self.edges
            }
        )
        self.head = Head(space, out_channels)

    def forward(self, image_BCHWD: torch.Tensor) -> torch.Tensor:
        height, width = image_BCHWD.shape[2:4]
        tiles = {Tile(0, 0): self.stem(pad_in_plane(image_BCHWD, self.multiple))}
        for cell in self.edges:  # by layer: a tile is complete before a cell leaves it
            output = self.cells[name_of(cell)](tiles[cell.source_tile])
            tiles[cell.target_tile] = tiles[cell.target_tile] + output if cell.target_tile in tiles else output
        logits = self.head(tiles[Tile(self.architecture.space.layers, 0)])
        return logits[:, :, :height, :width]


def name_of(cell: Cell) -> str:
    """A cell's name in state dicts, such as ``layer3_1to2``."""
    return f"layer{cell.layer}_{cell.source}to{cell.target}"


# over two rows, the weight gradient of a 3x3 convolution in bfloat16 is garbage on CPUs (torch 2.13)
FEWEST_ROWS = 3


def pad_in_plane(x_BCHWD: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad H and W at their far ends with zeros, the mean of a normalised volume, to a multiple, H to three at least."""
    height, width = x_BCHWD.shape[2:4]
    rows, columns = max(-(-height // multiple), FEWEST_ROWS) * multiple, -(-width // multiple) * multiple
    if (rows, columns) == (height, width):
        return x_BCHWD
    return F.pad(x_BCHWD, (0, 0, 0, columns - width, 0, rows - height))
