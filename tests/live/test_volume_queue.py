from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from scripts.core.errors import CineError
from scripts.live.volume_queue import Arrival, Replay, VolumeQueue


def numbers(inbox):
    found = []
    while (arrival := inbox.get()) is not None:
        found.append(arrival.number)
    return found


def put(inbox, count):
    for number in range(count):
        inbox.put(Arrival(number, None, 0.0))


def test_newest_is_kept_and_dropped_volumes_are_counted():
    inbox = VolumeQueue(2, "newest")
    put(inbox, 5)
    inbox.close()
    assert numbers(inbox) == [3, 4]
    assert inbox.dropped == 3


def test_a_waiting_source_drops_nothing():
    inbox = VolumeQueue(2, "wait")
    source = threading.Thread(target=lambda: (put(inbox, 20), inbox.close()))
    source.start()
    assert numbers(inbox) == list(range(20))
    assert inbox.dropped == 0
    source.join()


def test_closing_releases_a_waiting_source():
    inbox = VolumeQueue(1, "wait")
    source = threading.Thread(target=put, args=(inbox, 5))
    source.start()
    inbox.close()
    source.join(timeout=5)
    assert not source.is_alive()


def test_volumes_after_the_end_are_ignored():
    inbox = VolumeQueue(1, "newest")
    put(inbox, 1)
    inbox.close()
    inbox.put(Arrival(7, None, 0.0))
    assert numbers(inbox) == [0]
    assert inbox.dropped == 0


def test_a_source_can_wait_until_its_last_volume_is_done():
    inbox, order = VolumeQueue(2), []

    def work():
        while (arrival := inbox.get()) is not None:
            order.append(arrival.number)

    put(inbox, 2)
    worker = threading.Thread(target=work)
    worker.start()
    inbox.wait_until_idle()
    assert order == [0, 1]
    inbox.close()
    worker.join()


def test_a_replay_repeats_the_cine_at_its_rate():
    inbox = VolumeQueue(50, "newest")
    frames = np.arange(3)[:, None, None, None]
    start = time.perf_counter()
    Replay(inbox, frames, 7, 100.0).run()
    arrivals = [inbox.get() for _ in range(7)]
    assert inbox.get() is None
    assert [int(arrival.volume_HWD.item()) for arrival in arrivals] == [0, 1, 2, 0, 1, 2, 0]
    assert np.diff([arrival.at for arrival in arrivals]) == pytest.approx([0.01] * 6)
    assert time.perf_counter() - start >= 0.06


@pytest.mark.parametrize(
    ("arguments", "says"), [((0, "newest"), "queue_size: found 0"), ((1, "never"), "late: found 'never'")]
)
def test_other_policies_are_refused(arguments, says):
    with pytest.raises(CineError, match=says):
        VolumeQueue(*arguments)
