"""Crops of exams on the device: the position of each voxel, compared with MONAI's transforms or computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, Affine

from scripts.core.errors import CineError
from scripts.exams.crops import Augmentation, CropLoader

NONE = Augmentation(
    rotation=0.0,
    scaling=0.0,
    flip=0.0,
    gamma_probability=0.0,
    brightness=0.0,
    noise=0.0,
    background=0.0,
    mirror=0.0,
    few_slices=0.0,
)


def exam(size=(40, 32, 12), place=(25, 14, 6)):
    """Voxels (multiples of 1/8, exact in float16) that differ from their neighbours, and one labelled voxel."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(-16, 16, (1, *size), generator=generator) / 8
    label = torch.zeros(1, *size)
    label[(0, *place)] = 3
    return {"image": image, "label": label}


def first_batch(loader, seed=0):
    loader.generator.manual_seed(seed)
    return next(iter(loader))


def test_without_variation_a_crop_is_a_box_of_the_exam():
    item = exam()
    batch = first_batch(CropLoader([item], 1, (16, 16, 4), augmentation=NONE))
    (where,) = batch["label"][0, 0].nonzero().tolist()
    start = [place - at for place, at in zip((25, 14, 6), where, strict=True)]
    assert start[:2] == [17, 6]  # with the labelled voxel in the middle of the plane
    box = tuple(slice(at, at + n) for at, n in zip(start, (16, 16, 4), strict=True))
    torch.testing.assert_close(batch["image"][0, 0], item["image"][0][box], atol=1e-5, rtol=0)
    torch.testing.assert_close(batch["label"][0, 0], item["label"][0][box])


def test_crops_stay_within_the_exam():
    """A window around a voxel near the border is moved inside, as far as the exam extends."""
    item = exam(place=(0, 31, 11))
    batch = first_batch(CropLoader([item], 1, (16, 16, 4), augmentation=NONE))
    torch.testing.assert_close(batch["image"][0, 0], item["image"][0, :16, 16:, 8:], atol=1e-5, rtol=0)


def test_smaller_exams_are_padded_with_zeros():
    item = exam(size=(10, 12, 3), place=(5, 5, 1))
    batch = first_batch(CropLoader([item], 1, (16, 16, 6), augmentation=NONE))
    expected = torch.zeros(16, 16, 6)
    expected[3:13, 2:14, 1:4] = item["image"][0]
    torch.testing.assert_close(batch["image"][0, 0], expected, atol=1e-5, rtol=0)


def test_rotation_and_scaling_are_those_of_monai(monkeypatch):
    """Compared with MONAI's Affine of the whole plane, if the crop is the whole plane."""
    item = exam(size=(32, 32, 5), place=(16, 16, 2))
    loader = CropLoader([item], 1, (32, 32, 5), augmentation=replace(NONE, rotation=0.5, scaling=0.2))
    draws = iter([torch.tensor([0.6]), torch.tensor([0.5, -0.4])])  # angle, stretch of columns and of rows
    monkeypatch.setattr(loader, "_uniform", lambda *size: next(draws, torch.zeros(*size)))
    batch = first_batch(loader)
    monai = Affine(
        rotate_params=(0.0, 0.0, -0.3),
        scale_params=(0.92, 1.1, 1.0),
        padding_mode="zeros",
        mode="bilinear",
        image_only=True,
    )
    expected = monai(item["image"])[0]
    inside = (slice(8, 24), slice(8, 24))
    torch.testing.assert_close(batch["image"][0, 0][inside], torch.as_tensor(expected)[inside], atol=2e-3, rtol=0)


def test_a_flip_turns_the_slices_of_image_and_label():
    item = exam(size=(16, 16, 4), place=(8, 8, 0))
    flipped = first_batch(CropLoader([item], 1, (16, 16, 4), augmentation=replace(NONE, flip=1.0)))
    torch.testing.assert_close(flipped["image"][0, 0], item["image"][0].flip(2), atol=1e-5, rtol=0)
    assert flipped["label"][0, 0].nonzero().tolist() == [[8, 8, 3]]


