"""What a protocol gives to the service: the volumes that a peer sends, and a way back to the peer.

Arrays: I J K as the peer stores them, I fastest; K slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class MalformedError(ValueError):
    """A message that cannot be used. The next one can be read."""


class BrokenError(ConnectionError):
    """A connection that cannot go on: the peer went away or stalled, or the begin of the next message is unknown."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume that a peer sent.

    Attributes:
        voxels_IJK: real numbers of any type and byte order.
        affine: 4x4, voxel indices to RAS (mm).
        parts: the messages that brought it, each as the protocol keeps it for the answer, with its place along K.
        arrived_s: when its last byte was there (s, of time.perf_counter).
    """

    voxels_IJK: np.ndarray
    affine: np.ndarray
    parts: Sequence[tuple[Any, slice]]
    arrived_s: float


@dataclass(frozen=True)
class Report:
    """What a peer gets to know about a volume next to its mask.

    Attributes:
        number: of the volume in the service, from 0.
        latency_ms: from the volume's arrival until its mask was sent.
        late: whether this is over the deadline.
        flags: doubts, see ``Status``.
        volumes_ml: structure -> ml.
    """

    number: int
    latency_ms: float
    late: bool
    flags: list[str]
    volumes_ml: dict[str, float]


class Peer(Protocol):
    """A connected program. One thread receives, another one sends."""

    def volumes(self) -> Iterator[Volume]:
        """The volumes until the peer ends the connection.

        Raises:
            BrokenError: the connection cannot go on.
        """

    def send_mask(self, volume: Volume, mask_IJK: np.ndarray) -> None:
        """Send the mask, uint8, in the geometry of the volume; BrokenError if the peer does not take it."""

    def send_report(self, volume: Volume, report: Report) -> None:
        """Send what is known about the mask; BrokenError if the peer does not take it."""

    def send_refusal(self, volume: Volume, reason: str) -> None:
        """Say that the volume gets no mask; BrokenError if the peer does not take it."""

    def finish(self) -> None:
        """Say that no more masks come, where the protocol has words for it."""
