from __future__ import annotations

import numpy as np

from scripts.serve.contours import contours


def ring():
    """LV within MYO, and RV at the border."""
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 10:22] = 2
    mask[8:12, 13:19] = 3
    mask[6:10, 0:6] = 1
    return mask


def points(roi):
    return np.array(roi[6:], float).reshape(-1, 2)


def test_outlines_surround_their_structures():
    found = contours(ring())
    assert list(found) == ["ROI_RV", "ROI_MYO", "ROI_LV"]
    for name, (x, y) in {
        "ROI_RV": ((0, 5), (6, 9)),
        "ROI_MYO": ((10, 21), (5, 14)),
        "ROI_LV": ((13, 18), (8, 11)),
    }.items():
        line = points(found[name])
        np.testing.assert_allclose(line.min(0), (x[0] - 0.5, y[0] - 0.5))
        np.testing.assert_allclose(line.max(0), (x[1] + 0.5, y[1] + 0.5))
        np.testing.assert_array_equal(line[0], line[-1])  # closed, also at the border of the image


def test_style_comes_first():
    roi = contours(ring())["ROI_LV"]
    colour, (thickness, line_style, visible) = np.array(roi[:3], float), np.array(roi[3:6], float)
    assert ((colour >= 0) & (colour <= 1)).all()
    assert (thickness, line_style, visible) == (1, 0, 1)


def test_parts_are_numbered_by_size_and_an_empty_slice_has_none():
    mask = ring()
    mask[0, 29] = 3
    assert list(contours(mask)) == ["ROI_RV", "ROI_MYO", "ROI_MYO_2", "ROI_LV", "ROI_LV_2"]
    assert len(contours(mask)["ROI_LV"]) > len(contours(mask)["ROI_LV_2"])
    assert contours(np.zeros((5, 5), np.uint8)) == {}
