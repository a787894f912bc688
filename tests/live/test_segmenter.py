"""A network that needs no training: bright is LV, half bright is MYO, dim is RV."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from scripts.baselines.baseline import Baseline
from scripts.core.errors import CineError
from scripts.live import segmenter as module
from scripts.live.fitted_window import CALM
from scripts.live.segmenter import Segmenter
from scripts.runtime.deploy import Runtime
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.space.space import Space
from scripts.train import checkpoint, weights

SPACING = (1.5, 1.5, 8.0)


class Threshold(nn.Module):
    """Labels by intensity; logs the sizes that it saw."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, image):
        self.sizes.append(tuple(image.shape[2:4]))
        levels = [torch.zeros_like(image), 1 - (image - 1.5).abs(), 1 - (image - 3).abs(), 1 - (image - 5).abs()]
        return torch.cat([0.5 + 0 * levels[0], *levels[1:]], 1)


@pytest.fixture
def model_dir(architecture, tmp_path):
    space = Space(layers=4, scales=3, nodes=2, channels=4, deployment_size=(32, 32, 3))
    architecture = Architecture(space, architecture.cells, architecture.paths)
    architecture.save(tmp_path / "architecture.json")
    checkpoint.save(tmp_path / "model.pt", CineNet(architecture).state_dict())
    return tmp_path


@pytest.fixture
def segmenter(model_dir, monkeypatch):
    monkeypatch.setattr(module, "normalise", lambda image, percentiles: image)
    segmenter = Segmenter(model_dir, Runtime("cpu", "float32"))
    segmenter.network = Threshold()
    return segmenter


def heart(row=30, column=28, size=6, shape=(64, 60, 3)):
    """LV in a ring of MYO with RV next to it, all at half the size, around (row, column)."""
    volume = np.zeros(shape, np.float32)
    volume[row - size : row + size, column - size : column + size, :] = 3
    volume[row - size // 2 : row + size // 2, column - size // 2 : column + size // 2, :] = 5
    volume[row - size : row + size, column + size : column + size + 4, :] = 1.5
    return volume


def expected(volume):
    return (np.isclose(volume, 1.5) * 1 + np.isclose(volume, 3) * 2 + np.isclose(volume, 5) * 3).astype(np.uint8)


def test_masks_of_window_and_whole_field_match_the_heart(segmenter):
    segmenter.prepare((64, 60, 3), SPACING)
    segmenter.network.sizes.clear()
    for step in range(5):
        volume = heart(row=30 + step)
        mask, status = segmenter.segment(volume, SPACING)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected(volume))
        assert status.flags == []
        assert status.volumes_ml["LV"] == pytest.approx(6 * 6 * 3 * 1.5 * 1.5 * 8 / 1000)
        assert status.whole_field == (step == 0)
    assert segmenter.network.sizes == [(64, 60)] + [(32, 32)] * 4


class NoContext(Threshold):
    """Differs between windows: no RV in the smaller window."""

    def forward(self, image):
        logits = super().forward(image)
        if image.shape[2:4] == (104, 96):
            logits[:, 1] = 0
        return logits


@pytest.fixture
def large_segmenter(architecture, tmp_path, monkeypatch):
    """Its deployment size is 128 x 112, so that the heart may fit a smaller window."""
    monkeypatch.setattr(module, "normalise", lambda image, percentiles: image)
    space = Space(layers=4, scales=3, nodes=2, channels=4, deployment_size=(128, 112, 3))
    architecture = Architecture(space, architecture.cells, architecture.paths)
    architecture.save(tmp_path / "architecture.json")
    checkpoint.save(tmp_path / "model.pt", CineNet(architecture).state_dict())
    segmenter = Segmenter(tmp_path, Runtime("cpu", "float32"))
    segmenter.network = Threshold()
    segmenter.prepare((160, 150, 3), SPACING)
    segmenter.network.sizes.clear()
    return segmenter


def test_the_window_fits_the_heart_after_a_second_and_grows_at_its_edge(large_segmenter):
    volume = heart(70, 60, size=14, shape=(160, 150, 3))
    for number in range(CALM + 3):
        mask, status = large_segmenter.segment(volume, SPACING)
        np.testing.assert_array_equal(mask, expected(volume))
        assert status.fitted_window is (number >= CALM)
        json.dumps(asdict(status))  # a number of NumPy would not become JSON
    # the last volume in the large window is also segmented in the smaller one
    large = [(160, 150)] + [(128, 112)] * (CALM - 1)
    assert large_segmenter.network.sizes == [*large, (104, 96), *[(104, 96)] * 3]
    moved = heart(105, 60, size=14, shape=(160, 150, 3))  # 35 rows further: at the edge of the smaller window
    assert large_segmenter.segment(moved, SPACING)[1].fitted_window
    _, status = large_segmenter.segment(moved, SPACING)
    assert not status.fitted_window


