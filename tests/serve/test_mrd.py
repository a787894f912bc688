"""MRD against a client that is made of the package ismrmrd."""

from __future__ import annotations

import json
import socket

import numpy as np
import pytest
from serving import WAIT_S, running

ismrmrd = pytest.importorskip("ismrmrd")
SHAPE = (10, 8)
FIELD = (8 * 1.4, 10 * 1.3, 9.0)
ROW, COLUMN, SLICE = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0].T
SLICE = np.cross(ROW, COLUMN)


def header(slices=None, first=0):
    xsd = ismrmrd.xsd
    limits = xsd.encodingLimitsType()
    if slices is not None:
        limits.slice = xsd.limitType(minimum=first, maximum=first + slices - 1, center=first)
    size = xsd.matrixSizeType(x=8, y=10, z=1)
    space = xsd.encodingSpaceType(matrixSize=size, fieldOfView_mm=xsd.fieldOfViewMm(x=FIELD[0], y=FIELD[1], z=FIELD[2]))
    encoding = xsd.encodingType(
        encodedSpace=space, reconSpace=space, encodingLimits=limits, trajectory=xsd.trajectoryType.CARTESIAN
    )
    conditions = xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63_000_000)
    return xsd.ismrmrdHeader(encoding=[encoding], experimentalConditions=conditions)


def image(voxels, number=0, meta=None, **fields):
    """An image of ismrmrd; ``number`` is its slice, whose centre is 9 mm from the last one."""
    made = ismrmrd.Image.from_array(np.asarray(voxels))
    head = made.getHead()
    head.field_of_view, head.slice = FIELD, number
    head.read_dir, head.phase_dir, head.slice_dir = (tuple(axis) for axis in (ROW, COLUMN, SLICE))
    head.position = tuple(np.array([1.1, -20.2, 30.3]) + 9 * number * SLICE)
    head.image_type, head.image_series_index, head.acquisition_time_stamp = 1, 3, 123456 + number
    head.measurement_uid, head.image_index, head.user_float = 77, number + 1, (0.1,) * 8
    for name, value in fields.items():
        setattr(head, name, value)
    made.setHead(head)
    made.meta = ismrmrd.Meta({"Mine": ["kept", "too"], **(meta or {})})
    return made


