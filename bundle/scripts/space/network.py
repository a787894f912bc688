"""CineNet: the derived network, which is network_def in every workflow.

Tensors: B batch, C channels, H W in-plane, D slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional as F

from scripts.space.architecture import Architecture, Node
from scripts.space.deployable import Deployable
from scripts.space.operations import Norm, Scaling, build_operation, upsample_planes
from scripts.space.space import Space
from scripts.space.trellis import Cell, Tile


class Stem(nn.Module):
    """The image to tile (0, s): 3x3x3 convolution with in-plane stride, and norm.

    If the scale s is not 0, an in-plane mean over 2^s comes first.
    """

    def __init__(self, in_channels: int, space: Space, norm: Norm = nn.BatchNorm3d, scale: int = 0):
        super().__init__()
        self.scale, width = scale, space.tile_width(scale)
        stride = (space.stem_stride, space.stem_stride, 1)
        self.conv = nn.Conv3d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm = norm(width)

    def forward(self, image_BCHWD: torch.Tensor) -> torch.Tensor:
        if self.scale:
            factor = 2**self.scale
            # in float32, since torch cannot do this pooling in bfloat16 on CPUs
            image_BCHWD = F.avg_pool3d(image_BCHWD.float(), (factor, factor, 1)).to(image_BCHWD.dtype)
        return self.norm(self.conv(image_BCHWD))


class Head(nn.Module):
    """Tile (L, s) to logits at the image's size: ReLU, 1x1x1 convolution to the classes, in-plane upsampling."""

    def __init__(self, space: Space, out_channels: int, scale: int = 0):
        super().__init__()
        self.factor = space.stem_stride * 2**scale
        self.conv = nn.Conv3d(space.tile_width(scale), out_channels, 1)

    def forward(self, x_BCHWD: torch.Tensor) -> torch.Tensor:
        x_BCHWD = self.conv(F.relu(x_BCHWD))
        return x_BCHWD if self.factor == 1 else upsample_planes(x_BCHWD, self.factor)


class DerivedCell(nn.Module):
    """A cell with one (input, operation) per node (RT-DNAS Eq. 1 after decoding) and its scaling operation."""

    def __init__(self, cell: Cell, nodes: tuple[Node, ...], space: Space):
        super().__init__()
        width = space.width(space.operation_scale(cell))
        self.inputs = [j for j, _ in nodes]
        self.operations = nn.ModuleList(build_operation(name, width) for _, name in nodes)
        self.scaling = Scaling(cell.kind, space.nodes * space.width(cell.source), space.width(cell.target))
        self.scales_first = space.scaling == "before"

    def forward(self, x_BCHWD: torch.Tensor) -> torch.Tensor:
        return run_cell(x_BCHWD, self.inputs, self.operations, self.scaling, self.scales_first)


def run_cell(
    x_BCHWD: torch.Tensor,
    inputs: Iterable[int],
    operations: Iterable[Callable[[torch.Tensor], torch.Tensor]],
    scaling: nn.Module,
    scales_first: bool,
) -> torch.Tensor:
    """A cell's output, B (W 2^s) H W D of the target scale, or N times as many channels if it scales first.

    Args:
        x_BCHWD: the tile that the cell leaves.
        inputs, operations: for each node, the index j of the tensor X_j that it reads, and the operation.
        scaling: the scaling operation, which takes a list of tensors.
        scales_first: whether it comes before the nodes.
    """
    tensors = [scaling([x_BCHWD]) if scales_first else x_BCHWD]
    for j, operation in zip(inputs, operations, strict=True):
        tensors.append(operation(tensors[j]))
    return torch.cat(tensors[1:], dim=1) if scales_first else scaling(tensors[1:])