def test_the_window_stays_large_if_the_masks_differ(large_segmenter):
    large_segmenter.network = NoContext()
    volume = heart(70, 60, size=14, shape=(160, 150, 3))
    for _ in range(CALM + 3):
        mask, status = large_segmenter.segment(volume, SPACING)
        np.testing.assert_array_equal(mask, expected(volume))
        assert not status.fitted_window
    assert large_segmenter.network.sizes.count((104, 96)) == 1


def test_a_lost_heart_is_found_again_in_the_same_volume(segmenter):
    segmenter.segment(heart(20, 18), SPACING)
    volume = heart(46, 40)  # far outside the window
    mask, status = segmenter.segment(volume, SPACING)
    np.testing.assert_array_equal(mask, expected(volume))
    assert status.flags == ["heart lost"]
    assert status.whole_field
    mask, status = segmenter.segment(volume, SPACING)  # and the window has followed
    assert (status.flags, status.whole_field) == ([], False)


def test_another_stream_begins_over_the_whole_field_and_without_doubts(segmenter):
    segmenter.segment(heart(20, 18, size=6), SPACING)
    segmenter.forget()
    volume = heart(46, 40, size=4)  # another heart elsewhere
    mask, status = segmenter.segment(volume, SPACING)
    np.testing.assert_array_equal(mask, expected(volume))
    assert (status.flags, status.whole_field) == ([], True)
    assert not segmenter.segment(volume, SPACING)[1].whole_field


def test_a_heart_at_the_far_end_of_the_field_is_reached(segmenter):
    """The window starts at multiples of 8 and extends beyond the field, into zeros."""
    assert segmenter.window.step == 8
    volume = heart(row=56, column=50)
    segmenter.segment(volume, SPACING)
    mask, status = segmenter.segment(volume, SPACING)
    np.testing.assert_array_equal(mask, expected(volume))
    assert not status.whole_field


def test_without_a_heart_each_structure_is_missing(segmenter):
    segmenter.segment(heart(), SPACING)
    mask, status = segmenter.segment(np.zeros((64, 60, 3), np.float32), SPACING)
    assert not mask.any()
    assert {"heart lost", "missing RV", "missing MYO", "missing LV"} <= set(status.flags)
    _, status = segmenter.segment(heart(), SPACING)
    assert status.whole_field


def test_fragments_are_flagged_and_the_largest_part_is_kept(segmenter):
    volume = heart()
    volume[2:5, 2:5, :] = 5
    mask, status = segmenter.segment(volume, SPACING)
    assert status.flags == ["fragments LV"]
    np.testing.assert_array_equal(mask, expected(heart()))


def test_parts_outside_the_heart_are_removed_even_if_largest_of_their_structure(segmenter):
    volume = heart()
    volume[2:18, 4:14, :] = 3
    assert np.count_nonzero(volume[:20, :14] == 3) > np.count_nonzero(heart() == 3)
    mask, status = segmenter.segment(volume, SPACING)
    assert status.flags == ["fragments MYO"]
    np.testing.assert_array_equal(mask, expected(heart()))


def test_a_structure_only_outside_the_heart_is_missing(segmenter):
    volume = heart()
    volume[np.isclose(volume, 1.5)] = 0
    volume[2:8, 2:8, :] = 1.5
    mask, status = segmenter.segment(volume, SPACING)
    assert status.flags == ["missing RV"]
    assert set(np.unique(mask)) == {0, 2, 3}


def test_a_sudden_change_is_flagged(segmenter):
    segmenter.segment(heart(size=8), SPACING)
    _, status = segmenter.segment(heart(size=4), SPACING)
    assert {"sudden change LV", "sudden change MYO"} <= set(status.flags)


@pytest.mark.parametrize("change", ["shape", "spacing"])
def test_frames_that_change_their_geometry_are_refused(segmenter, change):
    segmenter.segment(heart(), SPACING)
    volume = heart(shape=(64, 60, 4)) if change == "shape" else heart()
    with pytest.raises(CineError, match="make a new Segmenter if the scanner's protocol changes"):
        segmenter.segment(volume, SPACING if change == "shape" else (1.5, 1.4, 8.0))


@pytest.mark.parametrize(
    ("volume", "spacing", "says"),
    [
        (np.zeros((4, 64, 60, 3)), SPACING, "one volume at a time"),
        (np.zeros((64, 60, 3)), (1.5, 0.0, 8.0), "3 distances in mm"),
        (np.full((64, 60, 3), np.nan), SPACING, "expected finite voxels"),
    ],
)
def test_bad_volumes_are_refused(segmenter, volume, spacing, says):
    with pytest.raises(CineError, match=says):
        segmenter.segment(volume, spacing)


