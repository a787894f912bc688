"""A blocking socket: whole messages in, whole messages out, and no wait without an end."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from scripts.serve.protocol import BrokenError

POLL_S = 0.25
"""How often a waiting thread looks whether the service ends; data wake it at once."""
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


class Wire:
    """One connection. ``read`` belongs to one thread, ``write`` to another.

    Args:
        connection: a connected socket; ``close`` closes it.
        stop: ends waiting reads.
        max_bytes: of one message.
        stall_s: time in which a message must come or go as a whole.
    """

    def __init__(self, connection: socket.socket, stop: threading.Event, max_bytes: int, stall_s: float):
        self.max_bytes, self.stall_s, self._stop = max_bytes, stall_s, stop
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # finds a cable that was pulled
        for name, value in _KEEPALIVE.items():
            with suppress(AttributeError, OSError):  # not on every system
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        # one socket, two time limits
        self._in, self._out = connection, connection.dup()
        self._in.settimeout(POLL_S)
        self._out.settimeout(stall_s)
        self._deadline_s = float("inf")

    def read_first(self, size: int) -> bytearray | None:
        """The first bytes of a message, however long the peer pauses before it; None if the peer has ended.

        Raises:
            BrokenError: the peer stalled or went away within these bytes, or the service ends.
        """
        self._deadline_s = float("inf")
        return self._read(size)

    def read(self, size: int) -> bytearray:
        """More bytes of the message.

        Raises:
            BrokenError: they are too many, the peer stalled or went away, or the service ends.
        """
        if size > self.max_bytes:
            raise BrokenError(f"a message of {size} bytes, over the limit of {self.max_bytes}: see max_message_mb")
        found = self._read(size)
        if found is None:
            raise BrokenError("the peer went away in a message")
        return found

    def write(self, *content: bytes) -> None:
        """Send; BrokenError if the peer does not take it in time."""
        try:
            self._out.sendall(b"".join(content))
        except OSError as error:
            self.end()  # half a message may be out, so no other one can follow
            late = isinstance(error, TimeoutError)
            why = f"took no data for {self.stall_s:g} s" if late else f"went away ({error.strerror or error})"
            raise BrokenError(f"the peer {why}") from None

    def end(self) -> None:
        """End the connection, from any thread; one that waits in it gets a BrokenError, or None."""
        with suppress(OSError):
            self._out.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection and free it; for the thread that reads."""
        self.end()
        self._in.close()
        self._out.close()

    def _read(self, size: int) -> bytearray | None:
        content = bytearray(size)
        place, view = 0, memoryview(content)
        while place < size:
            try:
                count = self._in.recv_into(view[place:])
            except TimeoutError:
                count = -1
            except OSError as error:
                raise BrokenError(f"the peer went away ({error.strerror or error})") from None
            if self._stop.is_set():
                raise BrokenError("the service ends")
            if count == 0:
                if place == 0:
                    return None
                raise BrokenError("the peer went away in a message")
            if count > 0 and self._deadline_s == float("inf"):
                self._deadline_s = time.perf_counter() + self.stall_s
            place += max(count, 0)
            if place < size and time.perf_counter() > self._deadline_s:
                raise BrokenError(f"the peer stalled: a message did not come within {self.stall_s:g} s")
        return content
