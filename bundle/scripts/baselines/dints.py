"""Build MONAI's DiNTS from edges in a readable form.

Source: Y. He et al., DiNTS: Differentiable Neural Network Topology Search for 3D Medical Image Segmentation, CVPR 2021.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from monai.networks.nets import DiNTS, TopologyInstance

OPERATION = 1  # conv_3x3x3 in MONAI's list of cell operations


def build_dints(
    in_channels: int, out_channels: int, edges: Sequence[Sequence[Sequence[int]]], scales: int = 4
) -> DiNTS:
    """A DiNTS in which all cells are 3x3x3 convolutions; its H, W, D must be multiples of 2^scales.

    Args:
        in_channels, out_channels: channels of image and logits.
        edges: for each block of the trellis, the pairs (source scale, target scale) of its cells, adjacent or equal.
        scales: the number of resolutions, from 1/2 of the image to 1/2^scales.
    """
    # the order in which MONAI numbers the cells of a block
    order = [(source, target) for target in range(scales) for source in range(target - 1, target + 2)]
    order = [edge for edge in order if 0 <= edge[0] < scales]
    active = np.zeros((len(edges), len(order)), dtype=np.int64)
    for block, cells in enumerate(edges):
        active[block, [order.index((source, target)) for source, target in cells]] = 1
    entered = [{source for source, _ in edges[0]}, *({target for _, target in cells} for cells in edges)]
    nodes = [[scale in found for scale in range(scales)] for found in entered]
    with contextlib.redirect_stdout(io.StringIO()):  # MONAI prints the sizes that it recommends
        space = TopologyInstance([active, np.full_like(active, OPERATION)], num_blocks=len(edges), num_depths=scales)
    # control flow must not depend on tensors, or the network cannot be exported or compiled as a whole
    space.arch_code_a = active  # type: ignore[assignment]
    return DiNTS(space, in_channels, out_channels, node_a=nodes)
