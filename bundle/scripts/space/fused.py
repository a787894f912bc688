"""Compute all cells that leave a tile together: few large kernels, and no tensor that is only a scaled copy of another.

The result equals RT-DNAS Eq. 1, evaluated for each (input, operation) pair in turn. Only the convolutions need kernels.
All candidates of one name that read the same node of their cell share one kernel, grouped by cell; its norm applies the
mixing weights. Identity, by-passed channels, channel shuffle and the sum over inputs are linear. They become small
matrices over a few basis tensors: X_0, the pooled inputs and the convolutions of each node. The 1x1x1 convolution of
the scaling operation reads the result.

Tensors: B batch, C channels, A = C/k active channels, H W in-plane, D slices. K cells side by side have K A
channels. F is the number of channels of the basis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from scripts.core.errors import CineError
from scripts.space.kernels import pool_2x2x1, pool_3x3x3
from scripts.space.mixed_cell import MixedCell
from scripts.space.operations import join_convolutions, upsample_in_plane
from scripts.space.registry import REGISTRY, convolution_groups, index_of

FORMS = ("convolution", "separable", "pooling", "identity", "zero")
"""The forms in the registry that this module computes."""


def run_cells(
    x_BCHWD: torch.Tensor,
    cells: Sequence[MixedCell],
    nodes: Sequence[list[torch.Tensor]],
    matrices: Sequence[list[torch.Tensor]],
    shares: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    """The outputs of the cells that leave a tile, each times its share.

    Args:
        x_BCHWD: the tile, which is X_0 of every cell.
        cells: the cells; only one cell if it scales before its nodes, since it then has an X_0 of its own.
        nodes: for each cell its mixing weights p_i[j, o], one tensor per node i.
        matrices: for each cell its ``node_matrices``.
        shares: for each cell the scalar that multiplies its output.
    """
    operations, count = cells[0].operations, len(cells)  # K cells of N nodes
    if cells[0].scales_first:
        x_BCHWD = cells[0].scaling([x_BCHWD])
    head = x_BCHWD[:, : x_BCHWD.shape[1] // cells[0].partial]  # B A H W D
    active = head.shape[1]  # A
    shared = torch.cat([x_BCHWD, *_pool(head, operations)], dim=1)  # X_0 | P_0: B (C + A) H W D
    known = shared.shape[1]
    # one entry per reader, each with one per cell: N - 1 times K of (A, F), then K of (rows of the last reader, F)
    *inner, last = zip(*(_readers(cell, of, active) for cell, of in zip(cells, matrices, strict=True)), strict=True)
    # the part of every reader's input that comes from X_0 | P_0
    from_shared = _linear(shared, torch.cat([row for rows in (*inner, last) for row in rows])[:, :known])
    # N - 1 of B (K A) H W D, then K of B (rows of the last reader) H W D
    begun = from_shared.split([count * active] * len(inner) + [len(row) for row in last], dim=1)
    convolved = _convolve(head, cells, nodes, 0)  # the part of V_1..V_N that comes from X_0: N of B (K A) H W D
    own: list[tuple[torch.Tensor, ...]] = []  # V_1, P_1, V_2, ...: for each, K of B A H W D, one per cell
    for i, rows in enumerate(inner, start=1):
        own.append(convolved[i - 1].split(active, dim=1))  # V_i
        weight = torch.cat([row[:, known : known + len(own) * active] for row in rows])  # (K A, len(own) A)
        own_of_cells = torch.cat([block for of_cell in zip(*own, strict=True) for block in of_cell], dim=1)
        # the active channels of X_i, B (K A) H W D: each group of the convolution is one cell
        x_i = _linear(own_of_cells, weight, count).add_(begun[i - 1])
        own += [pooled.split(active, dim=1) for pooled in _pool(x_i, operations)]  # P_i
        convolved[i:] = [a + b for a, b in zip(convolved[i:], _convolve(x_i, cells, nodes, i), strict=True)]
    own.append(convolved[-1].split(active, dim=1))  # V_N
    of_cells = zip(cells, last, begun[len(inner) :], shares, zip(*own, strict=True), strict=True)
    return [
        _finish(cell, _linear(torch.cat(of_cell, dim=1), row[:, known:]).add_(total), share)
        for cell, row, total, share, of_cell in of_cells
    ]


def _readers(cell: MixedCell, matrices: list[torch.Tensor], active: int) -> list[torch.Tensor]:
    """The matrices of what a cell reads from its basis, each with F columns.

    First come the active channels of X_1..X_(N-1), then the input of the scaling operation. Usually its 1x1x1
    convolution is already applied. A contracting cell pools before that convolution, and a cell that scaled before its
    nodes has none left, so these two read all channels of X_1..X_N.
    """
    whole = torch.cat(matrices[1:])
    if cell.kind != "contracting" and not cell.scales_first:
        whole = cell.scaling.conv.weight.flatten(1) @ whole
    return [*(matrix[:active] for matrix in matrices[1:-1]), whole]


def node_matrices(
    nodes: list[torch.Tensor], channels: int, operations: Sequence[str], partial: int
) -> list[torch.Tensor]:
    """For each of X_0..X_N, the matrix (C, F) that computes it from the basis.

    The basis, with P_j the pooled active channels of X_j and V_i the mixed convolutions of node i::

        F =   C channels |   A     A   |   A     A   | ...
                  X_0    |  P_0   V_1  |  P_1   V_2  | ...

        X_0:       I         .     .       .     .
        X_1:     p[0,id]  p[0,pool]  I     .     .       active rows (A); without pooling there are no columns P_j
        X_2:     p[0,id] X_0 + p[0,pool] P_0 + p[1,id] X_1 + p[1,pool] P_1 + V_2

    The other C - A rows of X_i by-pass the operations: they are the sum over j, o of p[j, o] times those rows of X_j.
    Then the channels are shuffled. Source: RT-DNAS Eq. 1, with the partial channels of PC-DARTS.

    Args:
        nodes: mixing weights p_i[j, o], one tensor per node.
        channels: C.
        operations: the names of the candidates o.
        partial: k; the operations compute 1/k of the channels.
    """
    active = channels // partial
    pools, identity = index_of("pooling", operations), index_of("identity", operations)
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
        # shuffle: equal groups of channels interleave, so that each channel reaches the operations at some node
        matrices.append(whole.reshape(partial, active, -1).transpose(0, 1).reshape(channels, -1))
    return matrices


def _pool(x_BCHWD: torch.Tensor, operations: Sequence[str]) -> list[torch.Tensor]:
    return [] if index_of("pooling", operations) is None else [pool_3x3x3(x_BCHWD)]


def refuse_unknown(operations: Sequence[str]) -> None:
    """Refuse candidates that this module cannot compute; they would silently count as zero.

    Raises:
        CineError: the message names them.
    """
    poolings = [name for name in operations if REGISTRY[name].form == "pooling"]
    unknown = [name for name in operations if REGISTRY[name].form not in FORMS]
    unknown += [name for name in poolings if REGISTRY[name].kernel != (3, 3, 3)] + poolings[1:]
    if unknown:
        expected = f"operations of the forms {', '.join(FORMS)}, with at most one pooling of 3x3x3"
        raise CineError("space#operations", ", ".join(unknown), expected, "See docs/extending.md.")


def _convolve(
    x_BCHWD: torch.Tensor, cells: Sequence[MixedCell], nodes: Sequence[list[torch.Tensor]], j: int
) -> list[torch.Tensor]:
    """The mixed convolutions of X_j for each later node, B (K A) H W D.

    Args:
        x_BCHWD: X_j of every cell, side by side; X_0 is common to all and is given only once.
        cells: the cells.
        nodes: their mixing weights.
        j: the node that is read.
    """
    x_BCHWD = F.relu(x_BCHWD)
    count, later = len(cells), range(j, len(nodes[0]))
    active = x_BCHWD.shape[1] // (count if j else 1)
    sums: list[torch.Tensor | None] = [None for _ in later]
    for group in convolution_groups(cells[0].operations):
        weight, padding, dilation = join_convolutions(
            [cell.operation(i + 1, j, o) for cell in cells for o in group for i in later]
        )
        y_BCHWD = F.conv3d(x_BCHWD, weight, padding=padding, dilation=dilation, groups=count if j else 1)
        scale = torch.stack([p[i][j, o] for p in nodes for o in group for i in later]).repeat_interleave(active)
        blocks = F.batch_norm(y_BCHWD, None, None, scale, training=True).split(active, dim=1)
        for n in range(len(group) * len(later)):
            of_cells = torch.cat(blocks[n :: len(group) * len(later)], dim=1)
            total = sums[n % len(later)]
            sums[n % len(later)] = of_cells if total is None else total + of_cells
    return [total for total in sums if total is not None]


def _linear(x_BCHWD: torch.Tensor, weight_OI: torch.Tensor, groups: int = 1) -> torch.Tensor:
    return F.conv3d(x_BCHWD, weight_OI[..., None, None, None], groups=groups)


def _finish(cell: MixedCell, x_BCHWD: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The rest of a cell's scaling operation, multiplied by the cell's share."""
    if cell.scales_first:
        return x_BCHWD * share
    if cell.kind == "contracting":
        x_BCHWD = _linear(pool_2x2x1(x_BCHWD), cell.scaling.conv.weight.flatten(1))
    # no expand here: torch's kernel for many channels would read beyond the end of a weight with stride 0
    x_BCHWD = F.batch_norm(x_BCHWD, None, None, share.repeat(x_BCHWD.shape[1]), training=True)
    return upsample_in_plane(x_BCHWD, 2) if cell.kind == "expanding" else x_BCHWD
