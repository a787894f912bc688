from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.core.errors import CineError
from scripts.exams.degradation import SEVERITIES, Degraded, blur, half_slices, shift_slices

SHAPE = (1, 32, 24, 7)
AFFINE = torch.diag(torch.tensor([-1.5, -1.5, 8.0, 1.0], dtype=torch.float64))
AFFINE[:3, 3] = torch.tensor([3.0, 4.0, 5.0])


def exam(name: str = "patient001_frame01.nii.gz") -> dict:
    generator = torch.Generator().manual_seed(1)
    image = 100 + 20 * torch.rand(SHAPE, generator=generator)
    label = torch.zeros(SHAPE)
    for d in range(7):
        label[0, 8:20, 8 : 20 - d, d] = 1 + d % 3
    meta = {"filename_or_obj": f"/somewhere/{name}"}
    return {key: MetaTensor(x, affine=AFFINE, meta=dict(meta)) for key, x in (("image", image), ("label", label))}


def degraded(kind: str, severity: float, name: str = "patient001_frame01.nii.gz", seed: int = 0) -> dict:
    return Degraded(["image", "label"], kind, severity, seed)(exam(name))


@pytest.mark.parametrize("kind", SEVERITIES)
def test_severity_0_is_no_degradation(kind):
    before, after = exam(), degraded(kind, 0)
    for key in before:
        assert torch.equal(before[key], after[key])
        assert torch.equal(before[key].affine, after[key].affine)


@pytest.mark.parametrize(("kind", "severity"), [("noise", 0.5), ("undersampling", 0.5)])
def test_noise_and_blur_change_the_image_and_nothing_else(kind, severity):
    before, after = exam(), degraded(kind, severity)
    assert torch.equal(before["label"], after["label"])
    assert after["image"].shape == before["image"].shape and after["image"].dtype == torch.float32
    assert torch.equal(before["image"].affine, after["image"].affine)
    assert after["image"].meta["filename_or_obj"] == before["image"].meta["filename_or_obj"]
    assert not torch.equal(before["image"], after["image"])


def test_noise_has_the_strength_of_its_severity():
    """Far above zero, Rician noise is Gaussian noise of the same standard deviation."""
    change = degraded("noise", 0.5)["image"] - exam()["image"]
    assert float(change.std()) == pytest.approx(0.5 * float(exam()["image"].std()), rel=0.03)


def test_noise_depends_only_on_the_seed_and_the_file_s_name():
    transform = Degraded(["image"], "noise", 0.5)
    first, _, again = (transform(exam(name))["image"] for name in ("a.nii.gz", "b.nii.gz", "a.nii.gz"))
    assert torch.equal(first, again)
    assert not torch.equal(first, degraded("noise", 0.5, "b.nii.gz")["image"])
    assert not torch.equal(first, degraded("noise", 0.5, "a.nii.gz", seed=1)["image"])


def test_undersampling_removes_fine_detail_and_keeps_coarse():
    """Half of k-space's radius, 0.35 cycles a voxel, is removed: stripes of 2 voxels disappear, stripes of 16 stay."""
    x = torch.arange(32.0)[None, :, None, None]
    coarse, fine = (torch.cos(2 * torch.pi * x / period).expand(1, 32, 32, 3) for period in (16, 2))
    coarse = coarse + 3.0
    image = MetaTensor(coarse + fine, affine=AFFINE)
    assert torch.allclose(blur(image, 0.5).as_tensor(), coarse, atol=1e-5)
    assert torch.allclose(blur(image, 0.01).as_tensor(), coarse + fine, atol=1e-5)


def test_undersampling_gives_magnitudes():
    """An edge from 0 to 1 rings below 0."""
    edge = torch.zeros(1, 32, 32, 3)
    edge[:, 16:] = 1.0
    assert float(blur(MetaTensor(edge, affine=AFFINE), 0.7).min()) >= 0.0


