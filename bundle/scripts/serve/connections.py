"""Connections of a service, one peer at a time: it listens for peers, or connects to one, again and again."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from scripts.core.errors import CineError
from scripts.serve.wire import POLL_S, Wire

logger = logging.getLogger(__name__)
RETRY_S, DIAL_S = 0.5, 2.0


class Connections:
    """Where the peers are.

    Args:
        host: address to listen at or to connect to. By default only programs of this machine can connect.
        port: 0 to listen at any free port; ``port`` then has its number.
        connect: whether to connect to a peer that listens, instead of listening.
        max_message_mb: a peer that announces a larger message is disconnected.
        stall_seconds: time in which a message must come or go as a whole.

    Raises:
        CineError: a value is impossible, or the address cannot be listened at.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 18944,
        connect: bool = False,
        max_message_mb: float = 64.0,
        stall_seconds: float = 10.0,
    ):
        for name, value in (("max_message_mb", max_message_mb), ("stall_seconds", stall_seconds)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
                raise CineError(name, repr(value), "a number above 0", "Change the key.")
        if isinstance(port, bool) or not isinstance(port, int) or not bool(connect) <= port < 2**16:
            raise CineError("port", repr(port), "a whole number below 65536, or auto", "Change the key.")
        self.host, self.port, self.connect = host, port, connect
        self._max_bytes, self._stall_s = int(max_message_mb * 2**20), float(stall_seconds)
        self.stop = threading.Event()
        self._current: Wire | None = None
        self._listener = None if connect else self._listen()

    def wires(self) -> Iterator[Wire]:
        """One connection after the other, until ``end``. Each is closed when the next one is asked for."""
        said = ""
        while not self.stop.is_set():
            text = f"{'connecting to' if self.connect else 'listening at'} {self.host}, port {self.port}"
            if text != said:
                logger.info("%s", text)
            said = text
            connection = self._dial() if self._listener is None else self._accept(self._listener)
            if connection is None:
                continue
            logger.info("a peer is connected")
            said = ""
            with self._wire(connection) as wire:
                yield wire
            logger.info("the connection is closed")
            self.stop.wait(RETRY_S if self.connect else 0)

    def end(self) -> None:
        """Stop, from any thread; another one that waits for data or for a peer leaves ``wires``."""
        self.stop.set()
        current = self._current
        if current is not None:
            current.end()

    def close(self) -> None:
        """Free the port, when no thread is in ``wires`` any more."""
        self.end()
        if self._listener is not None:
            self._listener.close()

    @contextmanager
    def _wire(self, connection: socket.socket) -> Iterator[Wire]:
        self._current = Wire(connection, self.stop, self._max_bytes, self._stall_s)
        try:
            yield self._current
        finally:
            self._current.close()
            self._current = None

    def _listen(self) -> socket.socket:
        try:
            family = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][0]
            listener = socket.create_server((self.host, self.port), family=family, backlog=1)
        except (OSError, UnicodeError) as error:
            found = f"{self.host}, port {self.port}, which cannot be listened at ({error})"
            action = "Choose another port, or stop the program that uses it."
            raise CineError("host", found, "an address of this machine with a free port", action) from None
        listener.settimeout(POLL_S)
        self.port = listener.getsockname()[1]
        if not ipaddress.ip_address(listener.getsockname()[0].split("%")[0]).is_loopback:
            logger.warning(
                "%s is open to the network. There is no password and no encryption: see docs/SECURITY.md", self.host
            )
        return listener

    def _accept(self, listener: socket.socket) -> socket.socket | None:
        try:
            return listener.accept()[0]
        except TimeoutError:
            return None
        except OSError as error:  # the peer has gone already, or this process has too many files open
            logger.warning("a peer could not connect (%s)", error.strerror or error)
            self.stop.wait(RETRY_S)
            return None

    def _dial(self) -> socket.socket | None:
        try:
            return socket.create_connection((self.host, self.port), timeout=DIAL_S)
        except (OSError, UnicodeError) as error:
            logger.debug("no peer at port %d yet (%s)", self.port, error)
            self.stop.wait(RETRY_S)
            return None
