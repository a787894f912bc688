from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from scripts.live.records import Record, consume, log_summary, summarise
from scripts.live.segmenter import Status
from scripts.live.volume_queue import Arrival, VolumeQueue


def test_summary_by_hand():
    def record(number, arrived, done, whole=False, flags=()):
        return Record(number, arrived, done, Status(1000 * (done - arrived), 10.0, whole, {}, list(flags)))

    records = [
        record(0, 0, 0.5, True),
        record(1, 1, 1.03),
        record(3, 2, 2.06, True, ["heart lost"]),
        record(4, 3, 3.02),
    ]
    summary = summarise(records, 1, 50.0)
    assert summary["first_ms"] == pytest.approx(500)
    assert (summary["volumes"], summary["segmented"], summary["dropped"], summary["missed"]) == (5, 4, 1, 1)
    assert summary["per_second"] == pytest.approx(3 / 2.52)
    assert summary["p50_ms"] == pytest.approx(30)
    assert summary["max_ms"] == pytest.approx(60)
    assert summary["p95_ms"] == pytest.approx(np.percentile([30, 60, 20], 95))
    assert summary["whole_field"] == 1
    assert summary["flags"] == {"heart lost": 1}


def test_volumes_during_a_slower_state_of_the_device_are_counted():
    """After the first, 20 volumes: two take 12 ms instead of 10 in the window, two take 30 in the whole field."""
    took = [50.0] + [10.0] * 16 + [12.0] * 2 + [30.0] * 2
    records = [Record(i, i, i + 0.05, Status(50.0, ms, ms >= 30, {}, [])) for i, ms in enumerate(took)]
    assert summarise(records, 0, 50.0)["network_slow_share"] == pytest.approx(2 / 18)
    assert summarise(records[:1], 0, 50.0)["network_slow_share"] == 0


def test_a_volume_without_a_mask_has_no_record():
    inbox = VolumeQueue(3)
    for number in range(3):
        inbox.put(Arrival(number, None, float(number)))
    inbox.close()
    records = list(consume(inbox, lambda arrival: Status(1.0, 1.0, False, {}) if arrival.number else None))
    assert [record.number for record in records] == [1, 2]
    assert [record.arrived_s for record in records] == [0.0, 1.0]


def test_the_smaller_window_is_counted_and_not_taken_for_a_faster_device():
    """Half the time in the smaller window: the device is not slow in the larger one."""
    large = [Record(i, i, i + 0.02, Status(12.0, 10.0, i == 0, {})) for i in range(23)]
    small = [Record(i, i, i + 0.02, Status(8.0, 5.0, False, {}, fitted_window=True)) for i in range(23, 63)]
    summary = summarise(large + small, 0, 50.0)
    assert summary["fitted_window"] == 40
    assert summary["network_slow_share"] == 0


@pytest.mark.parametrize(("late", "dropped", "warned"), [(1, 0, False), (2, 0, True), (1, 1, True), (0, 0, False)])
def test_a_deadline_that_is_missed_again_and_again_is_a_warning_with_advice(late, dropped, warned, caplog):
    """Of 20 volumes, one may be late."""
    took_s = [0.02] + [0.06] * late + [0.02] * (19 - late - dropped)
    records = [Record(i, i, i + s, Status(1000 * s, 10.0, i == 0, {}, [])) for i, s in enumerate(took_s)]
    log_summary(summarise(records, dropped, 50.0), Path("results"))
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert bool(messages) == warned
    if warned:
        assert "2 of 20 volumes were late or dropped" in messages[0]
        assert "budget_ms" in messages[0]
