from __future__ import annotations

import json
import logging
import socket
import threading

import numpy as np
import pytest
from serving import WAIT_S, Client, Positive, igtl_image, running

from scripts.core.errors import CineError
from scripts.report.stream_figures import report_stream
from scripts.serve.connections import Connections
from scripts.serve.protocols import peer_factory, port_of
from scripts.serve.service import serve

pytest.importorskip("pyigtl")
MATRIX = np.diag([1.4, 1.4, 9.0, 1.0])


def image(number=0, shape=(3, 10, 8), matrix=MATRIX, **settings):
    voxels = np.random.default_rng(number).normal(size=shape).astype(np.float32)
    return igtl_image(voxels, matrix, stamp=number.to_bytes(8, "big"), **settings)


def numbers(client, count):
    return [int.from_bytes(client.answer()[0].stamp, "big") for _ in range(count)]


def test_masks_come_back_in_order_and_the_newest_wins():
    with running() as service, Client(service.port) as client:
        client.send(image(0))
        assert numbers(client, 1) == [0]
        service.segmenter.gate.clear()
        for number in range(1, 6):
            client.send(image(number))
        while service.service.receiver.count < 6:
            service.service.receiver.join(0.01)
        service.segmenter.gate.set()
        first, last = numbers(client, 2)
        assert first in (1, 2, 3, 4) and last == 5  # one was with the segmenter, the newest waited
        assert service.service.inbox.dropped == 3


def test_a_late_mask_says_so():
    with running(deadline_ms=1e-6) as service, Client(service.port) as client:
        client.send(image(0))
        _, result, status = client.answer()
        assert json.loads(result.text)["late"] and "; late: " in status.text


def test_a_waiting_peer_loses_nothing():
    with running(late="wait") as service, Client(service.port) as client:
        for number in range(40):
            client.send(image(number))
        assert numbers(client, 40) == list(range(40))
        assert service.service.inbox.dropped == 0


def test_another_geometry_gets_another_segmenter_and_a_moved_field_only_a_new_start(caplog):
    caplog.set_level(logging.INFO)
    moved, near = MATRIX.copy(), MATRIX.copy()
    moved[:3, 3], near[:3, 3] = 60.0, 5.0
    turned = np.diag([-1.4, 1.4, 9.0, 1.0])
    with running() as service, Client(service.port) as client:
        for matrix in (MATRIX, near, MATRIX):
            client.send(image(matrix=matrix))
            client.answer()
        assert (len(service.made), service.segmenter.forgot) == (1, 0)
        for matrix in (moved, MATRIX, turned):
            client.send(image(matrix=matrix))
            client.answer()
        assert (len(service.made), service.segmenter.forgot) == (1, 3)
        client.send(image(matrix=turned @ np.diag([1.00001, 1, 1, 1])))  # a rounding
        client.answer()
        assert (len(service.made), service.segmenter.forgot) == (1, 3)
        client.send(image(shape=(4, 10, 8)))
        client.answer()
        client.send(image(shape=(4, 10, 8), matrix=np.diag([1.5, 1.4, 9.0, 1.0])))
        client.answer()
        assert [one.prepared[0][0] for one in service.made] == [(8, 10, 3), (8, 10, 4), (8, 10, 4)]
    assert caplog.text.count("the network is compiled for them") == 3


def test_a_peer_that_comes_back_is_served_from_the_start():
    with running() as service:
        for number in range(3):
            with Client(service.port) as client:
                client.send(image(number))
                assert numbers(client, 1) == [number]
        assert (len(service.made), service.segmenter.forgot) == (1, 2)
    assert [json.loads(line)["number"] for line in service.lines] == [0, 1, 2]


def test_it_connects_again_to_a_peer_that_comes_back():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        with running(connections={"port": listener.getsockname()[1], "connect": True}):
            for number in range(2):
                client = Client.__new__(Client)
                client.socket = listener.accept()[0]
                client.socket.settimeout(WAIT_S)
                with client:
                    client.send(image(number))
                    assert numbers(client, 1) == [number]


def test_a_volume_that_cannot_be_segmented_gets_a_status_and_the_next_one_a_mask():
    class Picky(Positive):
        def segment(self, volume, spacing_mm):
            if not self.seen and not np.isfinite(volume).all():
                raise CineError("volume", "voxels from nan to nan", "finite voxels", "Drop this volume.")
            return super().segment(volume, spacing_mm)

    with running(segmenter=Picky) as service, Client(service.port) as client:
        client.send(igtl_image(np.full((3, 10, 8), np.nan, np.float32), MATRIX, stamp=b"refused."))
        status = client.message()
        assert (status.kind, status.code, status.stamp) == ("STATUS", 10, b"refused.")
        assert "voxels from nan" in status.text
        client.send(image(matrix=np.diag([1.4, 1.4, 0.0, 1.0])))
        assert "voxels of [1.4" in client.message().text
        client.send(image(7))
        assert numbers(client, 1) == [7]
        assert service.service.failed == 1


