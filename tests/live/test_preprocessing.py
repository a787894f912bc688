"""The fast code for live use equals MONAI's transforms in the step infer."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ClipIntensityPercentiles, NormalizeIntensity, Spacing

from scripts.live.preprocessing import InPlaneGrid, labels_of, normalise, percentile, where_labelled

CASES = [((40, 31, 5), (1.25, 1.25)), ((24, 33, 1), (2.0, 1.7)), ((30, 30, 3), (1.5, 1.5)), ((9, 50, 2), (0.9, 3.0))]


def monai_spacing(volume_HWD, spacing):
    affine = torch.diag(torch.tensor([*spacing, 8.0, 1.0], dtype=torch.float64))
    spacer = Spacing(pixdim=(1.5, 1.5, -1.0), mode="bilinear")
    return spacer, spacer(MetaTensor(volume_HWD[None], affine=affine))


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_resampling_is_monai_s(shape, spacing):
    volume = torch.randn(shape)
    _, expected = monai_spacing(volume, spacing)
    ours = InPlaneGrid(shape[:2], spacing, (1.5, 1.5)).to_network(volume)
    torch.testing.assert_close(ours, expected[0].as_tensor(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_logits_are_inverted_like_monai_does(shape, spacing):
    spacer, resampled = monai_spacing(torch.randn(shape), spacing)
    logits = torch.randn(4, *resampled.shape[1:])
    meta = {"meta": resampled.meta, "applied_operations": list(resampled.applied_operations)}
    expected = torch.cat([spacer.inverse(MetaTensor(one[None], **copy.deepcopy(meta))) for one in logits])
    ours, box = InPlaneGrid(shape[:2], spacing, (1.5, 1.5)).to_volume(logits, (0, 0))
    assert box == (slice(0, shape[0]), slice(0, shape[1]))
    torch.testing.assert_close(ours, expected.as_tensor(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("start", [(0, 0), (3, 5), (8, 2), (13, 9)])
def test_logits_of_a_window_equal_those_of_the_whole_field(start):
    """In a window, the result equals that of the whole field, voxel by voxel; only the window's edges are cut."""
    grid = InPlaneGrid((40, 31), (1.25, 1.25), (1.5, 1.5))
    assert grid.size == (34, 26)
    logits = torch.randn(4, *grid.size, 3)
    whole, _ = grid.to_volume(logits, (0, 0))
    (top, left), (height, width) = start, (20, 17)
    cut, box = grid.to_volume(logits[:, top : top + height, left : left + width], start)
    torch.testing.assert_close(cut, whole[:, box[0], box[1]], rtol=1e-4, atol=1e-4)
    for along, first, length, ratio, size in zip(box, start, (height, width), grid.ratio, (40, 31), strict=True):
        inside = [i for i in range(size) if first * ratio <= i <= (first + length - 1) * ratio]
        assert along.start <= inside[0] <= along.start + 1
        assert inside[-1] < along.stop


def test_normalisation_is_monai_s():
    volume = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 100.0, (31, 27, 5)).astype(np.float32))
    expected = NormalizeIntensity()(ClipIntensityPercentiles(0.5, 99.5)(volume[None]))
    torch.testing.assert_close(normalise(volume, (0.5, 99.5)), torch.as_tensor(expected)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0), (0, 2, 1)])
@pytest.mark.parametrize("shape", [(31, 27, 5), (24, 33, 1)])
def test_normalisation_is_the_same_in_every_order_of_memory(shape, order):
    """Resampled volumes lie in memory slice by slice."""
    volume = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 100.0, shape).astype(np.float32)).permute(order)
    expected = normalise(volume.contiguous(), (0.5, 99.5))
    torch.testing.assert_close(normalise(volume, (0.5, 99.5)), expected, rtol=1e-4, atol=1e-4)


RANDOM = np.random.default_rng(0)
VALUES = {
    "many values": RANDOM.gamma(2.0, 100.0, 100_003),
    "few grey levels": RANDOM.integers(0, 3, 50_000),
    "ordered": np.arange(30_000.0),
    # the sample is every second value here, so it knows only one side
    "alternating": np.tile([0.0, 1.0], 5000),
    "one bright voxel": np.eye(1, 9001, 5)[0],
    "three values": np.array([3.0, 1.0, 2.0]),
    "one value": np.array([5.0]),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("percent", [0, 0.5, 3.3, 50, 99.5, 100])
def test_a_percentile_is_numpy_s(values, percent):
    values = values.astype(np.float32)
    before = values.copy()
    assert percentile(values, percent) == pytest.approx(np.percentile(values.astype(float), percent), rel=1e-6)
    np.testing.assert_array_equal(values, before)


def test_a_constant_volume_becomes_zero():
    assert torch.equal(normalise(torch.full((4, 4, 2), 7.0), (0.5, 99.5)), torch.zeros(4, 4, 2))


def test_labels_are_the_argmax_and_ties_go_to_the_first():
    logits = torch.randn(4, 5, 6, 3).round()  # many ties
    np.testing.assert_array_equal(labels_of(logits), logits.numpy().argmax(0))


@pytest.mark.parametrize(("shape", "spacing"), CASES)
@pytest.mark.parametrize("place", [(0, 0), (3, 4), (-2, -3)])
def test_only_the_labelled_region_is_resampled(shape, spacing, place):
    """Two voxels with a label, also at the edge of the field."""
    grid = InPlaneGrid(shape[:2], spacing, (1.5, 1.5))
    logits = torch.randn(4, *grid.size, shape[2])
    logits[0] += 20
    for row, column in (place, (place[0] + 1, place[1] + 1)):
        logits[2, row, column, 0] += 100
    whole = labels_of(grid.to_volume(logits, (0, 0))[0])
    rows, columns = where_labelled(logits)
    part, box = grid.to_volume(logits[:, rows, columns], (rows.start, columns.start))
    found = np.zeros_like(whole)
    found[box] = labels_of(part)
    assert whole.any()
    np.testing.assert_array_equal(found, whole)


def test_without_a_label_there_is_no_level():
    logits = torch.zeros(4, 5, 6, 3)
    assert where_labelled(logits) is None  # ties go to the background
