from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor

from scripts.run.run_log import record_run


def test_an_entry_records_command_inputs_and_outputs(tmp_path):
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


def test_files_of_earlier_runs_are_not_outputs_of_this_run(tmp_path):
    old = tmp_path / "old.json"
    old.write_text("{}")
    os.utime(old, (1, 1))
    record_run("search", str(tmp_path), ["."])
    assert json.loads((tmp_path / "run.json").read_text())["steps"]["search"]["outputs"] == {}


def test_a_broken_record_is_renamed(tmp_path, caplog):
    (tmp_path / "run.json").write_text("{")
    record_run("search", str(tmp_path), [])
    assert (tmp_path / "run.broken.json").read_text() == "{"
    assert list(json.loads((tmp_path / "run.json").read_text())["steps"]) == ["search"]
    assert "invalid JSON" in caplog.text


def _record(folder, name):
    (folder / f"{name}_seg.nii.gz").write_bytes(name.encode())
    record_run("infer", str(folder), [str(folder / f"{name}_seg.nii.gz")])


def _records(folder):
    """The outputs of all records of a folder."""
    paths = [folder / "run.json", *folder.glob("runs/infer_*.json")]
    return sorted(sorted(json.loads(path.read_text())["steps"]["infer"]["outputs"]) for path in paths)


def test_every_run_with_results_in_a_folder_keeps_its_record(tmp_path):
    for name in ("a", "b", "c", "a"):
        _record(tmp_path, name)
    assert _records(tmp_path) == [["a_seg.nii.gz"], ["a_seg.nii.gz"], ["b_seg.nii.gz"], ["c_seg.nii.gz"]]
    last = tmp_path / "again"
    last.mkdir()
    for _ in range(3):
        _record(last, "a")
    assert _records(last) == [["a_seg.nii.gz"]], "results that were replaced need no record"


def test_jobs_that_end_at_the_same_time_lose_no_record(tmp_path):
    names = [f"p{number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: _record(tmp_path, name), names))
    assert _records(tmp_path) == [[f"{name}_seg.nii.gz"] for name in names]