def test_a_mirror_reverses_one_axis_of_the_plane():
    item = exam(size=(16, 16, 4), place=(8, 3, 0))
    batch = first_batch(CropLoader([item], 1, (16, 16, 4), augmentation=replace(NONE, mirror=1.0)))
    torch.testing.assert_close(batch["image"][0, 0], item["image"][0].flip(1), atol=1e-5, rtol=0)
    assert batch["label"][0, 0].nonzero().tolist() == [[8, 12, 0]]


def test_turns_and_mirrors_reach_all_eight_storage_orders(monkeypatch):
    """Rotations by 0, 90, 180 or 270 degrees, mirrored or not, give all orders of the plane's axes exactly."""
    item = exam(size=(16, 16, 4), place=(8, 3, 0))
    plane = item["image"][0]
    orders = [turned for whole in (plane, plane.flip(1)) for turned in (whole.rot90(k) for k in range(4))]
    found = set()
    for mirror in (0.0, 1.0):
        for quarter in range(4):
            augmentation = replace(NONE, rotation=math.pi, mirror=mirror)
            loader = CropLoader([item], 1, (16, 16, 4), augmentation=augmentation)
            draws = iter([torch.tensor([quarter / 2 - 1])])  # a share of pi
            monkeypatch.setattr(loader, "_uniform", lambda *size, draws=draws: next(draws, torch.zeros(*size)))
            crop = first_batch(loader)["image"][0, 0]
            found |= {k for k, order in enumerate(orders) if torch.allclose(crop, order, atol=1e-3)}
    assert found == set(range(8))


def test_some_crops_show_one_to_three_slices_around_a_label_repeated_at_their_ends():
    items = [exam(place=(25, 14, 6)) for _ in range(30)]
    loader = CropLoader(items, 1, (16, 16, 7), augmentation=replace(NONE, few_slices=1.0))
    counts = set()
    for batch in loader:
        for tensor in batch.values():
            count = 1 + int((tensor[0, 0].diff(dim=2) != 0).flatten(0, 1).any(0).sum())
            assert tensor.shape == (1, 1, 16, 16, 7) and count <= 3
            before = (7 - count) // 2
            assert torch.equal(tensor[..., :before], tensor[..., before : before + 1].expand(-1, -1, -1, -1, before))
        assert batch["label"].any()
        counts.add(1 + int((batch["image"][0, 0].diff(dim=2) != 0).flatten(0, 1).any(0).sum()))
    assert counts == {1, 2, 3}


def test_contrast_is_that_of_monai():
    item = exam(size=(16, 16, 4), place=(8, 8, 0))
    only_gamma = replace(NONE, gamma=(2.0, 2.0), gamma_probability=1.0)
    batch = first_batch(CropLoader([item], 1, (16, 16, 4), augmentation=only_gamma))
    torch.testing.assert_close(
        batch["image"][0], torch.as_tensor(AdjustContrast(2.0)(item["image"])), atol=1e-4, rtol=0
    )


def test_variation_has_the_requested_size():
    """Brightness within its range and noise of at most its deviation, different for each exam."""
    item = exam(size=(32, 32, 8), place=(16, 16, 4))
    bright = replace(NONE, brightness=0.15)
    images = first_batch(CropLoader([item] * 16, 16, (32, 32, 8), augmentation=bright))["image"].flatten(1)
    plain = item["image"].flatten()
    factors = images.std(dim=1) / plain.std()
    offsets = images.mean(dim=1) - factors * plain.mean()
    assert 0.85 <= factors.min() < 0.97 and 1.03 < factors.max() <= 1.15
    assert -0.15 <= offsets.min() < -0.03 and 0.03 < offsets.max() <= 0.15
    noisy = replace(NONE, noise=0.1, noise_probability=1.0)
    images = first_batch(CropLoader([item] * 8, 8, (32, 32, 8), augmentation=noisy))["image"].flatten(1)
    deviations = (images - plain).std(dim=1)
    assert deviations.max() <= 0.101 and deviations.unique().numel() == 8


