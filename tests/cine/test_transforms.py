"""Working order: every storage order of a heart gives the same array, and the inverse restores every bit."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, Flip, Invertd, LoadImaged, NormalizeIntensity, Spacingd

from scripts.cine.reader import CineReader
from scripts.cine.transforms import (
    ForEachFrame,
    ForEachFramed,
    ShortAxisOrder,
    ShortAxisOrderd,
    SpacingBesideTextd,
    slice_axis,
)
from scripts.core.errors import CineError

VOXELS = torch.arange(2 * 4 * 5 * 3, dtype=torch.float32).reshape(2, 4, 5, 3)
ACDC = torch.diag(torch.tensor([-1.5, -1.5, 10.0, 1.0], dtype=torch.float64))
ORDERS = list(product(permutations(range(3)), product([False, True], repeat=3)))


def stored_as(order, flips, affine=ACDC) -> MetaTensor:
    """The same heart with its axes in another order and direction."""
    voxels = VOXELS.permute(0, *(1 + axis for axis in order)).flip([1 + axis for axis in range(3) if flips[axis]])
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        change[old, new], change[old, 3] = (-1, VOXELS.shape[1 + old] - 1) if flip else (1, 0)
    return MetaTensor(voxels.contiguous(), affine=affine @ torch.from_numpy(change))


def oblique() -> torch.Tensor:
    """A short-axis plane of a real patient: rotated about two axes."""
    a, b = np.deg2rad([40, 35])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ ACDC[:3, :3].numpy()
    affine[:3, 3] = 12.3, -45.6, 78.9
    return torch.from_numpy(affine)


@pytest.mark.parametrize("affine", [ACDC, oblique()], ids=["acdc", "oblique"])
def test_all_48_axis_orders_give_the_same_array_and_return(affine):
    assert len(ORDERS) == 48
    transform = ShortAxisOrder()
    for order, flips in ORDERS:
        stored = stored_as(order, flips, affine)
        worked = transform(stored)
        assert torch.equal(worked.as_tensor(), VOXELS)
        assert torch.allclose(worked.affine, affine, atol=1e-9)
        assert torch.linalg.det(worked.affine[:3, :3]) > 0
        back = transform.inverse(worked)
        assert torch.equal(back.as_tensor(), stored.as_tensor()) and torch.equal(back.affine, stored.affine)
        assert back.applied_operations == []


@pytest.mark.parametrize("degrees", [0, 45, 90])
def test_ties_are_decided_in_the_same_way_for_every_axis_order(degrees):
    """A sagittal stack has no left-right axis in plane; a plane rotated by 45 degrees has two equally close ones."""
    turn = np.deg2rad(degrees)
    sagittal = np.eye(4)
    sagittal[:3, :3] = np.array([[0, 0, 10], [np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]]) * 1.0
    axial = np.eye(4)
    axial[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    axial[2, 2] = 10
    for affine in (sagittal, axial):
        worked = [ShortAxisOrder()(stored_as(*each, torch.from_numpy(affine))) for each in ORDERS]
        assert all(torch.equal(each.as_tensor(), worked[0].as_tensor()) for each in worked)


def test_acdc_keeps_its_order():
    worked = ShortAxisOrder()(MetaTensor(VOXELS, affine=ACDC))
    assert torch.equal(worked.as_tensor(), VOXELS) and torch.equal(worked.affine, ACDC)


@pytest.mark.parametrize(
    ("spacing", "shape", "axis"),
    [
        ((1.5, 1.5, 10.0), (128, 128, 10), 2),
        ((10.0, 1.5, 1.5), (10, 128, 128), 0),
        ((1.5, 8.0, 1.4), (128, 12, 128), 1),
        ((1.0, 1.49, 1.0), (64, 64, 64), 2),  # below the limit
        ((1.0, 1.5, 1.0), (64, 64, 64), 1),  # at it
        ((1.4, 1.4, 1.4), (111, 119, 66), 2),  # an isotropic 3D cine
        ((1.4, 1.4, 0.5), (111, 119, 170), 2),  # slices thinner than pixels: two axes are coarser
        ((10.0, 1.5, 1.5), (128, 128, 1), 2),  # a single slice
        ((10.0, 10.0, 10.0), (1, 64, 64), 0),
    ],
)
def test_the_slice_axis_is_the_last_unless_another_is_clearly_coarser_or_single(spacing, shape, axis):
    assert slice_axis(np.array(spacing), shape) == axis
    voxels = MetaTensor(torch.zeros(1, *shape), affine=torch.diag(torch.tensor([*spacing, 1.0])))
    assert ShortAxisOrder()(voxels).shape[3] == shape[axis]


@pytest.mark.parametrize(("last_mm", "level"), [(10.0, "DEBUG"), (1.4, "INFO"), (0.9, "INFO")])
def test_the_slice_axis_is_logged_if_it_is_not_obvious(last_mm, level, caplog):
    image = MetaTensor(torch.zeros(1, 6, 5, 4), affine=torch.diag(torch.tensor([1.4, 1.4, last_mm, 1.0])))
    with caplog.at_level("DEBUG"):
        ShortAxisOrderd("image")({"image": image})
    (record,) = caplog.records
    assert record.levelname == level
    assert f"using axis 3 of 3 as the slice axis ((6, 5, 4) voxels of 1.4 x 1.4 x {last_mm:g} mm)" in record.message


def test_a_prediction_with_other_channels_is_inverted_through_spacing(nifti):
    voxels = np.random.default_rng(0).integers(0, 900, (3, 12, 10)).astype(np.int16)
    path = nifti(
        voxels,
        pixdim=[1, 8, 1.5, 1.25, 0, 0, 0, 0],
        srow_x=[0, 1.5, 0, 1],
        srow_y=[0, 0, 1.25, 2],
        srow_z=[8, 0, 0, 3],
    )
    before = Compose(
        [
            LoadImaged(keys="image", reader=CineReader(), ensure_channel_first=True, image_only=True),
            ShortAxisOrderd(keys=["image", "label"], allow_missing_keys=True),
            Spacingd(keys="image", pixdim=(1.0, 1.0, -1.0)),
        ]
    )
    for batch in DataLoader(Dataset([{"image": str(path)}], before), batch_size=1):
        assert batch["image"].shape[4] == 3
        batch["pred"] = batch["image"].repeat(1, 4, 1, 1, 1)
        item = decollate_batch(batch)[0]
    undone = Invertd(keys="pred", transform=before, orig_keys="image", nearest_interp=False)(item)
    assert undone["pred"].shape == (4, 3, 12, 10)
    original = LoadImaged(keys="image", reader=CineReader(), ensure_channel_first=True)({"image": path})["image"]
    assert torch.equal(undone["pred"].affine, original.affine)
    flat = torch.ones_like(item["pred"])
    flat[..., 1] = 2  # the middle slice
    undone = Invertd(keys="pred", transform=before, orig_keys="image")({**item, "pred": flat})
    assert undone["pred"][0].mean(dim=(1, 2)).tolist() == [1, 2, 1]


def test_other_shapes_are_refused():
    with pytest.raises(CineError, match=r"a tensor of shape \(4, 5, 3\); expected C H W D"):
        ShortAxisOrder()(VOXELS[0])


def test_each_frame_is_transformed_separately_and_keeps_its_metadata():
    image = Flip(0)(MetaTensor(VOXELS, affine=ACDC, meta={"filename_or_obj": "a.nii"}))
    out = ForEachFramed(keys="image", transform=NormalizeIntensity(), channels=1)({"image": image})["image"]
    for frame, source in zip(out, image, strict=True):
        expected = (source - source.mean()) / source.std(correction=0)
        assert torch.allclose(frame, expected, atol=1e-5)
    assert torch.equal(out.affine, image.affine) and out.meta["filename_or_obj"] == "a.nii"
    assert [info["class"] for info in out.applied_operations] == ["Flip"]


def test_frames_of_several_channels_stay_together():
    logits = torch.randn(3 * 4, 2, 2, 2)
    labels = ForEachFrame(lambda frame: frame.argmax(dim=0, keepdim=True), channels=4)(logits)
    assert torch.equal(labels, logits.reshape(3, 4, 2, 2, 2).argmax(dim=1))
    with pytest.raises(CineError, match="12 channels; expected a multiple of 5"):
        ForEachFrame(torch.abs, channels=5)(logits)


def test_spacing_ignores_text_with_a_name_like_metadata():
    """The item of MONAI Label: the path under image_path, metadata under image_meta_dict."""
    image = MetaTensor(VOXELS, affine=ACDC, meta={"filename_or_obj": "a.nii.gz"})
    item = {"image": image, "image_path": "a.nii.gz", "image_meta_dict": {"kept": 1}, "frame": 0}
    settings = {"keys": "image", "pixdim": (1.0, 1.0, -1.0)}
    transform = SpacingBesideTextd(**settings)
    spaced = transform(item)
    expected = Spacingd(**settings)({"image": image})["image"]
    assert torch.equal(spaced["image"], expected) and expected.shape != image.shape
    assert spaced["image_path"] == "a.nii.gz" and spaced["frame"] == 0 and spaced["image_meta_dict"]["kept"] == 1
    assert transform.inverse(spaced)["image"].shape == image.shape
