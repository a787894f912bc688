"""Architecture parameters and their relaxation to mixing weights (RT-DNAS Eq. 1; MS-NAS;
hardware-aware NAS Eq. 1-5, 7-9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from scripts.core.errors import CineError
from scripts.space.mixing import Mixing
from scripts.space.registry import PARAMETER_FREE
from scripts.space.space import Space
from scripts.space.trellis import Cell, Tile

Normalise = Callable[[torch.Tensor], torch.Tensor]  # parameters to probabilities, along the last axis


class Relaxation(nn.Module):
    """Architecture parameters, all zero at first: those of the network level, and code that both relaxations share.

    beta: for each tile that several cells leave, a softmax over them.

    Raises:
        CineError: the space does not share cells, or does not add what arrives at a tile.
    """

    def __init__(self, space: Space):
        super().__init__()
        if not space.share_cells or space.join != "sum":
            found = f"share_cells {space.share_cells}, join {space.join}"
            raise CineError("space", found, "shared cells and sums", "Search this space by hypersegnas.json.")
        self.space = space
        self.beta = nn.ParameterDict(
            {
                _name(tile): nn.Parameter(torch.zeros(len(cells)))
                for tile, cells in space.trellis.exits.items()
                if len(cells) > 1
            }
        )

    def forward(self) -> Mixing:
        return self._mix(lambda logits: logits.softmax(-1))

    def for_latency(self, progress: float) -> Mixing:
        """The mixing weights that L_t sees, after a share 0..1 of the alternating epochs."""
        del progress  # always the same
        return self()

    def _mix(self, normalise: Normalise) -> Mixing:
        cells: dict[Cell, torch.Tensor] = {}
        for tile, exits in self.space.trellis.exits.items():
            p = normalise(self.beta[_name(tile)]) if len(exits) > 1 else next(self.parameters()).new_ones(1)
            cells.update(zip(exits, p.unbind(), strict=True))
        nodes = {group: self._nodes(group, normalise) for group in self.space.groups}
        return Mixing(nodes, cells)

    def _nodes(self, group: str, normalise: Normalise) -> list[torch.Tensor]:
        raise NotImplementedError


class JointSoftmax(Relaxation):
    """alpha: for each group of cells and each node i a tensor (i, number of operations), ONE softmax over all
    (input, operation) pairs of the node (RT-DNAS Eq. 1)."""

    def __init__(self, space: Space):
        super().__init__(space)
        self.alpha = _per_node(space, len(space.operations))

    def _nodes(self, group: str, normalise: Normalise) -> list[torch.Tensor]:
        alphas = [self.alpha[f"{group}_{i}"] for i in range(1, self.space.nodes + 1)]
        return [normalise(alpha.flatten()).reshape(alpha.shape) for alpha in alphas]


class SeparateSoftmax(Relaxation):
    """alpha (operation) and gamma (edge), each with its own softmax: p_i[j, o] = p_gamma[j] p_alpha[j, o]
    (hardware-aware NAS Eq. 1-3; MS-NAS).

    Args:
        space: the search space.
        gumbel: whether L_t instead sees a Gumbel-softmax sample of alpha, gamma and beta (Eq. 7-9).
        temperature: its temperature in the first and in the last alternating epoch, geometric in between.
    """

    def __init__(self, space: Space, gumbel: bool = False, temperature: Sequence[float] = (5.0, 0.5)):
        super().__init__(space)
        if len(temperature) != 2 or not all(0 < float(t) < 1e6 for t in temperature):
            raise CineError("temperature", repr(temperature), "two numbers above 0, first and last", "Change the key.")
        self.gumbel, self.temperature = gumbel, tuple(float(t) for t in temperature)
        self.alpha = _per_node(space, len(space.operations))
        self.gamma = _per_node(space)

    def for_latency(self, progress: float) -> Mixing:
        if not self.gumbel:
            return self()
        first, last = self.temperature
        temperature = first * (last / first) ** progress
        return self._mix(lambda logits: functional.gumbel_softmax(logits, tau=temperature))

    def _nodes(self, group: str, normalise: Normalise) -> list[torch.Tensor]:
        names = [f"{group}_{i}" for i in range(1, self.space.nodes + 1)]
        return [normalise(self.gamma[name])[:, None] * normalise(self.alpha[name]) for name in names]


def _per_node(space: Space, *shape: int) -> nn.ParameterDict:
    """For each group of cells and each node i a parameter (i, *shape)."""
    return nn.ParameterDict(
        {
            f"{group}_{i}": nn.Parameter(torch.zeros(i, *shape))
            for group in space.groups
            for i in range(1, space.nodes + 1)
        }
    )


def _name(tile: Tile) -> str:
    return f"tile{tile.layer}_{tile.scale}"


def uniform_mixing(space: Space) -> Mixing:
    """The mixing weights of a search without training."""
    with torch.no_grad():
        return JointSoftmax(space)()


def entropies(mixing: Mixing, space: Space) -> dict[str, float]:
    """Mean entropy of each group's node softmaxes and of the beta softmaxes, each as a share of its maximum."""
    result: dict[str, float] = {
        group: _mean_entropy([p.flatten() for p in nodes]) for group, nodes in mixing.nodes.items()
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
    """For each group of cells the mean probability of operations without parameters (identity, pooling)."""
    free = [o for o, name in enumerate(space.operations) if name in PARAMETER_FREE]
    return {
        group: float(torch.stack([p[:, free].sum() for p in nodes]).mean()) for group, nodes in mixing.nodes.items()
    }
