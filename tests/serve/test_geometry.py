from __future__ import annotations

import numpy as np
import pytest

from scripts.core.errors import CineError
from scripts.serve.geometry import Orienter, check_geometry
from scripts.serve.protocol import Volume

GOOD = np.diag([1.4, -1.4, 9.0, 1.0])


def changed(place, value):
    affine = GOOD.copy()
    affine[place] = value
    return affine


def test_real_geometries_pass():
    check_geometry(GOOD, (224, 256, 12))
    check_geometry(np.diag([0.6, 0.6, 8.0, 1.0]), (640, 640, 30))
    check_geometry(changed((0, 1), 0.01), (224, 256, 12))  # a rounding


@pytest.mark.parametrize(
    ("affine", "shape", "says"),
    [
        (changed((0, 0), np.nan), (64, 64, 8), "voxels of .nan"),
        (changed((0, 0), np.inf), (64, 64, 8), "voxels of .inf"),
        (changed((2, 2), 0.0), (64, 64, 8), "three lengths from 0.01 to 100 mm"),
        (changed((2, 2), 1e38), (64, 64, 8), "three lengths"),
        (changed((0, 3), np.nan), (64, 64, 8), "the position"),
        (changed((0, 3), 1e6), (64, 64, 8), "a position within 100000 mm"),
        (changed((0, 1), 0.5), (64, 64, 8), "sheared axes"),
        (GOOD, (1000, 64, 8), "a field of .1400"),
        (GOOD, (500, 500, 100), "mm2 in all slices together"),
    ],
)
def test_impossible_geometries_are_refused(affine, shape, says):
    with pytest.raises(CineError, match=says):
        check_geometry(affine, shape)


def test_the_working_order_is_computed_once_a_geometry():
    orient, voxels = Orienter(), np.zeros((8, 10, 3))
    first, again, other = (orient(Volume(voxels, affine, [], 0.0)) for affine in (GOOD, GOOD.copy(), np.abs(GOOD)))
    assert first is again and first is not other
    assert first.spacing_mm == (1.4, 1.4, 9.0)
    assert first.key != other.key
