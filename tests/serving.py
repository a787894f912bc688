"""A service with a stand-in for the network, and peers of both protocols, on loopback."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from scripts.live.segmenter import Status
from scripts.runtime.deploy import Runtime
from scripts.serve.connections import Connections
from scripts.serve.protocols import peer_factory
from scripts.serve.service import Service

pyigtl = pytest.importorskip("pyigtl")
CRC64, MessageBase = pyigtl.messages.CRC64, pyigtl.messages.MessageBase
WAIT_S = 10.0
"""A test that waits longer fails; none waits so long when all is well."""


class Positive:
    """Stands in for a Segmenter: marks positive voxels, with a flag. ``gate`` holds it back."""

    runtime = Runtime("cpu", "float32")

    def __init__(self) -> None:
        self.prepared: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
        self.seen: list[np.ndarray] = []
        self.forgot = 0
        self.gate = threading.Event()
        self.gate.set()

    def prepare(self, shape, spacing_mm):
        self.prepared.append((tuple(shape), tuple(spacing_mm)))

    def forget(self):
        self.forgot += 1

    def segment(self, volume, spacing_mm):
        assert self.gate.wait(WAIT_S)
        self.seen.append(np.array(volume))
        volumes = {"RV": float((volume > 0).sum()), "MYO": 2.0, "LV": 3.0}
        return (volume > 0).astype(np.uint8), Status(1.0, 0.5, False, volumes, ["missing RV"])


class Running:
    """A service in a thread of its own."""

    def __init__(self, service: Service, made: list[Positive], lines: list[str]):
        self.service, self.made, self.lines = service, made, lines
        self.thread = threading.Thread(target=service.run)
        self.port = service.connections.port

    @property
    def segmenter(self) -> Positive:
        return self.made[-1]

    def join(self) -> None:
        """Wait until the service ends by itself."""
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()


@contextmanager
def running(
    protocol: str = "openigtlink", connections: dict[str, Any] | None = None, segmenter: Any = None, **settings: Any
) -> Iterator[Running]:
    """A service of stand-ins that listens at a free port of loopback. No thread of it is left at the end."""
    made: list[Positive] = []

    def make():
        made.append((segmenter or Positive)())
        return made[-1]

    peer = {
        name: settings.pop(name) for name in ("image_device", "mask_device", "slices", "outlines") if name in settings
    }
    lines: list[str] = []
    to = Connections(**{"port": 0, **(connections or {})})
    service = Service(to, peer_factory(protocol, **peer), make, write=lines.append, **settings)
    found = Running(service, made, lines)
    found.thread.start()
    try:
        yield found
    finally:
        for one in made:
            if isinstance(one, Positive):
                one.gate.set()
        service.stop()
        found.thread.join(WAIT_S)
        to.close()
        assert not found.thread.is_alive() and not service.receiver.is_alive()


class Client:
    """A peer on a plain socket."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def read(self, size: int) -> bytes:
        """So many bytes; fewer where the service ended the connection."""
        content = b""
        while len(content) < size and (more := self.socket.recv(size - len(content))):
            content += more
        return content

    def ended(self) -> bool:
        """Whether the service ends the connection, within the time that tests wait."""
        try:
            while self.socket.recv(2**16):
                pass
        except ConnectionError:
            pass
        return True

    def message(self) -> Message:
        """The next OpenIGTLink message."""
        raw = self.read(58)
        assert len(raw) == 58, "the connection ended"
        return Message(raw, self.read(struct.unpack_from(">Q", raw, 42)[0]))

    def answer(self) -> list[Message]:
        """The mask, the result and the status of a volume that came in one message."""
        return [self.message() for _ in range(3)]


class Message:
    """An OpenIGTLink message that a peer got: its bytes, and what pyigtl reads in them."""

    def __init__(self, raw: bytes, body: bytes):
        fields = MessageBase.parse_header(raw)
        self.kind, self.device, self.version = (
            fields[name] for name in ("message_type", "device_name", "header_version")
        )
        self.stamp, self.body = raw[34:42], body
        assert CRC64(body) == struct.unpack_from(">Q", raw, 50)[0]
        content = body if self.version == 1 else body[12:-2]
        self.head = content[:72]
        if self.kind == "STATUS":
            self.code, _, name = struct.unpack_from(">Hq20s", content)
            self.name, self.text = name.rstrip(b"\0").decode(), content[30:].rstrip(b"\0").decode()
        self._fields = fields
        if self.kind == "STRING":
            self.text = self._read().string

    def _read(self):
        message = MessageBase.create_message(self.kind)
        message.unpack(self._fields, self.body)
        return message

    @property
    def image(self) -> np.ndarray:
        return self._read().image


def igtl_image(
    voxels_KJI: np.ndarray,
    matrix: np.ndarray | None = None,
    system: str = "lps",
    stamp: bytes = bytes(range(8)),
    device: str = "Cine",
    version: int = 1,
) -> bytes:
    """An IMAGE message as pyigtl packs it, with a timestamp of any bits."""
    matrix = np.diag([1.4, 1.4, 9.0, 1.0]) if matrix is None else matrix
    message = pyigtl.ImageMessage(voxels_KJI, matrix, system, timestamp=0, device_name=device)
    message.header_version = version
    if version == 2:
        message.metadata = {"sequence": "real time"}
    packed = bytearray(message.pack())
    packed[34:42] = stamp
    return bytes(packed)


def with_body(message: bytes, body: bytes, size: int | None = None) -> bytes:
    """The message with another body and its checksum; ``size`` is what the header claims."""
    claimed = len(body) if size is None else size
    return message[:42] + struct.pack(">QQ", claimed, CRC64(body)) + body
