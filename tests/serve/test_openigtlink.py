"""OpenIGTLink against pyigtl as a user's peer, and bit for bit on a plain socket."""

from __future__ import annotations

import json
import signal
import struct

import numpy as np
import pytest
from serving import WAIT_S, Client, igtl_image, running, with_body

pyigtl = pytest.importorskip("pyigtl")
OBLIQUE = np.array(
    [[1.2, 0.4, 2.0, -31.7], [-0.5, 1.1, 4.0, 12.345678], [0.1, -0.3, 8.0, 100.1], [0, 0, 0, 1]], np.float32
)
OBLIQUE[:3, :3], SPACING = np.linalg.qr(OBLIQUE[:3, :3])[0] * np.array([1.3, 1.4, 9.1]), (1.3, 1.4, 9.1)


def cine(kind=np.int16, frames=1, shape=(3, 10, 8)):
    voxels = np.random.default_rng(0).normal(size=(frames, *shape)) * 50
    return (abs(voxels) * (voxels > 0) if np.dtype(kind).kind == "u" else voxels).astype(kind)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("system", ["lps", "ras"])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", ">i2", ">f8"])
def test_a_mask_has_its_image_s_geometry_and_timestamp_to_the_bit(kind, system, version):
    (image,) = cine()
    image = image.clip(0).astype(np.dtype(kind).newbyteorder("=")) if "u" in kind else image.astype(kind[-2:])
    sent = image.byteswap().view(np.dtype(kind)) if kind[0] == ">" else image
    stamp = bytes([1, 2, 3, 255, 254, 253, 7, 9])
    message = igtl_image(image, OBLIQUE, system, stamp, version=version)
    if kind[0] == ">":  # pyigtl finds no scalar type for these
        body = bytearray(message[58:])
        place = 12 if version == 2 else 0
        body[place + 4], end = 1, place + 72 + image.nbytes
        body[place + 72 : end] = sent.tobytes()
        message = with_body(message, bytes(body))
    with running() as service, Client(service.port) as client:
        client.send(message)
        mask, result, status = client.answer()
    place = 58 + (12 if version == 2 else 0)
    head = message[place : place + 72]
    assert (mask.kind, mask.device, mask.version, mask.stamp) == ("IMAGE", "Heart", version, stamp)
    assert mask.head[:2] == head[:2] and mask.head[2:5] == bytes([1, 3, 2])
    assert mask.head[5:] == head[5:]  # coordinate system, size, matrix, centre, part
    np.testing.assert_array_equal(mask.image, image > 0)
    assert (result.kind, result.device, result.stamp) == ("STRING", "HeartResult", stamp)
    assert json.loads(result.text) == {
        "number": 0,
        "latency_ms": pytest.approx(5000, abs=5000),
        "late": False,
        "flags": ["missing RV"],
        "volumes_ml": {"RV": float((image > 0).sum()), "MYO": 2.0, "LV": 3.0},
    }
    assert (status.kind, status.device, status.stamp) == ("STATUS", "HeartStatus", stamp)
    assert (status.code, status.name, status.text) == (1, "doubts", "missing RV")
    assert service.segmenter.prepared[0][1] == pytest.approx(SPACING)


def test_the_segmenter_sees_the_patient_s_left_and_back_first():
    """In LPS with negative in-plane axes, both are flipped."""
    (image,) = cine()
    with running() as service, Client(service.port) as client:
        client.send(igtl_image(image, np.diag([-1.4, -1.3, 9.0, 1.0])))
        mask = client.answer()[0]
        (seen,) = service.segmenter.seen
    np.testing.assert_array_equal(seen[0, 0], image[:, -1, -1])
    np.testing.assert_array_equal(mask.image, image > 0)


def test_a_user_s_pyigtl_client_gets_its_masks_in_order():
    images = cine(frames=5)
    with running() as service:
        client = pyigtl.OpenIGTLinkClient("127.0.0.1", service.port)
        for number, image in enumerate(images):
            client.send_message(
                pyigtl.ImageMessage(image, OBLIQUE, timestamp=100.5 + number, device_name="Cine"), wait=False
            )
            mask = client.wait_for_message("Heart", timeout=WAIT_S)
            result = client.wait_for_message("HeartResult", timeout=WAIT_S)
            np.testing.assert_array_equal(mask.image, image > 0)
            np.testing.assert_allclose(mask.ijk_to_world_matrix, OBLIQUE, atol=1e-4)
            assert mask.timestamp == result.timestamp == 100.5 + number
            assert json.loads(result.string)["number"] == number
        client.stop()
    assert [json.loads(line)["number"] for line in service.lines] == list(range(5))


