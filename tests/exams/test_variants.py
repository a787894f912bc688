"""Exams in other storage orders: the position of each voxel, under a header that is not updated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.core.errors import CineError
from scripts.exams.variants import ORDERS, SLICES, VARIANTS, Varied, in_all_variants, middle_slices

AFFINE = torch.diag(torch.tensor([-1.5, -2.0, 10.0, 1.0], dtype=torch.float64))


def exam(variant, size=(6, 4, 7), affine=AFFINE):
    image = torch.arange(float(np.prod(size))).reshape(1, *size)
    label = torch.zeros(1, *size)
    label[0, 2:4, 1:3, 1:6] = 3
    return {
        "image": MetaTensor(image, affine=affine.clone()),
        "label": MetaTensor(label, affine=affine.clone()),
        "variant": variant,
    }


def varied(variant, **changes):
    return Varied(["image", "label"])(exam(variant, **changes))


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("as stored", lambda v: v),
        ("mirrored x", lambda v: v[::-1]),
        ("mirrored y", lambda v: v[:, ::-1]),
        ("turned 180", lambda v: v[::-1, ::-1]),
        ("transposed", lambda v: v.swapaxes(0, 1)),
        ("transposed + x", lambda v: v.swapaxes(0, 1)[::-1]),
        ("transposed + y", lambda v: v.swapaxes(0, 1)[:, ::-1]),
        ("transposed + both", lambda v: v.swapaxes(0, 1)[::-1, ::-1]),
    ],
)
def test_the_eight_storage_orders_by_hand(variant, expected):
    before, after = exam(variant), varied(variant)
    for key in ("image", "label"):
        np.testing.assert_array_equal(after[key][0].numpy(), expected(before[key][0].numpy()))
        x, y = (2.0, 1.5) if variant.startswith("transposed") else (1.5, 2.0)
        np.testing.assert_allclose(after[key].affine, np.diag([-x, -y, 10.0, 1.0]))  # directions are not updated


def test_all_orders_differ():
    assert len({tuple(varied(name, size=(4, 4, 3))["image"].flatten().tolist()) for name in ORDERS}) == 8


def test_a_rotation_by_45_degrees_keeps_the_whole_image():
    """A spot at the end of the first axis moves to the diagonal, and nothing is cut off."""
    image, label = torch.zeros(1, 21, 21, 3), torch.zeros(1, 21, 21, 3)
    image[0, 19:21, 10, 1] = 100.0
    label[0, 5:15, 5:15] = 3
    item = {"image": MetaTensor(image, affine=AFFINE), "label": MetaTensor(label, affine=AFFINE)}
    item["variant"] = "turned 45"
    after = Varied(["image", "label"])(item)
    height, width, depth = after["image"].shape[1:]
    assert (height, width, depth) == (35, 26, 3)  # (31.5 + 42) / sqrt(2) mm
    where = np.unravel_index(after["image"][0].argmax(), after["image"].shape[1:])
    offset = np.abs(np.array(where[:2]) - (17.0, 12.5)) * (1.5, 2.0)
    np.testing.assert_allclose(offset, 9.5 * 1.5 / np.sqrt(2), atol=2.0)  # mm
    assert where[2] == 1 and set(after["label"].unique().tolist()) == {0.0, 3.0}
    assert float(after["label"].sum()) == pytest.approx(float(label.sum()), rel=0.05)
    assert after["image"].affine.equal(item["image"].affine)


@pytest.mark.parametrize(("variant", "slices"), [("1 slice", [3]), ("2 slices", [2, 3]), ("3 slices", [2, 3, 4])])
def test_few_slices_are_the_middle_ones_of_the_label(variant, slices):
    before, after = exam(variant), varied(variant)
    for key in ("image", "label"):
        torch.testing.assert_close(after[key].as_tensor(), before[key].as_tensor()[..., slices])


def test_slices_are_cut_on_any_axis():
    affine = torch.tensor([[0, -1.5, 0, 0], [0, 0, -2.0, 0], [10.0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    item = {
        key: MetaTensor(value.as_tensor().permute(0, 3, 1, 2), affine=affine)
        for key, value in exam("").items()
        if key != "variant"
    }
    after = Varied(["image", "label"])({**item, "variant": "1 slice"})
    assert after["image"].shape == (1, 1, 6, 4)
    torch.testing.assert_close(after["image"].as_tensor()[:, 0], exam("")["image"].as_tensor()[..., 3])


def test_middle_slices_are_neighbours_and_within_the_stack():
    label = np.zeros((4, 4, 9))
    label[0, 0, [2, 3, 5, 6, 8]] = 1
    assert [middle_slices(label, count) for count in (1, 2, 3)] == [[5], [3, 4], [3, 4, 5]]
    assert middle_slices(np.zeros((4, 4, 2)), 3) == [0, 1]
    assert middle_slices(np.zeros((4, 4, 7)), 1) == [3]
    only_last = np.zeros((4, 4, 6))
    only_last[..., 5] = 1
    assert middle_slices(only_last, 3) == [3, 4, 5]


def test_each_exam_comes_in_every_variant():
    items = in_all_variants([{"image": "a", "patient": "p"}, {"image": "b", "patient": "q"}])
    assert len(items) == 2 * len(VARIANTS) == 2 * (8 + 1 + len(SLICES))
    assert {item["variant"] for item in items if item["patient"] == "q"} == set(VARIANTS)


def test_an_invalid_variant_is_refused():
    with pytest.raises(CineError, match="variant: found 'upside down'; expected one of as stored, mirrored x"):
        varied("upside down")
