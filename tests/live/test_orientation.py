from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.cine.transforms import ShortAxisOrder
from scripts.live.orientation import Orientation


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_it_is_the_transform_of_the_step_infer(order, signs):
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    spacing = (1.2, 1.3, 9.0)
    for axis, (old, sign) in enumerate(zip(order, signs, strict=True)):
        affine[old, axis] = sign * spacing[old]
    volume = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    orientation = Orientation(affine, volume.shape)
    expected = ShortAxisOrder()(MetaTensor(torch.from_numpy(volume)[None], affine=torch.from_numpy(affine)))
    working = orientation.to_working(volume)
    np.testing.assert_array_equal(working, expected[0].numpy())
    assert orientation.spacing_mm == pytest.approx(np.linalg.norm(expected.affine[:3, :3].numpy(), axis=0))
    np.testing.assert_array_equal(orientation.to_source(working), volume)
    np.testing.assert_array_equal(orientation.to_source(orientation.to_working(volume[None]))[0], volume)