def test_undersampling_works_within_each_slice():
    image = exam()["image"]
    single = blur(MetaTensor(image.as_tensor()[..., 2:3], affine=AFFINE), 0.6)
    assert torch.allclose(blur(image, 0.6).as_tensor()[..., 2:3], single.as_tensor(), atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_the_slices_keep_their_position(axis):
    """The slices may be on any axis of the file."""
    order = [0, 1]
    order.insert(axis, 2)
    voxels = exam()["label"].as_tensor().permute(0, *(1 + a for a in order)).contiguous()
    affine = AFFINE.clone()
    affine[:, :3] = AFFINE[:, order]
    half = half_slices(MetaTensor(voxels, affine=affine))
    assert half.shape[1 + axis] == 4
    for new, old in enumerate(range(0, 7, 2)):
        assert torch.equal(half.as_tensor().select(1 + axis, new), voxels.select(1 + axis, old))
        at_new, at_old = (torch.tensor([*(index * (a == axis) for a in range(3)), 1.0]) for index in (new, old))
        assert torch.equal(half.affine @ at_new.double(), affine @ at_old.double())
    assert half.pixdim.tolist() == [{0: 1.5, 1: 1.5, 2: 16.0}[a] for a in order]


def test_image_and_label_keep_the_same_half_of_the_slices():
    before, after = exam(), degraded("half_slices", 1)
    for key in before:
        assert after[key].shape == (1, 32, 24, 4)
        assert torch.equal(after[key].as_tensor(), before[key].as_tensor()[..., ::2])
    assert torch.equal(after["image"].affine, after["label"].affine)
    one = MetaTensor(torch.ones(1, 8, 8, 1), affine=AFFINE)
    assert half_slices(one).shape == (1, 8, 8, 1)


def test_an_image_without_a_label_is_also_degraded():
    item = Degraded("image", "noise", 1.0)({"image": exam()["image"]})
    assert list(item) == ["image"]


@pytest.mark.parametrize(
    ("kind", "severity", "message"),
    [
        ("motion", 1, "one of noise, undersampling, half_slices"),
        ("noise", "much", "severity: found 'much'; expected for noise, from 0 to 10"),
        ("noise", -0.1, "from 0 to 10: the noise's standard deviation"),
        ("noise", float("nan"), "severity"),
        ("undersampling", 1.0, "from 0 to 0.95: the share of k-space's radius"),
        ("half_slices", 0.5, "1, or 0 to keep all"),
    ],
)
def test_impossible_degradations_are_refused(kind, severity, message):
    with pytest.raises(CineError, match=message):
        Degraded("image", kind, severity)


def test_a_constant_image_stays_finite():
    flat = {"image": MetaTensor(torch.full(SHAPE, 7.0), affine=AFFINE)}
    for kind in ("noise", "undersampling"):
        assert np.isfinite(Degraded("image", kind, 0.5)(flat)["image"].numpy()).all()


def test_slices_of_image_and_label_shift_alike_by_whole_voxels():
    """A block of 4 x 4 voxels in each slice: only its place changes."""
    block = torch.zeros(1, 60, 50, 200)
    block[:, 30:34, 20:24] = 2.0
    meta = {"filename_or_obj": "/somewhere/a.nii.gz"}
    data = {key: MetaTensor(block.clone(), affine=AFFINE, meta=dict(meta)) for key in ("image", "label")}
    after = Degraded(["image", "label"], "slice_shift", 3.0)(data)
    assert torch.equal(after["image"], after["label"])
    assert torch.equal(after["image"].affine, AFFINE)
    places = []
    for slice_HW in after["image"][0].as_tensor().unbind(-1):
        rows, columns = slice_HW.nonzero().min(0).values.tolist()
        assert torch.equal(slice_HW[rows : rows + 4, columns : columns + 4], torch.full((4, 4), 2.0))
        assert slice_HW.sum() == 32
        places.append((rows - 30, columns - 20))
    shifts_mm = 1.5 * np.array(places)
    assert abs(shifts_mm.mean()) < 0.5  # 400 shifts of 3 mm: their mean has an error of 0.15 mm
    assert shifts_mm.std() == pytest.approx(np.hypot(3.0, 1.5 / np.sqrt(12)), abs=0.35)  # and the rounding's spread
    assert abs(np.corrcoef(shifts_mm.T)[0, 1]) < 0.25  # both axes are independent


def test_a_shift_is_towards_larger_indices_and_repeats_the_border(monkeypatch):
    class Fixed:
        def normal(self, mean, sigma, size):
            return np.array([[3.0, 0.0], [0.0, -1.6]])  # mm: 2 voxels, and 1.07 backwards

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Fixed())
    image = torch.arange(4.0)[None, :, None, None] + 10 * torch.arange(3.0)[:, None]  # 1 H W 1
    shifted = shift_slices(MetaTensor(image.expand(1, 4, 3, 2).clone(), affine=AFFINE), 3.0, 0)
    assert shifted[0, :, 0, 0].tolist() == [0, 0, 0, 1]
    assert shifted[0, 0, :, 0].tolist() == [0, 10, 20]
    assert shifted[0, 0, :, 1].tolist() == [10, 20, 20]
    assert shifted[0, :, 0, 1].tolist() == [10, 11, 12, 13]


def test_other_seeds_and_files_shift_otherwise():
    first = degraded("slice_shift", 5.0)["image"]
    assert torch.equal(first, degraded("slice_shift", 5.0)["image"])
    assert not torch.equal(first, degraded("slice_shift", 5.0, seed=1)["image"])
    assert not torch.equal(first, degraded("slice_shift", 5.0, "b.nii.gz")["image"])
