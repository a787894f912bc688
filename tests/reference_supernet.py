"""The obvious supernet as a reference: every candidate operation separately, in a loop, as in Eq. 1."""

from __future__ import annotations

from typing import cast

import torch

from scripts.space.mixed_cell import MixedCell
from scripts.space.mixing import Mixing
from scripts.space.network import pad_in_plane
from scripts.space.supernet import Supernet
from scripts.space.trellis import Tile


class ReferenceSupernet(Supernet):
    """Weights and state dict of ``Supernet``, but a forward pass that shares no code with it."""

    def forward(self, image_BCHWD: torch.Tensor, mixing: Mixing) -> torch.Tensor:
        height, width = image_BCHWD.shape[2:4]
        trellis = self.space.trellis
        image_BCHWD = pad_in_plane(image_BCHWD, self.space.stem_stride * 2 ** (self.space.scales - 1))
        tiles = {Tile(0, s): self.stems[str(s)](image_BCHWD) for s in trellis.starts}
        for cell in trellis.cells:
            output = tiles[cell.source_tile]
            if not cell.skip:
                output = run_cell(cast(MixedCell, self.cells[cell.name]), output, mixing.nodes[self.space.group(cell)])
            output = mixing.cells[cell] * output
            tiles[cell.target_tile] = tiles[cell.target_tile] + output if cell.target_tile in tiles else output
        logits = torch.stack([self.heads[str(s)](tiles[Tile(trellis.layers, s)]) for s in trellis.ends]).sum(0)
        return logits[:, :, :height, :width]


def run_cell(cell: MixedCell, x_BCHWD: torch.Tensor, nodes: list[torch.Tensor]) -> torch.Tensor:
    """``X_i = shuffle(sum_j concat(sum_o p[j,o] o(X_j[:C/k]), (sum_o p[j,o]) X_j[C/k:]))``, then the scaling."""
    if cell.scales_first:
        x_BCHWD = cell.scaling([x_BCHWD])
    tensors = [x_BCHWD]
    active = x_BCHWD.shape[1] // cell.partial
    for i, p in enumerate(nodes, start=1):
        mixed: torch.Tensor | None = None
        bypassed: torch.Tensor | None = None
        for j in range(i):
            for o in range(p.shape[1]):
                term = p[j, o] * cell.operation(i, j, o)(tensors[j][:, :active])
                mixed = term if mixed is None else mixed + term
            if cell.partial > 1:
                term = p[j].sum() * tensors[j][:, active:]
                bypassed = term if bypassed is None else bypassed + term
        assert mixed is not None
        whole = mixed if bypassed is None else torch.cat([mixed, bypassed], dim=1)
        batch, channels, *size = whole.shape
        groups = whole.reshape(batch, cell.partial, channels // cell.partial, *size)
        tensors.append(groups.transpose(1, 2).reshape(batch, channels, *size))
    return torch.cat(tensors[1:], dim=1) if cell.scales_first else cell.scaling(tensors[1:])
