from __future__ import annotations

import pytest

from scripts.quality.plausibility import edv_doubt, ef_doubt, field_doubt, mass_doubt, myo_doubt


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "words"),
    [
        ((216, 256, 10), (1.5, 1.5, 10), ""),
        ((64, 64, 10), (1, 1, 8), ""),
        ((111, 119, 30), (1.3, 1.3, 10), ""),
        ((6, 111, 60), (1.3, 1.3, 8.7), "7.8 x 144 x 522 mm, but a heart needs 64 to 600 mm in plane"),  # time first
        ((10, 111, 119), (1.3, 1.3, 8.7), "13 x 144 x"),  # slices first
        ((512, 512, 10), (1.4, 1.4, 8), "717 x 717 x 80 mm"),
        ((256, 256, 40), (1.4, 1.4, 8), "at most 300 mm"),
        ((10, 216, 256), (10, 1.5, 1.5), ""),
    ],
)
def test_a_field_that_cannot_show_a_heart_is_doubted(shape, spacing_mm, words):
    doubt = field_doubt(shape, spacing_mm)
    assert words in doubt and bool(words) == bool(doubt)


@pytest.mark.parametrize(
    ("doubt", "values", "possible"),
    [
        (edv_doubt, ("LV", 9.0), False),  # an array saved with an identity affine
        (edv_doubt, ("LV", 49.0), True),  # the smallest of ACDC
        (edv_doubt, ("RV", 375.0), True),
        (edv_doubt, ("RV", 750.0), False),
        (ef_doubt, ("LV", 10.5), True),  # the lowest of ACDC
        (ef_doubt, ("LV", 3.0), False),
        (ef_doubt, ("RV", 1.9), True),
        (ef_doubt, ("LV", 82.0), True),
        (ef_doubt, ("RV", 95.0), False),
        (mass_doubt, (5.0,), False),
        (mass_doubt, (270.0,), True),
        (myo_doubt, (100.0, 147.0), True),
        (myo_doubt, (100.0, 46.0), False),
        (myo_doubt, (0.0, 46.0), True),  # not known
    ],
)
def test_impossible_values_for_a_heart_are_doubted(doubt, values, possible):
    assert (doubt(*values) == "") is possible
