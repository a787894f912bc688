"""A cine read frame by frame equals the whole cine: the same voxels, metadata, refusals and results."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from monai.data import Dataset
from monai.transforms import LoadImaged

from scripts.cine import reader
from scripts.cine.frames import FramesGathered, LoadFramed, frame_items, write_frames
from scripts.cine.reader import CONSTANT, CineReader
from scripts.core.errors import CineError
from scripts.exams.skip_invalid import ValidItems

VOXELS = np.random.default_rng(0).integers(0, 99, (4, 5, 3, 6)).astype(np.int16)


@pytest.fixture
def opened(monkeypatch):
    """Counts how often a file's voxels are opened."""
    counting = Mock(side_effect=reader.open_file)
    monkeypatch.setattr(reader, "open_file", counting)
    return counting


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", [range(6), [3], [5, 0, 4, 1, 1]])
def test_single_frames_equal_those_of_the_whole_cine(nifti, name, order):
    path = str(nifti(VOXELS, name=name, scl_slope=2.0, scl_inter=-7.0))
    whole = LoadImaged("image", reader=CineReader(), ensure_channel_first=True)({"image": path})["image"]
    load = LoadFramed("image")
    for frame in order:
        image = load({"image": path, "frame": frame})["image"]
        assert np.array_equal(image.numpy(), whole[frame : frame + 1].numpy())
        assert np.array_equal(image.affine, whole.affine)
        assert image.meta[CONSTANT].tolist() == [False]
    assert load({"image": path})["image"].shape == load({"image": path, "frame": None})["image"].shape == (6, 4, 5, 3)


def test_frames_requested_in_order_are_read_in_one_pass(nifti, opened):
    path, load = str(nifti(VOXELS)), LoadFramed("image")
    for frame in range(6):
        load({"image": path, "frame": frame})
    assert opened.call_count == 1
    load({"image": path, "frame": 2})
    load({"image": path, "frame": "3"})
    assert opened.call_count == 2


def test_a_replaced_file_is_read_again(nifti):
    load = LoadFramed("image")
    load({"image": str(nifti(VOXELS)), "frame": 0})
    path = str(nifti(np.concatenate([VOXELS, VOXELS], axis=0) + np.int16(1)))
    assert load({"image": path, "frame": 1})["image"].shape == (1, 8, 5, 3)


@pytest.mark.parametrize("asked", [6, -1, 0.5, "two", "", True])
def test_a_missing_frame_is_refused(nifti, asked):
    with pytest.raises(RuntimeError) as caught:
        Dataset([{"image": str(nifti(VOXELS)), "frame": asked}], LoadFramed("image"))[0]
    assert "expected a number from 0 to 5" in str(caught.value.__cause__)
    with pytest.raises(CineError, match="expected 0, since the image has one frame"):
        LoadFramed("image")({"image": str(nifti()), "frame": 1})


def _wrong_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_wrong_checksum, "CRC check failed"),
        (lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1])), "only 719 bytes"),
        (lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"x")), "more bytes"),
    ],
)
def test_damage_at_the_end_of_the_file_refuses_the_last_frame(nifti, damage, message):
    path, load = nifti(VOXELS), LoadFramed("image")
    damage(path)
    for frame in range(5):
        load({"image": str(path), "frame": frame})
    with pytest.raises(CineError, match=message):
        load({"image": str(path), "frame": 5})


def test_a_cine_is_gathered_from_its_frames(nifti):
    voxels = VOXELS.copy()
    voxels[..., 2] = 7
    gathered, load = FramesGathered(), LoadFramed("image")
    for item in list(frame_items({"image": str(nifti(voxels)), "output": "out"}))[:3]:  # from a refused cine
        gathered.add({**load(item), "pred": np.ones((1, 4, 5, 3))})
    for item in frame_items({"image": str(nifti(voxels)), "output": "out"}):
        labels = np.full((1, 4, 5, 3), item["frame"], np.float32)
        whole = gathered.add({**load(item), "pred": labels, "all_parts": labels + 1})
        assert (whole is None) == (item["frame"] < 5)
    assert whole["pred"].dtype == np.uint8 and whole["pred"].shape == (6, 4, 5, 3)
    assert whole["pred"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert whole["all_parts"][:, 3, 4, 2].tolist() == [1, 2, 3, 4, 5, 6]
    assert whole["image"].meta[CONSTANT].tolist() == [False, False, True, False, False, False]
    assert whole["output"] == "out"


def test_a_bad_frame_or_a_too_long_name_refuses_only_its_own_file(nifti, tmp_path, caplog):
    bad = VOXELS.astype(np.float32)
    bad[..., 3] = np.nan
    paths = [nifti(VOXELS, name="a.nii.gz"), nifti(bad, name="b.nii.gz"), nifti(name=f"{'n' * 245}.nii.gz"), nifti()]
    items = [
        {"image": str(path), "source": str(path), "output": str(tmp_path / path.name.removesuffix(".nii.gz"))}
        for path in paths
    ]
    good = ValidItems(Dataset(items, LoadFramed("image")), dict, ("_function.json",))
    with caplog.at_level(logging.WARNING):
        batches = [(Path(batch["source"][0]).name[0], int(batch["frame"][0])) for batch in good]
    assert batches == [*(("a", frame) for frame in range(6)), ("b", 0), ("b", 1), ("b", 2), ("i", 0)]
    assert [error.found for error in good.refused] == [
        "no finite voxel in frame 4 of 6",
        "a result's name that the disk refuses (File name too long)",
    ]
    assert "input 2 of 4 is refused" in caplog.text and "input 3 of 4 is refused" in caplog.text


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_frames_are_written_one_after_the_other(tmp_path, name):
    write_frames(tmp_path / name, b"head", iter([b"one", b"two"]))
    content = (tmp_path / name).read_bytes()
    assert (gzip.decompress(content) if name.endswith(".gz") else content) == b"headonetwo"
    with pytest.raises(ZeroDivisionError):
        write_frames(tmp_path / name, b"head", (b"x" * (1 // 0) for _ in "x"))
    assert (tmp_path / name).read_bytes() == content
