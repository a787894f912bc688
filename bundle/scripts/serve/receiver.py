"""The thread that receives: from peers into the queue, so that the newest volume is always at hand."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from scripts.core.errors import CineError
from scripts.live.orientation import Orientation
from scripts.live.volume_queue import Arrival, VolumeQueue
from scripts.serve.complaints import Complaints
from scripts.serve.connections import Connections
from scripts.serve.geometry import Orienter
from scripts.serve.protocol import BrokenError, Peer, Volume
from scripts.serve.wire import Wire

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Delivery:
    """What the service needs to segment a volume and to answer: it is the source of an ``Arrival``."""

    peer: Peer
    volume: Volume
    orientation: Orientation


class Receiver(threading.Thread):
    """Receives volumes from one peer after the other. When it ends, it closes the inbox.

    Args:
        connections: the peers.
        protocol: makes a peer of a connection.
        inbox: takes the volumes, in working order.
        once: whether to end after the first peer.

    Attributes:
        count: volumes that came, with those that were refused.
        first_s, last_s: when the first and the newest came.
        fault: the error of this code that ended the thread, if any.
    """

    def __init__(
        self, connections: Connections, protocol: Callable[[Wire], Peer], inbox: VolumeQueue, once: bool = False
    ):
        super().__init__(daemon=True, name="receiver")
        self._connections, self._protocol, self._inbox, self._once = connections, protocol, inbox, once
        self._complain, self._orient = Complaints(), Orienter()
        self.count, self.first_s, self.last_s = 0, 0.0, 0.0
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            for wire in self._connections.wires():
                self._serve(self._protocol(wire))
                if self._once:
                    break
        except BaseException as error:  # the main thread raises it
            self.fault = error
        finally:
            self._connections.end()
            self._inbox.close()

    def _serve(self, peer: Peer) -> None:
        """Receive from a peer until the connection ends; masks of its last volumes are still sent."""
        try:
            for volume in peer.volumes():
                self._put(peer, volume)
            self._inbox.wait_until_idle()
            peer.finish()
        except BrokenError as error:
            if not self._connections.stop.is_set():
                self._complain(f"disconnected: {error}")

    def _put(self, peer: Peer, volume: Volume) -> None:
        number, self.last_s = self.count, volume.arrived_s
        self.count += 1
        if number == 0:
            self.first_s = volume.arrived_s
        try:
            orientation = self._orient(volume)
        except CineError as error:
            self._complain(f"refused: {error}")
            peer.send_refusal(volume, str(error))
            return
        volume_HWD = orientation.to_working(volume.voxels_IJK)
        self._inbox.put(Arrival(number, volume_HWD, volume.arrived_s, Delivery(peer, volume, orientation)))