def test_coil_shading_is_smooth_and_within_its_strength():
    item = {"image": torch.zeros(1, 32, 32, 8), "label": torch.ones(1, 32, 32, 8)}
    item["image"][:, ::2] = 1.0  # rows of 1 between rows of the minimum, 0, which the field does not change
    shaded = replace(NONE, bias_field=0.4)
    images = first_batch(CropLoader([item] * 8, 8, (32, 32, 8), augmentation=shaded))["image"][:, 0]
    assert images[:, 1::2].abs().max() < 1e-5
    field = images[:, ::2].log()
    assert 0.2 < field.abs().max() <= 0.4 and field.amax((1, 2, 3)).unique().numel() == 8
    for dim, step in ((1, 2 / 15.5), (2, 1 / 15.5), (3, 1 / 3.5)):  # from one corner of the field to the next
        assert field.diff(dim=dim).abs().max() <= 0.8 * step + 1e-4


def test_a_lower_resolution_blurs_in_plane_and_keeps_slices_and_mean():
    item = {"image": torch.zeros(1, 32, 32, 5), "label": torch.ones(1, 32, 32, 5)}
    item["image"][0, 15, 15, 2] = 100.0
    coarse = replace(NONE, low_resolution=4.0, low_resolution_probability=1.0)
    images = first_batch(CropLoader([item] * 8, 8, (32, 32, 5), augmentation=coarse))["image"][:, 0]
    assert images[..., [0, 1, 3, 4]].abs().max() == 0
    torch.testing.assert_close(images.sum((1, 2, 3)), torch.full((8,), 100.0), rtol=0.3, atol=0)
    peaks = images.amax((1, 2, 3))
    assert peaks.min() < 20 and peaks.max() < 100 and peaks.unique().numel() > 2


def test_an_epoch_uses_each_exam_once_in_full_batches():
    items = [exam(size=(16, 16, 4), place=(8, 8, 0)) for _ in range(5)]
    for index, item in enumerate(items):
        item["label"] *= 0
        item["label"] += index
    loader = CropLoader(items, 2, (16, 16, 4), augmentation=NONE)
    seen = [int(label.max()) for batch in loader for label in batch["label"]]
    assert len(loader) == 2 and len(seen) == len(set(seen)) == 4


def test_a_seed_repeats_an_epoch_independently_of_other_random_numbers():
    loader = CropLoader([exam(), exam(place=(3, 3, 3))], 1, (16, 16, 4))
    loader.generator.manual_seed(3)
    first = [batch["image"] for batch in loader]
    torch.manual_seed(99)
    np.random.seed(99)
    loader.generator.manual_seed(3)
    assert all(torch.equal(a, b["image"]) for a, b in zip(first, loader, strict=True))
    assert not torch.equal(first[0], next(iter(loader))["image"])


def test_most_crops_contain_a_label_and_some_do_not():
    loader = CropLoader([exam(size=(96, 96, 20), place=(80, 80, 18))] * 200, 200, (16, 16, 4))
    found = first_batch(loader)["label"].flatten(1).amax(1).gt(0).float().mean()
    assert 0.8 < found < 0.97


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flip", 3.0),
        ("scaling", 1.0),
        ("rotation", -0.1),
        ("gamma", [2.0, 1.0]),
        ("noise", "much"),
        ("low_resolution", 0.5),
    ],
)
def test_invalid_variation_is_refused_and_the_key_is_named(key, value):
    with pytest.raises(CineError, match=f"augmentation#{key}"):
        Augmentation(**{key: value})


@pytest.mark.parametrize(
    ("batch", "patch", "key"), [(0, (8, 8, 8), "batch_size"), (1, (8, 8), "patch_size"), (1, (8, 8, 0), "patch_size")]
)
def test_invalid_sizes_are_refused_and_the_key_is_named(batch, patch, key):
    with pytest.raises(CineError, match=key):
        CropLoader([exam()], batch, patch)


def test_exams_without_any_label_are_refused():
    blank = {"image": torch.randn(1, 8, 8, 3), "label": torch.zeros(1, 8, 8, 3)}
    with pytest.raises(CineError, match="exams: found no labelled voxel in any of 2 exams"):
        next(iter(CropLoader([blank, blank], 1, [8, 8, 3])))
