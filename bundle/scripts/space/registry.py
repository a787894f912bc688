"""The candidate operations, one entry each. All code that builds, fuses, times or draws them reads it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Form = Literal["convolution", "separable", "pooling", "identity", "zero"]


@dataclass(frozen=True)
class Operation:
    """A candidate operation, from B C H W D to the same shape.

    Args:
        form: how it is built (``operations.py``), and how the supernet computes it (``fused.py``).
        colour: its colour in figures.
        kernel: the kernel's size along H, W, D; odd.
        dilation: the kernel's dilation.
    """

    form: Form
    colour: str
    kernel: tuple[int, int, int] = (3, 3, 3)
    dilation: int = 1

    @property
    def has_weights(self) -> bool:
        return self.form in ("convolution", "separable")


ZERO = "zero"
"""It takes a share of the softmax and computes nothing (hardware-aware NAS, Table 1)."""
# colours: the palette of Okabe and Ito, which colour-blind readers can distinguish
REGISTRY: dict[str, Operation] = {
    "conv_3x3x3": Operation("convolution", "#0072b2"),
    "dilated_conv_3x3x3": Operation("convolution", "#56b4e9", dilation=2),
    "separable_conv_3x3x3": Operation("separable", "#009e73"),
    "max_pool_3x3x3": Operation("pooling", "#e69f00"),
    "identity": Operation("identity", "#cc79a7"),
    # slices are thick: a neighbour 5-10 mm away gives little information
    "conv_3x3x1": Operation("convolution", "#d55e00", (3, 3, 1)),
    ZERO: Operation("zero", "#999999"),
}
OPERATIONS = tuple(name for name in REGISTRY if name != ZERO)
DEFAULT = ("conv_3x3x3", "dilated_conv_3x3x3", "separable_conv_3x3x3", "max_pool_3x3x3", "identity")
"""The candidates of a space that names none (hardware-aware NAS, Table 1). A new entry does not change them."""
PARAMETER_FREE = frozenset(name for name, operation in REGISTRY.items() if not operation.has_weights)
POOLING = next(name for name, operation in REGISTRY.items() if operation.form == "pooling")
"""The only operation without weights whose latency counts."""


def index_of(form: Form, operations: Sequence[str]) -> int | None:
    """The index of the candidate with a form, or None."""
    return next((o for o, name in enumerate(operations) if REGISTRY[name].form == form), None)


def convolution_groups(operations: Sequence[str]) -> list[list[int]]:
    """The indices of the convolutions among the candidates, grouped by kernel and dilation: a group can run as one."""
    shapes = dict.fromkeys(_shape(name) for name in REGISTRY if REGISTRY[name].has_weights)
    groups = [
        [o for o, name in enumerate(operations) if REGISTRY[name].has_weights and _shape(name) == shape]
        for shape in shapes
    ]
    return [group for group in groups if group]


def _shape(name: str) -> tuple[tuple[int, int, int], int]:
    return REGISTRY[name].kernel, REGISTRY[name].dilation
