from __future__ import annotations

import hashlib
import json
import os

from scripts.record import record_run


def test_an_entry_says_what_ran_what_it_read_and_what_it_wrote(tmp_path):
    (tmp_path / "results" / "search").mkdir(parents=True)
    (tmp_path / "exam.nii.gz").write_bytes(b"voxels")
    (tmp_path / "results" / "search" / "history.json").write_text("{}")
    exams = ([{"image": str(tmp_path / "exam.nii.gz"), "patient": "p1"}], None, str(tmp_path / "none.json"))
    record_run(
        "search",
        str(tmp_path / "results"),
        ["search", "absent.json"],
        exams,
        {"train": ["p1"], "test": ["p2"]},
        "fold 0 of 5",
    )
    record_run("train", str(tmp_path / "results"), [])
    content = json.loads((tmp_path / "results" / "run.json").read_text())
    assert list(content["steps"]) == ["search", "train"]
    entry = content["steps"]["search"]
    assert entry["inputs"] == {str(tmp_path / "exam.nii.gz"): hashlib.sha256(b"voxels").hexdigest()}
    assert entry["outputs"] == {"search/history.json": hashlib.sha256(b"{}").hexdigest()}
    assert entry["patients"] == {"train": ["p1"], "test": ["p2"]}
    assert entry["split"] == "fold 0 of 5" and content["steps"]["train"]["split"] is None
    assert entry["versions"]["monai"] and entry["versions"]["torch"]
    assert entry["seconds"] > 0 and entry["peak_memory_mib"]["process"] > 10
    assert entry["device"]["kind"] == "cpu"


def test_what_earlier_runs_left_is_not_this_one_s_output(tmp_path):
    old = tmp_path / "old.json"
    old.write_text("{}")
    os.utime(old, (1, 1))
    record_run("search", str(tmp_path), ["."])
    assert json.loads((tmp_path / "run.json").read_text())["steps"]["search"]["outputs"] == {}


def test_a_broken_record_is_put_aside(tmp_path, caplog):
    (tmp_path / "run.json").write_text("{")
    record_run("search", str(tmp_path), [])
    assert (tmp_path / "run.broken.json").read_text() == "{"
    assert list(json.loads((tmp_path / "run.json").read_text())["steps"]) == ["search"]
    assert "no valid JSON" in caplog.text
