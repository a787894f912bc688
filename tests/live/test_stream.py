from __future__ import annotations

import json
import time

import nibabel as nib
import numpy as np
import pytest

from scripts.core.errors import CineError
from scripts.live.segmenter import Status
from scripts.live.stream import stream_cine
from scripts.runtime.deploy import Runtime


class Doubler:
    """Segments by marking positive voxels; takes a given time per volume."""

    runtime = Runtime("cpu", "float32")

    def __init__(self, seconds=0.0):
        self.seconds, self.prepared = seconds, None

    def prepare(self, shape, spacing_mm):
        self.prepared = tuple(shape), tuple(spacing_mm)

    def segment(self, volume, spacing_mm):
        time.sleep(self.seconds)
        volumes = dict.fromkeys(("RV", "MYO", "LV"), 1.0)
        return (volume > 0).astype(np.uint8), Status(1.0, 0.5, False, volumes, [])


@pytest.fixture
def cine(tmp_path):
    """Frames in an unusual axis order: slices first, time last."""
    voxels = np.random.default_rng(0).normal(size=(3, 12, 10, 4)).astype(np.float32)
    affine = np.array([[0, 0, 1.4, 0], [0, 1.3, 0, 0], [9.0, 0, 0, 0], [0, 0, 0, 1.0]])
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_zooms((9.0, 1.3, 1.4, 0.03))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "cine.nii.gz")
    return tmp_path / "cine.nii.gz", voxels


def test_every_frame_s_mask_is_at_its_voxels(cine, tmp_path):
    path, voxels = cine
    segmenter = Doubler()
    result = stream_cine(str(path), segmenter, str(tmp_path / "out"), per_second=None)
    assert sorted(segmenter.prepared[0]) == [3, 10, 12]
    assert segmenter.prepared[0][2] == 3
    assert segmenter.prepared[1][2] == pytest.approx(9.0)
    mask = nib.load(tmp_path / "out" / "cine_seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), (voxels > 0).astype(np.uint8))
    written = json.loads((tmp_path / "out" / "cine_stream.json").read_text())
    assert written["summary"]["segmented"] == len(written["records"]) == 4
    assert written["summary"]["dropped"] == 0
    assert written["frames_without_mask"] == []
    assert "field of view doubtful" in written["summary"]["doubts"]  # 16 mm
    assert {key: written[key] for key in written} == {key: result[key] for key in result if key != "output"}


def test_a_slow_segmenter_drops_volumes_and_misses_deadlines(cine, tmp_path):
    """40 ms per volume at 50 per second: about every second one is dropped, and deadlines of 10 ms are missed."""
    path, _ = cine
    result = stream_cine(str(path), Doubler(0.04), str(tmp_path / "out"), per_second=50.0, seconds=1.0, deadline_ms=10)
    summary = result["summary"]
    assert summary["volumes"] == 50
    assert summary["segmented"] + summary["dropped"] == 50
    assert 15 <= summary["dropped"] <= 40
    assert summary["missed"] == summary["segmented"] - 1  # the first is reported separately
    assert summary["per_second"] <= 25


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"per_second": -1}, "per_second: found -1; expected a number above 0"),
        ({"seconds": -1.0}, "seconds: found -1.0"),
        ({"deadline_ms": None}, "deadline_ms: found None"),
        ({"late": "never"}, "late: found 'never'"),
        ({"existing": "skip"}, "existing: found 'skip'"),
    ],
)
def test_bad_arguments_are_refused(cine, tmp_path, arguments, says):
    with pytest.raises(CineError, match=says):
        stream_cine(str(cine[0]), Doubler(), str(tmp_path / "out"), **arguments)


def test_results_are_overwritten_only_on_request_and_volumes_are_refused(cine, tmp_path):
    path, voxels = cine
    stream_cine(str(path), Doubler(), str(tmp_path / "out"), per_second=None)
    with pytest.raises(CineError, match="Set existing to overwrite"):
        stream_cine(str(path), Doubler(), str(tmp_path / "out"), per_second=None)
    stream_cine(str(path), Doubler(), str(tmp_path / "out"), per_second=None, existing="overwrite")
    nib.save(nib.Nifti1Image(voxels[..., 0], np.diag([9.0, 1.3, 1.4, 1])), tmp_path / "volume.nii.gz")
    with pytest.raises(CineError, match="Use the step infer for single volumes"):
        stream_cine(str(tmp_path / "volume.nii.gz"), Doubler(), str(tmp_path / "out"))


def test_an_interrupted_stream_writes_its_results_so_far(cine, tmp_path):
    path, _ = cine

    class Counting(Doubler):
        count = 0

        def segment(self, volume, spacing_mm):
            self.count += 1
            if self.count > 2:
                raise KeyboardInterrupt
            return super().segment(volume, spacing_mm)

    with pytest.raises(KeyboardInterrupt):
        stream_cine(str(path), Counting(), str(tmp_path / "out"), per_second=0)
    written = json.loads((tmp_path / "out" / "cine_stream.json").read_text())
    assert written["summary"]["segmented"] == 2
    assert written["frames_without_mask"] == [3, 4]


def test_as_fast_as_possible_runs_for_the_given_seconds(cine, tmp_path):
    start = time.perf_counter()
    result = stream_cine(str(cine[0]), Doubler(0.01), str(tmp_path / "out"), per_second=0, seconds=0.3)
    assert 0.3 <= time.perf_counter() - start < 3
    assert result["summary"]["dropped"] == 0
    assert result["summary"]["max_ms"] < 200  # a volume arrives when it is taken


def test_the_path_of_the_results_is_absolute_so_that_they_are_recorded(cine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert stream_cine(str(cine[0]), Doubler(), "out", per_second=0)["output"] == str(tmp_path / "out" / "cine")


def test_a_share_of_a_volume_counts_as_one(cine, tmp_path):
    result = stream_cine(str(cine[0]), Doubler(), str(tmp_path / "out"), seconds=0.001)
    assert result["summary"]["volumes"] == 1


def test_a_folder_that_cannot_be_written_is_found_before_the_stream(cine, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CineError, match="a folder for the results"):
        stream_cine(str(cine[0]), Doubler(), str(tmp_path / "file"), seconds=3600)
