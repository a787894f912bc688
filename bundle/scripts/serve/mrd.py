"""A peer that speaks MRD (ISMRMRD): a scanner by FIRE or OpenRecon, Gadgetron, or a client of python-ismrmrd-server."""

from __future__ import annotations

import json
import logging
import struct
import time
from collections.abc import Callable, Iterator

import numpy as np

from scripts.serve.complaints import Complaints
from scripts.serve.contours import contours
from scripts.serve.mrd_messages import (
    CLOSE,
    HEADER,
    IMAGE,
    Image,
    pack_close,
    pack_mask,
    pack_text,
    read_image,
    read_text,
    skip,
    slices_of,
)
from scripts.serve.protocol import MalformedError, Report, Volume
from scripts.serve.stack import Part, Stacker
from scripts.serve.wire import Wire

logger = logging.getLogger(__name__)


class MrdPeer:
    """Takes images; answers with masks and text. Configurations, raw data and waveforms are skipped.

    The number of slices comes from the header of the measurement. A volume is complete as soon as all its slices of one
    repetition, phase, contrast, set and average are there. An image of several slices is a volume.

    Args:
        wire: the connection.
        outlines: whether masks carry outlines as ``ROI_...`` attributes.
    """

    def __init__(self, wire: Wire, outlines: bool = True):
        self._wire, self._outlines = wire, outlines
        self._complain = Complaints()
        self._stacker = Stacker(None, wire.max_bytes, self._complain)
        self._first, self._slices = 0, 1
        self._closed = False

    def volumes(self) -> Iterator[Volume]:
        while not self._closed and (raw := self._wire.read_first(2)) is not None:
            (kind,) = struct.unpack("<H", raw)
            try:
                if kind == CLOSE:
                    self._closed = True
                elif kind == HEADER:
                    self._first, self._slices = slices_of(read_text(self._wire.read))
                    logger.info("a measurement of %d slices", self._slices)
                elif kind == IMAGE:
                    yield from self._image(read_image(self._wire.read), time.perf_counter())
                else:
                    skip(kind, self._wire.read)
            except MalformedError as error:
                self._complain(f"skipped: {error}")
        self._stacker.end()

    def send_mask(self, volume: Volume, mask_IJK: np.ndarray) -> None:
        content = []
        for image, k in volume.parts:
            mask = mask_IJK[:, :, k]
            single = self._outlines and mask.shape[2] == 1  # an outline belongs to a slice
            content.append(pack_mask(image, mask, dict(contours(mask[:, :, 0].T)) if single else {}))
        self._wire.write(*content)

    def send_report(self, volume: Volume, report: Report) -> None:
        self._wire.write(pack_text(json.dumps(vars(report))))

    def send_refusal(self, volume: Volume, reason: str) -> None:
        self._wire.write(pack_text(json.dumps({"no mask": reason})))

    def finish(self) -> None:
        if self._closed:
            self._wire.write(pack_close())

    def _image(self, parse: Callable[[], Image], arrived_s: float) -> list[Volume]:
        image = parse()
        voxels_IJK = image.voxels_IJK
        if voxels_IJK.shape[2] > 1:
            return self._stacker.add(Part(voxels_IJK, image.affine, image), arrived_s)
        number = image.head.slice - self._first
        part = Part(voxels_IJK, image.affine, image, number, self._slices, image.group)
        return self._stacker.add(part, arrived_s)
