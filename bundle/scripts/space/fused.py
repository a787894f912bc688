"""All cells that leave a tile at once: few large kernels, and no tensor that only copies or scales another.

The same numbers as RT-DNAS Eq. 1 evaluated pair by pair. Of a node's terms only the convolutions need kernels of
their own, and those of one name that read the same tensor run as one, whose norm applies the mixing weights.
Identity, by-passed channels, channel shuffle and the sum over inputs are linear: small matrices over few basis
tensors (X_0, the pooled inputs and each node's convolutions), which the scaling's 1x1x1 convolution reads.
Tensors: B batch, C channels, H W in-plane, D slices; F the channels of the basis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from scripts.space.kernels import NormalisedSum, pool_2x2x1, pool_3x3x3
from scripts.space.operations import convolution_groups, join_convolutions, upsample_in_plane

if TYPE_CHECKING:
    from scripts.space.supernet import MixedCell

POOL, IDENTITY = "max_pool_3x3x3", "identity"


def run_cells(
    x_BCHWD: torch.Tensor,
    cells: Sequence[MixedCell],
    nodes: Sequence[list[torch.Tensor]],
    matrices: Sequence[list[torch.Tensor]],
    shares: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    """The outputs of the cells that leave a tile, each times its share.

    Args:
        x_BCHWD: the tile, X_0 of every cell.
        cells: the cells.
        nodes: for each cell its mixing weights p_i[j, o], one tensor a node i.
        matrices: for each cell its ``node_matrices``.
        shares: for each cell the scalar by which its output counts.
    """
    operations, partial = cells[0].operations, cells[0].partial
    head = x_BCHWD[:, : x_BCHWD.shape[1] // partial]
    shared = torch.cat([x_BCHWD, *_pool(head, operations)], dim=1)
    sums = iter(_convolve(head, cells, nodes, 0).split(head.shape[1], dim=1))
    outputs = []
    for cell, p, of_cell, share in zip(cells, nodes, matrices, shares, strict=True):
        convolved = [next(sums) for _ in p]
        rows = _readers(cell, of_cell, head.shape[1])
        known = shared.shape[1]
        from_shared = _linear(shared, torch.cat(rows)[:, :known]).split([len(row) for row in rows], dim=1)
        own: list[torch.Tensor] = []
        for i, (row, begun) in enumerate(zip(rows, from_shared, strict=True), start=1):
            own.append(convolved[i - 1])
            joined = torch.cat(own, dim=1)
            x_i = _linear(joined, row[:, known : known + joined.shape[1]]).add_(begun)
            if i < len(p):
                own += _pool(x_i, operations)
                terms = _convolve(x_i, [cell], [p], i).split(head.shape[1], dim=1)
                convolved[i:] = [a + b for a, b in zip(convolved[i:], terms, strict=True)]
        outputs.append(_finish(cell, x_i, share))
    return outputs


def _readers(cell: MixedCell, matrices: list[torch.Tensor], active: int) -> list[torch.Tensor]:
    """What a cell reads from its basis, each with F columns: the active channels of X_1..X_(N-1), then what its
    scaling begins with, which for a contracting cell, since it pools first, are all channels of X_1..X_N."""
    whole = torch.cat(matrices[1:])
    if cell.kind != "contracting":
        whole = cell.scaling.conv.weight.flatten(1) @ whole
    return [*(matrix[:active] for matrix in matrices[1:-1]), whole]


def node_matrices(
    nodes: list[torch.Tensor], channels: int, operations: Sequence[str], partial: int
) -> list[torch.Tensor]:
    """For X_0..X_N the matrix (C, F) that makes it of the basis: X_0, then for each node i pooled X_(i-1) and its
    convolutions.

    Args:
        nodes: mixing weights p_i[j, o], one tensor a node.
        channels: C.
        operations: the names of the candidates o.
        partial: k, the operations see 1/k of the channels.
    """
    active = channels // partial
    pools = operations.index(POOL) if POOL in operations else None
    identity = operations.index(IDENTITY) if IDENTITY in operations else None
    step = active if pools is None else 2 * active
    basis_FF = torch.eye(channels + len(nodes) * step, dtype=nodes[0].dtype, device=nodes[0].device)
    matrices = [basis_FF[:channels]]
    for i, p_jO in enumerate(nodes, start=1):
        end = channels + i * step
        mixed, bypassed = basis_FF[end - active : end], basis_FF.new_zeros(())
        for j, x_CF in enumerate(matrices):
            if identity is not None:
                mixed = mixed + p_jO[j, identity] * x_CF[:active]
            if pools is not None:
                start = channels + j * step
                mixed = mixed + p_jO[j, pools] * basis_FF[start : start + active]
            bypassed = bypassed + p_jO[j].sum() * x_CF[active:]
        whole = torch.cat([mixed, bypassed])
        # shuffled: equal groups of channels interleave, so that every channel meets the operations in turn
        matrices.append(whole.reshape(partial, active, -1).transpose(0, 1).reshape(channels, -1))
    return matrices


def _pool(x_BCHWD: torch.Tensor, operations: Sequence[str]) -> list[torch.Tensor]:
    return [pool_3x3x3(x_BCHWD)] if POOL in operations else []


def _convolve(
    x_BCHWD: torch.Tensor, cells: Sequence[MixedCell], nodes: Sequence[list[torch.Tensor]], j: int
) -> torch.Tensor:
    """The mixed convolutions of input j, for each cell and then for each node after j: B (cells x nodes x C) H W D."""
    x_BCHWD = F.relu(x_BCHWD)
    readers = [(cell, i, p[i - 1][j]) for cell, p in zip(cells, nodes, strict=True) for i in range(j + 1, len(p) + 1)]
    outputs, scales_O = [], []
    for group in convolution_groups(cells[0].operations):
        weight, padding, dilation = join_convolutions(
            [cell.operation(i, j, o) for o in group for cell, i, _ in readers]
        )
        outputs.append(F.conv3d(x_BCHWD, weight, padding=padding, dilation=dilation))
        scales_O += [torch.stack([p_O[o] for _, _, p_O in readers]) for o in group]
    return NormalisedSum.apply(torch.stack(scales_O).repeat_interleave(x_BCHWD.shape[1], dim=1), *outputs)


def _linear(x_BCHWD: torch.Tensor, weight_OI: torch.Tensor) -> torch.Tensor:
    return F.conv3d(x_BCHWD, weight_OI[..., None, None, None])


def _finish(cell: MixedCell, x_BCHWD: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The rest of a cell's scaling operation, times its share."""
    if cell.kind == "contracting":
        x_BCHWD = _linear(pool_2x2x1(x_BCHWD), cell.scaling.conv.weight.flatten(1))
    x_BCHWD = NormalisedSum.apply(share.expand(1, x_BCHWD.shape[1]), x_BCHWD)
    return upsample_in_plane(x_BCHWD, 2) if cell.kind == "expanding" else x_BCHWD
