"""Space: the networks that a search can find. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from scripts.core.errors import CineError
from scripts.space.registry import DEFAULT, OPERATIONS, ZERO
from scripts.space.trellis import KINDS, Cell, Ends, Trellis

Scalings = Literal["after", "before"]
Joins = Literal["sum", "mean"]
Sharing = Literal[True, False, "scale"]


@dataclass(frozen=True)
class Space:
    """The search space.

    Args:
        layers: L, the number of cells on a path.
        scales: S, the number of resolutions; the in-plane size halves with each.
        nodes: N, the number of tensors X_1..X_N that a cell computes.
        channels: width W at scale 0, which doubles with each scale; or a list of the widths of all scales.
        stem_stride: in-plane stride of the stem, 1 or 2.
        operations: the candidate operations O: names from ``OPERATIONS``, and "zero".
        deployment_size: H, W, D in voxels of the volume for which latency is measured.
        start, end, skip: see ``Trellis``.
        scaling: "after": the scaling operation follows the nodes, which run at the source scale. "before": it precedes
            the nodes, which run at the target scale and are concatenated to the tile (hardware-aware NAS, MS-NAS).
        join: "sum": outputs that arrive at a tile are added. "mean": the sum is divided by their number (HyperSegNAS).
        share_cells: which cells have the same operations. true: all of a kind; "scale": all of a kind that leave the
             same scale; false: none (HyperSegNAS).
    """

    layers: int = 10
    scales: int = 4
    nodes: int = 3
    channels: int | tuple[int, ...] = 16
    stem_stride: int = 2
    operations: tuple[str, ...] = DEFAULT
    deployment_size: tuple[int, int, int] = (128, 112, 20)
    start: Ends = "0"
    end: Ends = "0"
    skip: bool = False
    scaling: Scalings = "after"
    join: Joins = "sum"
    share_cells: Sharing = True

    def __post_init__(self) -> None:
        # configs give lists
        object.__setattr__(self, "operations", tuple(self.operations))
        object.__setattr__(self, "deployment_size", tuple(self.deployment_size))
        if isinstance(self.channels, list):
            object.__setattr__(self, "channels", tuple(self.channels))
        for name in ("layers", "scales", "nodes"):
            if not _positive(value := getattr(self, name)):
                raise CineError(f"space#{name}", repr(value), "a whole number of at least 1", "Change the key.")
        widths = self.channels if isinstance(self.channels, tuple) else (self.channels,) * self.scales
        if len(widths) != self.scales or not all(map(_positive, widths)):
            expected = f"a whole number of at least 1, or a list of {self.scales} of them, one per scale"
            raise CineError("space#channels", repr(self.channels), expected, "Change the key.")
        if self.stem_stride not in (1, 2):
            raise CineError("space#stem_stride", repr(self.stem_stride), "1 or 2", "Change the key.")
        for name, allowed in CHOICES.items():
            if not any(getattr(self, name) == one and type(getattr(self, name)) is type(one) for one in allowed):
                raise CineError(
                    f"space#{name}", repr(getattr(self, name)), f"one of {list(allowed)}", "Change the key."
                )
        unknown = [name for name in self.operations if name not in (*OPERATIONS, ZERO)]
        nothing = set(self.operations) <= {ZERO}
        if unknown or nothing or len(set(self.operations)) < len(self.operations):
            raise CineError(
                "space#operations",
                repr(list(self.operations)),
                f"distinct names out of {[*OPERATIONS, ZERO]}, and more than only {ZERO}",
                "",
            )
        if len(self.deployment_size) != 3 or min(self.deployment_size) < 1:
            raise CineError("space#deployment_size", repr(self.deployment_size), "three sizes H, W, D", "")

    @property
    def trellis(self) -> Trellis:
        return Trellis(self.layers, self.scales, self.start, self.end, self.skip)

    def group(self, cell: Cell) -> str:
        """The name of the group of cells that share this cell's operations, such as contracting or contracting_0."""
        if not self.share_cells:
            return cell.name
        return f"{cell.kind}_{cell.source}" if self.share_cells == "scale" else cell.kind

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of all groups of cells with operations, by kind, then by scale or cell."""
        cells = sorted(
            (cell for cell in self.trellis.cells if not cell.skip), key=lambda c: (KINDS.index(c.kind), c.source)
        )
        return tuple(dict.fromkeys(map(self.group, cells)))

    def width(self, scale: int) -> int:
        """Channels of operations at a scale."""
        return self.channels[scale] if isinstance(self.channels, tuple) else self.channels * 2**scale

    def tile_width(self, scale: int) -> int:
        """Channels of tiles at a scale."""
        return self.width(scale) * (self.nodes if self.scaling == "before" else 1)

    def operation_scale(self, cell: Cell) -> int:
        """The scale at which a cell's operations run."""
        return cell.target if self.scaling == "before" else cell.source

    def size(self, scale: int) -> tuple[int, int, int]:
        """H, W, D of the feature maps at a scale, at the deployment size (padded as the network pads)."""
        multiple = self.stem_stride * 2 ** (self.scales - 1)
        height, width, depth = self.deployment_size
        return (*(-(-n // multiple) * multiple // (self.stem_stride * 2**scale) for n in (height, width)), depth)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


CHOICES: dict[str, tuple[Any, ...]] = {
    "start": get_args(Ends),
    "end": get_args(Ends),
    "skip": (False, True),
    "scaling": get_args(Scalings),
    "join": get_args(Joins),
    "share_cells": get_args(Sharing),
}