@pytest.mark.parametrize("kind", ["big-endian", "reversed", "tensor", "uint16"])
def test_voxels_of_any_memory_are_read(segmenter, kind):
    volume = heart()
    mask, _ = segmenter.segment(volume, SPACING)
    other = {
        "big-endian": volume.astype(">f4"),
        "reversed": volume[::-1].copy()[::-1],
        "tensor": torch.from_numpy(volume),
        "uint16": volume.astype(np.uint16),  # RV at 1.5 becomes 1
    }[kind]
    again, _ = segmenter.segment(other, SPACING)
    np.testing.assert_array_equal(again == 3, mask == 3)


def test_one_slice_is_read_in_any_direction(segmenter):
    """NumPy treats an axis of one voxel as contiguous for any stride; torch does not."""
    volume = heart(shape=(64, 60, 1))
    mask, _ = segmenter.segment(np.ascontiguousarray(volume[:, :, ::-1]), SPACING)
    np.testing.assert_array_equal(mask, expected(volume))


@pytest.mark.parametrize("volume", [np.zeros((64, 60, 3), complex), np.full((64, 60, 3), "x"), None])
def test_voxels_that_are_not_real_numbers_are_refused(segmenter, volume):
    with pytest.raises(CineError, match="expected real numbers"):
        segmenter.segment(volume, SPACING)


@pytest.mark.parametrize("spacing", [[1.5], [0, 0], [float("nan"), 1.5], [-1, 1.5], "ab", None, [1.5, 1.5, 8.0]])
def test_an_invalid_network_spacing_is_refused(model_dir, spacing):
    with pytest.raises(CineError, match=r"spacing_mm: found .* expected 2 distances in mm"):
        Segmenter(model_dir, Runtime("cpu", "float32"), spacing)


def test_the_spacing_of_the_training_must_be_kept(model_dir):
    architecture = Architecture.load(model_dir / "architecture.json")
    card = {"format": weights.FORMAT, "architecture": architecture.digest, "exams": [], "spacing_mm": [1.2, 1.2]}
    (model_dir / "model.json").write_text(json.dumps(card))
    with pytest.raises(CineError, match="trained at"):
        Segmenter(model_dir, Runtime("cpu", "float32"))
    Segmenter(model_dir, Runtime("cpu", "float32"), [1.2, 1.2])


def test_a_refused_geometry_leaves_the_segmenter_as_it_was(segmenter):
    with pytest.raises(CineError, match=r"spacing: found .* at most 2048 voxels per side"):
        segmenter.prepare((64, 60, 3), (900, 900, 8))
    segmenter.segment(heart(), SPACING)


def test_a_constant_volume_is_flagged(segmenter):
    _, status = segmenter.segment(np.full((64, 60, 3), 7.0), SPACING)
    assert "no contrast" in status.flags


def test_a_network_of_another_device_causes_a_warning(model_dir, caplog):
    architecture = Architecture.load(model_dir / "architecture.json")
    architecture.with_provenance(device={"kind": "cuda"}).save(model_dir / "architecture.json")
    Segmenter(model_dir, Runtime("cpu", "float32"))
    assert "check the time per volume" in caplog.text


def test_a_latency_that_was_never_measured_is_refused(model_dir):
    architecture = Architecture.load(model_dir / "architecture.json")
    architecture.with_provenance(verdict="predicted, not measured").save(model_dir / "architecture.json")
    with pytest.raises(CineError, match="Run the step verify"):
        Segmenter(model_dir)


def test_a_baseline_needs_no_architecture_file(model_dir):
    baseline = Baseline(partial(torch.nn.Conv3d, 1, 4, 3, padding=1), multiple=4, deployment_size=(16, 16, 3))
    checkpoint.save(model_dir / "model.pt", baseline.state_dict())
    (model_dir / "architecture.json").unlink()
    segmenter = Segmenter(model_dir, Runtime("cpu", "float32"), network=baseline)
    assert (segmenter.fitted.large, segmenter.window.step) == ((16, 16), 4)
    volume = np.random.default_rng(0).normal(size=(30, 26, 3))
    assert segmenter.segment(volume, SPACING)[0].shape == volume.shape


def test_a_real_network_gives_the_same_mask_in_every_orientation_of_memory(model_dir):
    segmenter = Segmenter(model_dir, Runtime("cpu", "float32"))
    volume = np.random.default_rng(0).normal(size=(30, 26, 3))
    mask, _ = segmenter.segment(np.asfortranarray(volume), SPACING)
    other, _ = Segmenter(model_dir, Runtime("cpu", "float32")).segment(torch.from_numpy(volume), SPACING)
    np.testing.assert_array_equal(mask, other)


def test_a_network_may_compute_in_bfloat16(model_dir):
    volume = np.random.default_rng(0).normal(size=(30, 26, 3))
    masks = [
        Segmenter(model_dir, Runtime("cpu", dtype, "eager")).segment(volume, SPACING)[0]
        for dtype in ("float32", "bfloat16")
    ]
    assert np.mean(masks[0] == masks[1]) > 0.9
