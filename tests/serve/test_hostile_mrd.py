"""The same for MRD: a line, the service lives on, and memory is bounded."""

from __future__ import annotations

import logging
import socket
import struct

import pytest
from serving import Client, Positive, running

pytest.importorskip("ismrmrd")
from hostile_mrd import image, mutation, named_cases, text

CASES = list(named_cases())
LAST, CLOSE = 4_000_000_001, struct.pack("<H", 4)


@pytest.fixture(scope="module")
def service():
    tight = {"max_message_mb": 1.0, "stall_seconds": 0.2}
    with running("mrd", connections=tight, late="wait", segmenter=Positive) as found:
        yield found


@pytest.fixture(autouse=True)
def _every_line(monkeypatch, caplog):
    monkeypatch.setattr("scripts.serve.complaints.PAUSE_S", 0.0)
    caplog.set_level(logging.DEBUG)


def answered(client: Client) -> bool:
    """Whether the last image had a mask, when the service has ended the connection."""
    content = b""
    try:
        client.socket.shutdown(socket.SHUT_WR)
        while more := client.socket.recv(2**16):
            content += more
    except OSError:  # the service ended it before it had read everything
        pass
    return struct.pack("<I", LAST) in content


def serves(service) -> bool:
    with Client(service.port) as client:
        client.send(image(LAST) + CLOSE)
        return answered(client)


@pytest.mark.parametrize(("name", "message", "says", "goes_on"), CASES, ids=[case[0] for case in CASES])
def test_a_hostile_message_is_refused_in_a_line(service, caplog, name, message, says, goes_on):
    with Client(service.port) as client:
        client.send(message + image(LAST) + CLOSE)
        assert answered(client) == goes_on
    assert any(says in line for line in caplog.messages), caplog.messages
    assert serves(service)


def test_mutations_of_messages_do_no_harm(service):
    for seed in range(150):
        name, message, goes_on = mutation(seed)
        with Client(service.port) as client:
            try:
                client.send(message + image(LAST) + CLOSE)
                found = answered(client)
            except ConnectionError:
                found = False
        assert found or not goes_on, f"seed {seed}: {name}"
        assert service.thread.is_alive() and service.service.receiver.is_alive(), f"seed {seed}: {name}"
    assert serves(service)


def test_a_peer_that_stalls_in_a_message_is_left(service, caplog):
    for length in (1, 50, 300):
        with Client(service.port) as client:
            client.send(image()[:length])
            assert client.ended()
    assert caplog.text.count("the peer stalled") == 3
    assert serves(service)


def test_groups_that_miss_slices_are_dropped_when_they_grow(service, caplog):
    limits = b"<encodingLimits><slice><minimum>0</minimum><maximum>9</maximum></slice></encodingLimits>"
    header = text(3, b"<ismrmrdHeader><encoding>" + limits + b"</encoding></ismrmrdHeader>")
    with Client(service.port) as client:
        client.send(header)
        for repetition in range(300):  # 6 MB
            flat = {"matrix_size": (100, 100, 1), "data": bytes(20_000), "repetition": repetition}
            client.send(image(**flat))
        client.send(image(LAST) + CLOSE)
        assert answered(client)
    assert "a stack that misses slices is dropped" in caplog.text
