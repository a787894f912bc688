"""Architecture parameters and their relaxation to mixing weights (RT-DNAS Eq. 1, MS-NAS)."""

from __future__ import annotations

import torch
from torch import nn

from scripts.space.architecture import PARAMETER_FREE, Space
from scripts.space.supernet import Mixing
from scripts.space.trellis import Cell, Tile


class JointSoftmax(nn.Module):
    """alpha and beta, all zero at first, and their softmaxes.

    alpha: for each kind of cell and each node i a tensor (i, number of operations), ONE softmax over all
    (input, operation) pairs of the node. beta: for each tile that several cells leave, a softmax over them.
    """

    def __init__(self, space: Space):
        super().__init__()
        self.space = space
        self.alpha = nn.ParameterDict(
            {
                f"{kind}_{i}": nn.Parameter(torch.zeros(i, len(space.operations)))
                for kind in space.trellis.kinds
                for i in range(1, space.nodes + 1)
            }
        )
        self.beta = nn.ParameterDict(
            {
                _name(tile): nn.Parameter(torch.zeros(len(cells)))
                for tile, cells in space.trellis.exits.items()
                if len(cells) > 1
            }
        )

    def forward(self) -> Mixing:
        trellis = self.space.trellis
        nodes = {
            kind: [
                self.alpha[f"{kind}_{i}"].flatten().softmax(0).reshape(i, -1) for i in range(1, self.space.nodes + 1)
            ]
            for kind in trellis.kinds
        }
        cells: dict[Cell, torch.Tensor] = {}
        for tile, exits in trellis.exits.items():
            beta = self.beta[_name(tile)] if len(exits) > 1 else nodes[trellis.kinds[0]][0].new_zeros(1)
            cells.update(zip(exits, beta.softmax(0).unbind(), strict=True))
        return Mixing(nodes, cells)


def _name(tile: Tile) -> str:
    return f"tile{tile.layer}_{tile.scale}"


def uniform_mixing(space: Space) -> Mixing:
    """The mixing weights of a search that has learned nothing."""
    with torch.no_grad():
        return JointSoftmax(space)()


def entropies(mixing: Mixing, space: Space) -> dict[str, float]:
    """Mean entropy of each kind's node softmaxes and of the beta softmaxes, each in shares of its maximum."""
    result: dict[str, float] = {
        kind: _mean_entropy([p.flatten() for p in nodes]) for kind, nodes in mixing.nodes.items()
    }
    choices = [
        torch.stack([mixing.cells[c] for c in cells]) for cells in space.trellis.exits.values() if len(cells) > 1
    ]
    return {**result, "beta": _mean_entropy(choices)}


def _mean_entropy(distributions: list[torch.Tensor]) -> float:
    if not distributions:
        return 0.0
    shares = [torch.special.entr(p).sum() / torch.log(torch.tensor(float(len(p)))) for p in distributions if len(p) > 1]
    return float(torch.stack(shares).mean()) if shares else 0.0


def parameter_free_share(mixing: Mixing, space: Space) -> dict[str, float]:
    """For each kind of cell the mean probability of operations without parameters (identity, pooling)."""
    free = [o for o, name in enumerate(space.operations) if name in PARAMETER_FREE]
    return {kind: float(torch.stack([p[:, free].sum() for p in nodes]).mean()) for kind, nodes in mixing.nodes.items()}
