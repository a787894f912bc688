"""A peer that speaks OpenIGTLink, such as 3D Slicer or PLUS."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator

import numpy as np

from scripts.serve.complaints import Complaints
from scripts.serve.openigtlink_messages import (
    HEADER,
    OK,
    UNUSABLE,
    Image,
    pack_mask,
    pack_status,
    pack_text,
    parse_header,
    parse_image,
)
from scripts.serve.protocol import MalformedError, Report, Volume
from scripts.serve.stack import Part, Stacker
from scripts.serve.wire import Wire

logger = logging.getLogger(__name__)


class OpenIGTLinkPeer:
    """Takes IMAGE messages; answers with IMAGE, STRING and STATUS. Messages of other types are skipped.

    The mask has the device name ``mask_device``. ``...Result`` is a STRING with JSON: number, latency_ms, late, flags
    and volumes_ml. ``...Status`` is a STATUS. All have the header version and the timestamp of the image.

    Args:
        wire: the connection.
        image_device: the device name of images that are taken; None: any.
        mask_device: the device name of masks, ASCII; the endings need room in the 20 letters of a header.
        slices: of a stack that comes as single images; None: found from their places.
    """

    def __init__(
        self, wire: Wire, image_device: str | None = None, mask_device: str = "Heart", slices: int | None = None
    ):
        self._wire, self._image_device, self._mask_device = wire, image_device, mask_device
        self._complain = Complaints()
        self._stacker = Stacker(slices, wire.max_bytes, self._complain)

    def volumes(self) -> Iterator[Volume]:
        while (raw := self._wire.read_first(HEADER.size)) is not None:
            header = parse_header(raw)
            body = self._wire.read(header.size)
            arrived_s = time.perf_counter()
            if header.kind != "IMAGE" or self._image_device not in (None, header.device):
                logger.debug("skipped: a message %s of the device %s", header.kind, header.device)
                continue
            try:
                yield from self._stacker.add(_part(parse_image(header, body)), arrived_s)
            except MalformedError as error:
                self._complain(f"skipped: {error}")
        self._stacker.end()

    def send_mask(self, volume: Volume, mask_IJK: np.ndarray) -> None:
        self._wire.write(*(pack_mask(image, mask_IJK[:, :, k], self._mask_device) for image, k in volume.parts))

    def send_report(self, volume: Volume, report: Report) -> None:
        image, name = volume.parts[-1][0], self._mask_device
        late = [f"late: {report.latency_ms:.1f} ms"] if report.late else []
        text, doubts = json.dumps(vars(report)), "; ".join(report.flags + late)
        self._wire.write(
            pack_text(image, text, f"{name}Result"),
            pack_status(image, OK, "doubts" if doubts else "", doubts, f"{name}Status"),
        )

    def send_refusal(self, volume: Volume, reason: str) -> None:
        image = volume.parts[-1][0]
        self._wire.write(pack_status(image, UNUSABLE, "no mask", reason, f"{self._mask_device}Status"))

    def finish(self) -> None:
        """OpenIGTLink has no message for the end."""


def _part(image: Image) -> Part:
    """A single slice of one slice has no number; a part of a larger image has."""
    if image.slices == 1:
        return Part(image.voxels_IJK, image.affine, image)
    return Part(image.voxels_IJK, image.affine, image, image.first, image.slices, image.raw[:60])