def test_out_of_memory_refuses_only_the_volume():
    class Large(Positive):
        def prepare(self, shape, spacing_mm):
            if shape[2] > 3:
                raise MemoryError
            super().prepare(shape, spacing_mm)

    with running(segmenter=Large) as service, Client(service.port) as client:
        client.send(image(shape=(4, 10, 8)))
        assert "not enough memory" in client.message().text
        client.send(image(7))
        assert numbers(client, 1) == [7]
        assert service.segmenter.prepared == [((8, 10, 3), pytest.approx((1.4, 1.4, 9.0)))]


def test_the_only_peer_gets_all_its_masks_and_then_the_service_ends():
    with running(once=True, late="wait", queue_size=8) as service, Client(service.port) as client:
        service.segmenter.gate.clear()
        for number in range(3):
            client.send(image(number))
        client.socket.shutdown(socket.SHUT_WR)
        service.segmenter.gate.set()
        assert numbers(client, 3) == [0, 1, 2]
        service.join()


def serving(tmp_path, act, **settings):
    """The result of ``serve`` while ``act(port)`` runs in another thread."""
    connections = Connections(port=0)
    actor = threading.Thread(target=act, args=(connections.port,))
    actor.start()
    try:
        return serve(peer_factory("openigtlink"), connections, Positive, str(tmp_path / "out"), **settings)
    finally:
        actor.join()


def three_volumes(port):
    with Client(port) as client:
        for number in range(3):
            client.send(image(number))
            client.answer()


def test_it_writes_the_json_and_the_figure_of_a_stream(tmp_path, capsys):
    result = serving(tmp_path, three_volumes, once=True)
    (path,) = (tmp_path / "out").glob("openigtlink_*_stream.json")
    written = json.loads(path.read_text())
    assert written == {key: value for key, value in result.items() if key != "output"}
    assert written["format"] == "rtdnas-stream-1" and written["input"] == "openigtlink"
    summary = written["summary"]
    assert (summary["volumes"], summary["segmented"], summary["dropped"]) == (3, 3, 0)
    assert summary["flags"] == {"missing RV": 3}
    assert summary["doubts"] == ["field of view doubtful"]  # 14 mm
    assert written["rate"] > 0 and not written["phantom"]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == written["records"]
    report_stream(result)
    assert len(list((tmp_path / "out").glob("*_stream.png"))) == 1


def test_only_the_newest_records_are_kept_but_all_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.serve.service.MAX_RECORDS", 2)
    result = serving(tmp_path, three_volumes, once=True)
    assert [record["number"] for record in result["records"]] == [1, 2]
    assert result["summary"]["segmented"] == 3


def test_seconds_end_it_and_without_a_volume_it_says_so(tmp_path):
    with pytest.raises(CineError, match="found 0 volumes, none with a mask"):
        serving(tmp_path, lambda port: None, seconds=0.1)


def test_an_interruption_ends_it_with_its_results(tmp_path):
    class Interrupted(Positive):
        def segment(self, volume, spacing_mm):
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return super().segment(volume, spacing_mm)

    connections = Connections(port=0)

    def act():
        with Client(connections.port) as client:
            for number in range(3):
                client.send(image(number))
            client.ended()

    actor = threading.Thread(target=act)
    actor.start()
    result = serve(peer_factory("openigtlink"), connections, Interrupted, str(tmp_path), late="wait")
    actor.join()
    assert result["summary"]["segmented"] == 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Connections(port=70000), "port: found 70000"),
        (lambda: Connections(port=0, connect=True), "port: found 0"),
        (lambda: Connections(host="8.8.8.8", port=0), "which cannot be listened at"),
        (lambda: Connections(max_message_mb=0), "max_message_mb: found 0"),
        (lambda: Connections(stall_seconds="long"), "stall_seconds: found 'long'"),
        (lambda: peer_factory("telnet"), "protocol: found 'telnet'"),
        (lambda: port_of("telnet"), "protocol: found 'telnet'"),
        (lambda: peer_factory("openigtlink", image_device=5), "image_device: found 5"),
        (lambda: peer_factory("openigtlink", mask_device="a name too long"), "mask_device: found 'a name"),
        (lambda: peer_factory("openigtlink", slices=0), "slices: found 0"),
    ],
)
def test_impossible_values_are_refused(make, says):
    with pytest.raises(CineError, match=says):
        make()


@pytest.mark.parametrize(("name", "value"), [("seconds", -1), ("deadline_ms", None), ("queue_size", 0)])
def test_impossible_values_are_refused_before_anybody_connects(tmp_path, name, value):
    with pytest.raises(CineError, match=name):
        serving(tmp_path, lambda port: None, **{name: value})


def test_a_port_in_use_is_named():
    first = Connections(port=0)
    with pytest.raises(CineError, match=f"port {first.port}, which cannot be listened at"):
        Connections(port=first.port)
    first.close()


def test_it_is_open_to_the_network_only_if_asked(caplog):
    Connections(port=0).close()
    assert not caplog.records
    Connections(host="0.0.0.0", port=0).close()
    assert "0.0.0.0 is open to the network. There is no password" in caplog.text


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CineError, match=r"package fastcrc is not installed; .*pip install fastcrc"):
        peer_factory("openigtlink")


def test_the_usual_port_of_a_protocol_is_the_default():
    assert (port_of("openigtlink"), port_of("openigtlink", 5)) == (18944, 5)
