from __future__ import annotations

from scripts.serve.complaints import Complaints


def test_lines_that_follow_at_once_are_counted(caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("scripts.serve.complaints.time.perf_counter", lambda: now[0])
    complain = Complaints()
    for second in (0.0, 0.1, 0.2, 1.5, 3.0):
        now[0] = second
        complain(f"at {second}")
    assert caplog.messages == ["at 0.0", "at 1.5 (2 lines left out)", "at 3.0"]
    assert complain.count == 5