@pytest.fixture
def igtl_server():
    """pyigtl's server, which takes the process's signal handlers and leaves them."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    server = pyigtl.OpenIGTLinkServer(0, local_server=True)
    yield server
    server.communication_thread_stop_requested = True
    server.stop()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_it_connects_to_a_pyigtl_server(igtl_server):
    (image,) = cine()
    port = igtl_server.server_address[1]
    with running(connections={"port": port, "connect": True}):
        igtl_server.send_message(pyigtl.ImageMessage(image, OBLIQUE, device_name="Cine"), wait=False)
        mask = igtl_server.wait_for_message("Heart", timeout=WAIT_S)
        np.testing.assert_array_equal(mask.image, image > 0)


def test_only_the_named_device_and_only_images_are_taken():
    first, second = cine(frames=2)
    with running(image_device="Cine", mask_device="Mask") as service, Client(service.port) as client:
        client.send(igtl_image(first, device="Other"))
        client.send(pyigtl.StringMessage("hello", device_name="Cine").pack())
        client.send(pyigtl.TransformMessage(np.eye(4), device_name="Cine").pack())
        client.send(igtl_image(second, device="Cine"))
        mask, result, _ = client.answer()
        np.testing.assert_array_equal(mask.image, second > 0)
        assert (mask.device, result.device) == ("Mask", "MaskResult")


def slices_of(image, matrix=OBLIQUE, order=None, **settings):
    """One IMAGE for each slice, with its own place; the timestamps hold the number of the slice."""
    for k in range(len(image)) if order is None else order:
        at = matrix.copy()
        at[:3, 3] += k * matrix[:3, 2]
        yield igtl_image(image[k : k + 1], at, stamp=struct.pack(">II", 9, k), **settings)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 1, 3]])
@pytest.mark.parametrize("slices", [4, "auto"])
def test_slices_that_come_one_by_one_form_a_stack(slices, order):
    """With the number of slices, a stack is segmented with its last slice. Else the first waits for one more."""
    first, second = cine(frames=2, shape=(4, 10, 8))
    with running(slices=slices, late="wait", queue_size=4) as service, Client(service.port) as client:
        for message in [*slices_of(first, order=order), *slices_of(second, order=order)]:
            client.send(message)
        for image in (first, second):
            masks = [client.message() for _ in order]
            client.message(), client.message()
            for k, mask in zip(order, masks, strict=True):
                assert mask.stamp == struct.pack(">II", 9, k)
                np.testing.assert_array_equal(mask.image, image[k : k + 1] > 0)
        assert service.segmenter.prepared == [((8, 10, 4), pytest.approx((1.3, 1.4, 9.1), rel=1e-4))]
        for seen in service.segmenter.seen:
            assert seen.shape == (8, 10, 4)


def test_single_slices_at_one_place_are_volumes_of_their_own():
    images = cine(frames=4, shape=(1, 10, 8))
    with running(late="wait") as service, Client(service.port) as client:
        for image in images:
            client.send(igtl_image(image, OBLIQUE))
        for image in images:
            np.testing.assert_array_equal(client.answer()[0].image, image > 0)


def test_parts_of_an_image_form_it():
    """OpenIGTLink's own way: each message names the slices that it brings."""
    (image,) = cine(shape=(4, 10, 8))
    whole = igtl_image(image, OBLIQUE)

    def part(first, count):
        head = bytearray(whole[58:130])
        struct.pack_into(">6H", head, 60, 0, 0, first, 8, 10, count)
        return with_body(whole, bytes(head) + image[first : first + count].tobytes())

    with running() as service, Client(service.port) as client:
        for first, count in ((2, 2), (0, 1), (1, 1)):
            client.send(part(first, count))
        for first, count in ((2, 2), (0, 1), (1, 1)):
            mask = client.message()
            assert mask.head[60:] == struct.pack(">6H", 0, 0, first, 8, 10, count)
            voxels = np.frombuffer(mask.body[72:], np.uint8).reshape(count, 10, 8)
            np.testing.assert_array_equal(voxels, image[first : first + count] > 0)
        np.testing.assert_allclose(service.segmenter.prepared[0][1], SPACING, rtol=1e-4)
