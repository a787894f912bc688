"""What every step asks of a network, whether it was searched here or is one that users would otherwise pick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from scripts.space.space import Space


class Deployable(nn.Module):
    """A network that is trained, timed and deployed: B 1 H W D to logits B 4 H W D, any H, W, D >= 1.

    Attributes:
        digest: SHA-256 of what it computes, whatever its weights.
        space: where it was searched, with the deployment size; of others only the size, and what the
            reference network that is timed in turn with it is drawn from.
        multiple: voxels in plane that its coarsest feature map steps over.
        provenance: how it was found and what was measured then; empty where nobody searched.
        activations: of trained weights, the least and the greatest value that convolutions read, by name; None of
            random ones. Integers need them.
    """

    digest: str
    space: Space
    multiple: int
    provenance: Mapping[str, Any]
    activations: Mapping[str, tuple[float, float]] | None = None