class CineNet(Deployable):
    """The network of an architecture: B in_channels H W D to logits B out_channels H W D, any H, W, D >= 1.

    Args:
        architecture: an Architecture, or the path of its JSON file (CineError if the file does not fit).
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
        self.deployment_size = space.deployment_size
        self.multiple = space.stem_stride * 2**architecture.depth
        edges = [cell for cell in architecture.union if not cell.skip]
        starts, ends = architecture.starts, architecture.ends
        self.stems = nn.ModuleDict({str(s): Stem(in_channels, space, scale=s) for s in starts})
        self.cells = nn.ModuleDict({cell.name: DerivedCell(cell, architecture.nodes_of(cell), space) for cell in edges})
        self.heads = nn.ModuleDict({str(s): Head(space, out_channels, s) for s in ends})

    def forward(self, image_BCHWD: torch.Tensor) -> torch.Tensor:
        height, width, depth = image_BCHWD.shape[2:]
        image_BCHWD = pad_in_plane(pad_slices(image_BCHWD), self.multiple)
        logits = run_network(
            self.architecture, image_BCHWD, self.stems, lambda cell, x: self.cells[cell.name](x), self.heads
        )
        return crop_slices(logits[:, :, :height, :width], depth)


def run_network(
    architecture: Architecture,
    image_BCHWD: torch.Tensor,
    stems: nn.ModuleDict,
    cell_of: Callable[[Cell, torch.Tensor], torch.Tensor],
    heads: nn.ModuleDict,
) -> torch.Tensor:
    """Logits of an architecture, with the parts of a CineNet or of a supernet that shares its weights.

    Args:
        architecture: the stems, cells and heads to use, and how they join.
        image_BCHWD: the image, padded.
        stems, heads: by scale.
        cell_of: computes a cell's output from the tile that it leaves; it is not called for skip edges.
    """
    arrived: dict[Tile, list[torch.Tensor]] = {Tile(0, s): [stems[str(s)](image_BCHWD)] for s in architecture.starts}
    mean = architecture.space.join == "mean"
    tiles: dict[Tile, torch.Tensor] = {}

    def tile_at(tile: Tile) -> torch.Tensor:
        if tile not in tiles:
            tiles[tile] = joined(arrived.pop(tile), mean)
        return tiles[tile]

    for cell in architecture.union:  # by layer, so that a tile is complete before a cell reads it
        x_BCHWD = tile_at(cell.source_tile)
        output = x_BCHWD if cell.skip else cell_of(cell, x_BCHWD)
        arrived.setdefault(cell.target_tile, []).append(output)
    layers = architecture.space.layers
    return joined([heads[str(s)](tile_at(Tile(layers, s))) for s in architecture.ends], mean)


def joined(parts: list[torch.Tensor], mean: bool) -> torch.Tensor:
    """The sum of the parts that arrive at a tile, or their mean."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total / len(parts) if mean and len(parts) > 1 else total


# with two rows, the weight gradient of a 3x3 convolution in bfloat16 is wrong on CPUs (torch 2.13)
MIN_ROWS = 3


MIN_SLICES = 5
"""With fewer slices, a 3x3x3 convolution would read mostly padding, unlike any volume in training."""


def pad_slices(x_BCHWD: torch.Tensor) -> torch.Tensor:
    """Repeat the first and the last slice until there are ``MIN_SLICES``."""
    depth = x_BCHWD.shape[4]
    if _are_enough(depth):
        return x_BCHWD
    padded = _padded(depth)
    index = torch.arange(padded, device=x_BCHWD.device) - (padded - depth) // 2
    return x_BCHWD.index_select(4, index.clamp(min=0, max=depth - 1))


def crop_slices(x_BCHWD: torch.Tensor, depth: int) -> torch.Tensor:
    """The inverse of ``pad_slices`` for ``depth`` slices."""
    if _are_enough(depth):
        return x_BCHWD
    index = torch.arange(depth, device=x_BCHWD.device) + (_padded(depth) - depth) // 2
    return x_BCHWD.index_select(4, index)


def _are_enough(depth: int) -> bool:
    """False for a symbol (torch.export) or a tensor (a trace), since the graph must hold for any number of slices."""
    return isinstance(depth, int) and depth >= MIN_SLICES


def _padded(depth: int) -> int:
    return depth.clamp(min=MIN_SLICES) if isinstance(depth, torch.Tensor) else torch.sym_max(depth, MIN_SLICES)


def pad_in_plane(x_BCHWD: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad H and W with zeros (a normalised volume's mean) at their ends to a multiple, H to at least three."""
    height, width = x_BCHWD.shape[2:4]
    rows, columns = at_least(steps(height, multiple), MIN_ROWS) * multiple, steps(width, multiple) * multiple
    # a traced graph must also serve sizes that need padding, even if its example size does not
    if (rows, columns) == (height, width) and not torch.jit.is_tracing():
        return x_BCHWD
    return F.pad(x_BCHWD, (0, 0, 0, columns - width, 0, rows - height))


def at_least(number: int, minimum: int) -> int:
    """The larger of two numbers; works also in a trace, where the first one is a tensor."""
    return number.clamp(min=minimum) if isinstance(number, torch.Tensor) else max(number, minimum)


def steps(length: int, step: int) -> int:
    """How many steps cover a length. It avoids negative numbers, since ONNX rounds their quotients towards zero."""
    return (length + step - 1) // step