class MrdClient:
    """A user's client: the package's serializer and deserializer over a socket."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self._out, self._in = self.socket.makefile("wb"), self.socket.makefile("rb")
        self._serializer = ismrmrd.ProtocolSerializer(self._out)
        self._messages = ismrmrd.ProtocolDeserializer(self._in).deserialize()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for part in (self._out, self._in, self.socket):
            part.close()

    def send(self, *messages):
        for message in messages:
            self._serializer.serialize(message)
        self._out.flush()

    def begin(self, slices=None, first=0):
        self.send(ismrmrd.ConfigFile("rtdnas"), header(slices, first))

    def end(self):
        self._serializer.close()

    def get(self, count=1):
        return [next(self._messages) for _ in range(count)]

    def rest(self):
        """All messages until the service says that no more come."""
        return list(self._messages)


def stack(slices=3, seed=0, kind=np.float32):
    voxels = np.random.default_rng(seed).normal(size=(slices, *SHAPE)) * 50
    return abs(voxels).astype(kind) * (voxels > 0) if np.dtype(kind).kind == "u" else voxels.astype(kind)


SAME = [name for name, _ in ismrmrd.ImageHeader._fields_
        if name not in ("data_type", "image_series_index", "attribute_string_len")]  # fmt: skip


@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "f4", "f8", "c8"])
def test_a_mask_goes_out_with_the_last_slice_and_has_the_geometry_of_its_image_to_the_bit(kind):
    """The peer waits for it, and sends nothing that would end a series."""
    voxels = stack(kind=kind) if kind != "c8" else stack().clip(0).astype(np.complex64) * 1j
    sent = [image(voxels[k], k) for k in range(3)]
    with running("mrd") as service, MrdClient(service.port) as client:
        client.begin(slices=3)
        client.send(*sent)
        *masks, text = client.get(4)
        for k, (before, after) in enumerate(zip(sent, masks, strict=True)):
            assert after.data.dtype == np.uint16 and after.data.shape == (1, 1, *SHAPE)
            np.testing.assert_array_equal(after.data[0, 0], abs(voxels[k]) > 0 if kind == "c8" else voxels[k] > 0)
            a, b = before.getHead(), after.getHead()
            for name in SAME:
                assert bytes(memoryview(np.array(getattr(a, name)))) == bytes(memoryview(np.array(getattr(b, name))))
            assert (b.data_type, b.image_series_index) == (1, 103)
            assert after.meta["Keep_image_geometry"] == "1" and after.meta["Mine"] == ["kept", "too"]
            assert "ROI_RV" in after.meta
        report = json.loads(text)
        assert report["flags"] == ["missing RV"] and report["number"] == 0
        ((shape, spacing),) = service.segmenter.prepared
        assert sorted(shape) == [3, 8, 10] and shape[2] == 3
        assert sorted(spacing) == pytest.approx([1.3, 1.4, 9.0])
        client.end()
        assert client.rest() == []


def test_voxels_are_where_the_patient_s_left_and_back_are():
    voxels = stack()
    with running("mrd") as service, MrdClient(service.port) as client:
        client.begin(slices=3)
        axial = {"read_dir": (-1, 0, 0), "phase_dir": (0, 1, 0), "slice_dir": (0, 0, 1)}
        client.send(*(image(voxels[k], k, position=(0, 0, 9.0 * k), **axial) for k in range(3)))
        client.get(4)
        (seen,) = service.segmenter.seen
    # rows run to the right: the first voxel towards the left is the last of a row
    np.testing.assert_array_equal(seen[:, :, 0], voxels[0].T[::-1])


def test_directions_of_attributes_win():
    voxels = stack()
    turned = {"ImageRowDir": [1, 0, 0], "ImageColumnDir": [0, 1, 0], "ImageSliceDir": [0, 0, 1]}
    with running("mrd") as service, MrdClient(service.port) as client:
        client.begin(slices=3)
        client.send(*(image(voxels[k], k, turned, position=(0, 0, 9.0 * k)) for k in range(3)))
        client.get(4)
        np.testing.assert_array_equal(service.segmenter.seen[0][:, :, 0], voxels[0].T)


@pytest.mark.parametrize("order", ["slices first", "phases first", "backwards"])
def test_slices_of_several_phases_may_come_in_any_order(order):
    phases, first = [stack(seed=seed) for seed in range(4)], 5
    pairs = [(phase, k) for phase in range(4) for k in range(3)]
    pairs = {"slices first": pairs, "phases first": sorted(pairs, key=lambda pair: pair[1]), "backwards": pairs[::-1]}
    with running("mrd", late="wait", queue_size=4) as service, MrdClient(service.port) as client:
        client.begin(slices=3, first=first)
        client.send(*(image(phases[phase][k], first + k, phase=phase) for phase, k in pairs[order]))
        client.end()
        answers = [message for message in client.rest() if not isinstance(message, str)]
        assert len(answers) == 12
        for answer in answers:
            np.testing.assert_array_equal(answer.data[0, 0], phases[answer.phase][answer.slice - first] > 0)
        assert [answer.phase for answer in answers] == [
            p for p in sorted({*range(4)}, reverse=order == "backwards") for _ in range(3)
        ]


def test_a_repetition_that_misses_a_slice_does_not_disturb_the_others(caplog):
    with running("mrd", late="wait", queue_size=4) as service, MrdClient(service.port) as client:
        client.begin(slices=3)
        for repetition in range(3):
            for k in range(3):
                if (repetition, k) != (1, 1):
                    client.send(image(stack(seed=repetition)[k], k, repetition=repetition))
        client.end()
        masks = [message for message in client.rest() if not isinstance(message, str)]
        assert [mask.repetition for mask in masks] == [0, 0, 0, 2, 2, 2]
    assert "2 slices never formed a whole stack" in caplog.text


def test_without_limits_each_image_is_a_volume_and_a_volume_may_be_one_image():
    with running("mrd", late="wait", outlines=False) as service, MrdClient(service.port) as client:
        client.begin()
        flat, deep = stack(1), stack(4)
        client.send(image(flat[0]))
        mask, _ = client.get(2)
        np.testing.assert_array_equal(mask.data[0], flat > 0)
        assert "ROI_RV" not in mask.meta
        client.send(image(deep, field_of_view=(11.2, 13.0, 36.0)))
        mask, _ = client.get(2)
        np.testing.assert_array_equal(mask.data[0], deep > 0)


def test_raw_data_waveforms_and_texts_are_skipped():
    acquisition = ismrmrd.Acquisition.from_array(np.ones((4, 16), np.complex64), np.ones((16, 2), np.float32))
    waveform = ismrmrd.Waveform.from_array(np.ones((2, 9), np.uint32))
    with running("mrd") as service, MrdClient(service.port) as client:
        client.send(ismrmrd.ConfigText("{}"), header(1), acquisition, waveform, "hello", image(stack(1)[0]))
        assert client.get(1)[0].getHead().measurement_uid == 77


def test_phase_images_and_colours_are_skipped(caplog):
    with running("mrd") as service, MrdClient(service.port) as client:
        client.begin(1)
        client.send(image(stack(1)[0], image_type=2), image(stack(1)[0], image_type=6), image(stack(1)[0]))
        client.end()
        assert len(client.rest()) == 2
    assert "none of magnitudes in one channel" in caplog.text


def test_a_volume_that_cannot_be_segmented_gets_a_text():
    with running("mrd") as service, MrdClient(service.port) as client:
        client.begin(1)
        client.send(image(stack(1)[0], read_dir=(0, 0, 0)))
        (text,) = client.get()
        assert "voxels of [0.0" in json.loads(text)["no mask"]


def test_every_measurement_is_a_connection_of_its_own():
    with running("mrd") as service:
        for slices in (2, 3):
            with MrdClient(service.port) as client:
                client.begin(slices)
                client.send(*(image(stack(slices)[k], k) for k in range(slices)))
                client.end()
                assert len(client.rest()) == slices + 1
