"""The protocols by name, with the package that each needs."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scripts.core.errors import CineError
from scripts.serve.protocol import Peer
from scripts.serve.wire import Wire

PROTOCOLS = {"openigtlink": (("fastcrc", "crcmod"), 18944), "mrd": (("ismrmrd",), 9002)}
"""Name -> packages, one of which it needs, and the port that its programs use by default."""

MAX_DEVICE = 14
"""Letters of a device name that leave room for the endings, of 20 that a header of OpenIGTLink has."""


@dataclass(frozen=True)
class PeerFactory:
    """Makes peers of connections: ``factory(wire)``."""

    name: str
    make: Callable[[Wire], Peer]

    def __call__(self, wire: Wire) -> Peer:
        return self.make(wire)


def peer_factory(
    protocol: str,
    image_device: str | None = None,
    mask_device: str = "Heart",
    slices: Any = "auto",
    outlines: bool = True,
) -> PeerFactory:
    """The peers of a protocol.

    Args:
        protocol: a name from ``PROTOCOLS``.
        image_device, mask_device: device names of OpenIGTLink.
        slices: of a stack of OpenIGTLink that comes slice by slice; "auto": found from their places.
        outlines: whether masks of MRD carry outlines.

    Raises:
        CineError: a value is impossible, or the package of the protocol is not installed.
    """
    packages, _ = _known(protocol)
    if not any(map(importlib.util.find_spec, packages)):
        found = f"{protocol}, whose package {packages[0]} is not installed"
        raise CineError("protocol", found, "the package", f"pip install {packages[0]}, or make install.")
    if slices != "auto" and (isinstance(slices, bool) or not isinstance(slices, int) or not 1 <= slices <= 256):
        raise CineError("slices", repr(slices), "a whole number from 1 to 256, or auto", "Change the key.")
    if image_device is not None and not _is_device(image_device, 20):
        raise CineError("image_device", repr(image_device), "1 to 20 ASCII letters, or none", "Change the key.")
    if not _is_device(mask_device, MAX_DEVICE):
        raise CineError("mask_device", repr(mask_device), f"1 to {MAX_DEVICE} ASCII letters", "Change the key.")
    count = None if slices == "auto" else slices
    module = importlib.import_module(f"scripts.serve.{protocol}")
    if protocol == "mrd":
        return PeerFactory(protocol, lambda wire: module.MrdPeer(wire, outlines))
    return PeerFactory(protocol, lambda wire: module.OpenIGTLinkPeer(wire, image_device, mask_device, count))


def port_of(protocol: str, port: Any = "auto") -> int:
    """The port, or the one that the protocol's programs use by default; CineError for an unknown protocol."""
    return _known(protocol)[1] if port == "auto" else port


def _is_device(name: Any, letters: int) -> bool:
    return isinstance(name, str) and 0 < len(name) <= letters and name.isascii()


def _known(protocol: str) -> tuple[tuple[str, ...], int]:
    if protocol not in PROTOCOLS:
        raise CineError("protocol", repr(protocol), f"one of {list(PROTOCOLS)}", "Change the key.")
    return PROTOCOLS[protocol]
