"""The step serve: volumes come from a scanner or from 3D Slicer, masks go back, and everything is reported."""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import Any

from scripts.cine.writer import check_writable
from scripts.core.checks import explaining_memory
from scripts.core.errors import CineError
from scripts.core.json_files import write_json
from scripts.live.records import Record, as_json, consume, content_of, log_summary, summarise
from scripts.live.segmenter import Segmenter, Status
from scripts.live.volume_queue import Arrival, Late, VolumeQueue
from scripts.serve.complaints import Complaints
from scripts.serve.connections import Connections
from scripts.serve.live_segmenter import LiveSegmenter
from scripts.serve.protocol import BrokenError, Report
from scripts.serve.protocols import PeerFactory
from scripts.serve.receiver import Delivery, Receiver

logger = logging.getLogger(__name__)
MAX_RECORDS = 2**16
"""The newest records that are kept, 50 minutes at 22 a second: a service may run for days."""


class Service:
    """Receives, segments and answers until it is stopped.

    Args:
        connections: where the peers are.
        protocol: makes a peer of a connection.
        segmenter: makes a Segmenter, once for each geometry.
        deadline_ms: a mask that is sent later than this after its volume's arrival is late.
        queue_size, late: see ``VolumeQueue``.
        once: whether to end after the first peer.
        write: takes a line of JSON for each volume.

    Attributes:
        records: of the newest volumes with a mask.
        segmented: how many there were in all.
        failed: volumes that came in time for the segmenter, but got no mask or could not be answered.
    """

    def __init__(
        self,
        connections: Connections,
        protocol: Callable[..., Any],
        segmenter: Callable[[], Segmenter],
        deadline_ms: float = 50.0,
        queue_size: int = 1,
        late: Late = "newest",
        once: bool = False,
        write: Callable[[str], object] = sys.stdout.write,
    ):
        self.inbox = VolumeQueue(queue_size, late)
        self.live = LiveSegmenter(segmenter)
        self.connections, self.deadline_ms, self._write = connections, deadline_ms, write
        self.receiver = Receiver(connections, protocol, self.inbox, once)
        self.records: deque[Record] = deque(maxlen=MAX_RECORDS)
        self.segmented = self.failed = 0
        self._complain = Complaints()
        self._delivery: Delivery | None = None

    def run(self, seconds: float | None = None) -> None:
        """Serve until ``stop``, the end of the only peer, Ctrl-C or SIGTERM, or for a number of seconds."""
        clock = threading.Timer(seconds or 0, self.stop)
        if seconds is not None:
            clock.start()
        self.receiver.start()
        try:
            for record in consume(self.inbox, self._work):
                self._answer(record)
        except KeyboardInterrupt:
            logger.info("stopping")
        finally:
            clock.cancel()
            self.stop()
            self.receiver.join()
        if self.receiver.fault is not None:
            raise self.receiver.fault

    def stop(self) -> None:
        """End ``run``; from any thread."""
        self.connections.end()
        self.inbox.close()

    def _work(self, arrival: Arrival) -> Status | None:
        """Segment a volume and send its mask."""
        delivery: Delivery = arrival.source
        volume = delivery.volume
        self._delivery = delivery
        try:
            try:
                with explaining_memory(f"a volume of {volume.voxels_IJK.shape}", "Send a smaller field of view."):
                    mask_IJK, status = self.live.segment(
                        volume, arrival.volume_HWD, delivery.orientation, delivery.peer
                    )
            except CineError as error:
                self.failed += 1
                self._complain(f"no mask: {error}")
                delivery.peer.send_refusal(volume, str(error))
                return None
            delivery.peer.send_mask(volume, mask_IJK)
        except BrokenError as error:
            self._lose(error)
            return None
        return status

    def _answer(self, record: Record) -> None:
        """Report a mask that was sent: to the peer, and as a line of JSON."""
        self.records.append(record)
        self.segmented += 1
        delivery, status = self._delivery, record.status
        assert delivery is not None
        late = record.latency_ms > self.deadline_ms
        report = Report(record.number, record.latency_ms, late, status.flags, status.volumes_ml)
        self._write(json.dumps(as_json(record)) + "\n")
        try:
            delivery.peer.send_report(delivery.volume, report)
        except BrokenError as error:
            self._complain(f"a report was not sent: {error}")

    def _lose(self, error: BrokenError) -> None:
        self.failed += 1
        if not self.connections.stop.is_set():
            self._complain(f"a mask was not sent: {error}")


def serve(
    protocol: PeerFactory,
    connections: Connections,
    segmenter: Callable[[], Segmenter],
    output_dir: str,
    seconds: float | None = None,
    once: bool = False,
    deadline_ms: float = 50.0,
    queue_size: int = 1,
    late: Late = "newest",
) -> dict[str, Any]:
    """Segment the volumes that peers send, answer each with its mask, and write the figures at the end.

    The end is the end of the first peer (``once``), Ctrl-C or SIGTERM, or a number of seconds.

    Args:
        protocol: makes peers of connections.
        connections, segmenter, deadline_ms, queue_size, late: see ``Service``.
        output_dir: folder for ``PROTOCOL_TIME_stream.json``, in the format of the step stream.
        seconds: how long to serve; None: without an end.
        once: whether to end after the first peer.

    Returns:
        The content of the JSON, with the path of the results without their endings.

    Raises:
        CineError: a value is impossible, the folder cannot be written, or no volume came.
    """
    try:
        for name, value in (("seconds", seconds), ("deadline_ms", deadline_ms)):
            number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < TIMEOUT_MAX
            if not number and not (value is None and name == "seconds"):
                raise CineError(name, repr(value), "a number above 0", "Change the key.")
        check_writable(Path(output_dir))
        output = Path(output_dir) / f"{protocol.name}_{datetime.datetime.now():%Y%m%dT%H%M%S}"
        service = Service(connections, protocol, segmenter, deadline_ms, queue_size, late, once, _print)
        service.run(seconds)
    finally:
        connections.close()
    return _report(service, protocol.name, output)


def _report(service: Service, name: str, output: Path) -> dict[str, Any]:
    records, receiver = list(service.records), service.receiver
    if not records:
        found = f"{receiver.count} volumes, none with a mask"
        raise CineError("the peer", found, "volumes to segment", "The log says what happened: see docs/live.md.")
    summary = summarise(records, service.inbox.dropped, service.deadline_ms)
    summary.update(segmented=service.segmented, volumes=service.segmented + service.inbox.dropped)
    summary["doubts"] = service.live.doubts
    seconds = receiver.last_s - receiver.first_s
    rate = round((receiver.count - 1) / seconds, 2) if seconds > 0 else None
    result = content_of(name, summary, records, rate, service.inbox.late, service.live.runtime)
    write_json(f"{output}_stream.json", result)
    log_summary(summary, output.parent)
    if service.failed or service.segmented > len(records):
        text = "%d volumes got no mask; the file holds the newest %d of %d records"
        logger.info(text, service.failed, len(records), service.segmented)
    return {**result, "output": os.path.abspath(output)}


def _print(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()
