"""A peer may send anything: the service logs a line, lives on, and holds no more memory than it may."""

from __future__ import annotations

import logging
import socket
import tracemalloc

import numpy as np
import pytest
from hostile_messages import mutation, named_cases
from serving import Client, Positive, igtl_image, running, with_body

pytest.importorskip("pyigtl")
CASES = list(named_cases())
LAST = b"the last"
TIGHT = {"max_message_mb": 1.0, "stall_seconds": 0.2}


class Strict(Positive):
    """Refuses voxels that are not finite, as the Segmenter does."""

    def segment(self, volume, spacing_mm):
        from scripts.core.errors import CineError

        if not np.isfinite(volume).all():
            raise CineError("volume", "voxels from nan to nan", "finite voxels", "Drop this volume.")
        return super().segment(volume, spacing_mm)


def harmless() -> bytes:
    return igtl_image(np.ones((3, 10, 8), np.int16), stamp=LAST)


def answers(client: Client) -> list[bytes]:
    """The timestamps of the masks until the service ends the connection."""
    stamps = []
    try:
        client.socket.shutdown(socket.SHUT_WR)
        while len(raw := client.read(58)) == 58:
            client.read(int.from_bytes(raw[42:50], "big"))
            if raw[2:14].rstrip(b"\0") == b"IMAGE":
                stamps.append(raw[34:42])
    except OSError:  # the service ended it before it had read everything
        pass
    return stamps


@pytest.fixture(scope="module")
def service():
    with running(connections=TIGHT, segmenter=Strict, late="wait") as found:
        yield found


@pytest.fixture(autouse=True)
def _every_line(monkeypatch, caplog):
    monkeypatch.setattr("scripts.serve.complaints.PAUSE_S", 0.0)
    caplog.set_level(logging.DEBUG)


@pytest.mark.parametrize(("name", "message", "says", "goes_on"), CASES, ids=[case[0] for case in CASES])
def test_a_hostile_message_is_refused_in_a_line(service, caplog, name, message, says, goes_on):
    with Client(service.port) as client:
        client.send(message + harmless())
        stamps = answers(client)
    assert (LAST in stamps) == goes_on
    assert any(says in line for line in caplog.messages)
    with Client(service.port) as client:
        client.send(harmless())
        assert answers(client) == [LAST]


def test_mutations_of_messages_do_no_harm(service):
    for seed in range(150):
        name, message, goes_on = mutation(seed)
        with Client(service.port) as client:
            try:
                client.send(message + harmless())
                stamps = answers(client)
            except ConnectionError:
                stamps = []
        assert not goes_on or stamps[-1:] == [LAST], f"seed {seed}: {name}"
        assert service.thread.is_alive() and service.service.receiver.is_alive(), f"seed {seed}: {name}"


@pytest.mark.parametrize("length", [1, 30, 58, 59, 200])
def test_a_peer_that_stalls_or_goes_away_in_a_message_is_left(service, caplog, length):
    with Client(service.port) as client:
        client.send(harmless()[:length])
        assert client.ended()
    assert "the peer stalled" in caplog.text
    with Client(service.port) as client:
        client.send(harmless()[:length])
    with Client(service.port) as client:
        client.send(harmless())
        assert answers(client) == [LAST]
    assert "the peer went away in a message" in caplog.text


def test_a_peer_that_sends_a_byte_at_a_time_cannot_hold_the_service(service, caplog):
    with Client(service.port) as client, pytest.raises(ConnectionError):
        client.send(with_body(harmless(), b"", size=2**20))
        while True:
            client.send(b"1")
    assert "the peer stalled" in caplog.text


def test_a_peer_that_takes_no_answers_is_left(caplog):
    with running(connections=TIGHT) as service, Client(service.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        image = igtl_image(np.ones((60, 100, 100), np.uint8), np.diag([1.4, 1.4, 2.0, 1.0]))
        with pytest.raises(ConnectionError):
            while True:
                client.send(image)
        with Client(service.port) as other:
            other.send(harmless())
            assert answers(other) == [LAST]
    assert "the peer took no data for 0.2 s" in caplog.text


def test_a_flood_is_dropped_but_for_the_newest_and_takes_no_memory():
    with running(connections=TIGHT) as service, Client(service.port) as client:
        image = igtl_image(np.ones((10, 100, 100), np.int16), np.diag([1.4, 1.4, 8.0, 1.0]))
        client.send(image)
        client.answer()
        service.segmenter.gate.clear()
        tracemalloc.start()
        for _ in range(300):  # 60 MB
            client.send(image)
        while service.service.receiver.count < 301:
            service.service.receiver.join(0.01)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert service.service.inbox.dropped == 298  # one was with the segmenter, and one is left
        assert peak < 4 * len(image)
        service.segmenter.gate.set()
        client.answer(), client.answer()


def test_lines_are_limited_but_counted(service, caplog, monkeypatch):
    monkeypatch.setattr("scripts.serve.complaints.PAUSE_S", 60.0)
    bad = next(message for name, message, *_ in CASES if name == "bad checksum")
    with Client(service.port) as client:
        client.send(bad * 1000 + harmless())
        assert answers(client) == [LAST]
    assert sum("wrong checksum" in line for line in caplog.messages) <= 1


def test_slices_that_never_form_a_stack_are_dropped(caplog):
    with running(connections=TIGHT, late="wait") as service, Client(service.port) as client:
        for place in range(600):
            matrix = np.diag([1.4, 1.4, 9.0, 1.0])
            matrix[2, 3] = place
            client.send(igtl_image(np.ones((1, 20, 20), np.int16), matrix))
        client.send(harmless())
        assert answers(client) == [LAST]
    assert "no slice came again: 256 slices are dropped" in caplog.text
