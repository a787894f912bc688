"""The mixing weights of a supernet; this module does not know how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from scripts.core.errors import CineError
from scripts.space.space import Space
from scripts.space.trellis import Cell


@dataclass(frozen=True)
class Mixing:
    """Mixing weights of a supernet.

    Args:
        nodes: for each group of cells (``Space.group``) one tensor per node i, shape (i, number of operations):
            p_i[j, o].
        cells: for each cell its probability (a scalar) among the cells that leave its tile.
    """

    nodes: Mapping[str, list[torch.Tensor]]
    cells: Mapping[Cell, torch.Tensor]

    def to_lists(self) -> dict[str, Any]:
        """Plain numbers for JSON: nodes by group, cells by name."""
        return {
            "nodes": {group: [p.tolist() for p in nodes] for group, nodes in self.nodes.items()},
            "cells": {cell.name: p.item() for cell, p in self.cells.items()},
        }

    @classmethod
    def from_lists(cls, content: Mapping[str, Any], space: Space) -> Mixing:
        """The inverse of ``to_lists``; CineError if the numbers do not fit the space."""
        try:
            mixing = cls(
                {group: [torch.tensor(p) for p in content["nodes"][group]] for group in space.groups},
                {cell: torch.tensor(content["cells"][cell.name]) for cell in space.trellis.cells},
            )
            fits = all(
                p.shape == (i, len(space.operations)) and p.dtype == torch.float32
                for nodes in mixing.nodes.values()
                for i, p in enumerate(nodes, start=1)
            ) and all(len(nodes) == space.nodes for nodes in mixing.nodes.values())
        except (LookupError, TypeError, ValueError, RuntimeError):
            fits = False
        if not fits:
            expected = "one for each operation and cell of the configured space"
            raise CineError(
                "search/history.json", "other mixing weights", expected, "Restore the space, or search again."
            )
        return mixing
