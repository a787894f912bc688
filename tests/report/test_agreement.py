from __future__ import annotations

import math

import pytest

from scripts.report.agreement import MEASURES, agreement, bland_altman, format_agreement, function_of_patients


def rows_of(patient, phase, predicted, reference):
    """Volumes (ml) of RV, MYO and LV."""
    return [
        {
            **{"patient": patient, "group": "NOR", "phase": phase, "structure": name},
            **{"volume_ml": found, "reference_ml": expected},
        }
        for name, found, expected in zip(("RV", "MYO", "LV"), predicted, reference, strict=True)
    ]


def test_bland_altman_by_hand():
    """Errors 2, -1, 5 and -2: mean 1, squared deviations 1, 4, 16 and 9, so the variance is 30 / 3."""
    found = bland_altman([(12.0, 10.0), (19.0, 20.0), (35.0, 30.0), (38.0, 40.0)])
    sd = math.sqrt(10)
    assert found["mean_error"] == pytest.approx(1.0)
    assert found["std"] == pytest.approx(sd)
    assert found["limits"] == pytest.approx([1 - 1.96 * sd, 1 + 1.96 * sd])
    # deviations of the predictions -14, -7, 9 and 12, of the references -15, -5, 5 and 15
    assert found["correlation"] == pytest.approx((210 + 35 + 45 + 180) / math.sqrt(470 * 500))
    assert found["count"] == 4


def test_too_few_patients_give_partial_statistics():
    assert bland_altman([]) == {**dict.fromkeys(("mean_error", "std", "limits", "correlation")), "count": 0}
    one = bland_altman([(3.0, 1.0)])
    assert one == {"mean_error": 2.0, "std": None, "limits": None, "correlation": None, "count": 1}
    alike = bland_altman([(3.0, 1.0), (4.0, 1.0)])  # constant references have no correlation
    assert (alike["limits"][0], alike["correlation"]) == (pytest.approx(2.5 - 1.96 * math.sqrt(0.5)), None)


def test_function_by_hand():
    rows = rows_of("a", "ES", (60, 105, 40), (80, 110, 50)) + rows_of("a", "ED", (120, 100, 100), (160, 90, 125))
    (function,) = function_of_patients(rows)
    assert (function["patient"], function["group"]) == ("a", "NOR")
    assert list(function["predicted"]) == list(MEASURES)
    assert function["predicted"] == pytest.approx(
        {
            **{"LV_ef_percent": 60.0, "RV_ef_percent": 50.0, "LV_edv_ml": 100, "LV_esv_ml": 40},
            **{"RV_edv_ml": 120, "RV_esv_ml": 60, "myocardial_mass_g": 105.0},
        }
    )
    assert function["reference"]["LV_ef_percent"] == pytest.approx(60.0)
    assert function["reference"]["myocardial_mass_g"] == pytest.approx(94.5)


def test_patients_with_one_phase_have_the_values_of_this_phase():
    rows = rows_of("a", "ED", (120, 100, 100), (160, 90, 125)) + rows_of("b", "ES", (60, 105, 40), (80, 110, 50))
    a, b = function_of_patients(rows)
    known = lambda values: {key for key, value in values.items() if value is not None}  # noqa: E731
    assert known(a["predicted"]) == known(a["reference"]) == {"LV_edv_ml", "RV_edv_ml", "myocardial_mass_g"}
    assert known(b["predicted"]) == {"LV_esv_ml", "RV_esv_ml"}
    found = agreement([a, b])
    assert {key: (value["count"], value["undefined"]) for key, value in found.items()} == {
        key: (0 if key.endswith("percent") else 1, 0) for key in MEASURES
    }


def test_exams_of_unknown_or_repeated_phase_give_no_function():
    volumes = (120, 100, 100), (160, 90, 125)
    twice = rows_of("b", "ED", *volumes) + rows_of("b", "ED", *volumes) + rows_of("b", "ES", *volumes)
    assert function_of_patients(rows_of("a", "unknown", *volumes) + twice) == []


def test_values_that_only_the_prediction_lacks_count_as_undefined():
    """No LV found at ES, an RV that grows, and an LV that is missing in the reference."""
    rows = rows_of("a", "ED", (60, 100, 100), (160, 90, 125)) + rows_of("a", "ES", (80, 105, 0), (80, 110, 50))
    rows += rows_of("b", "ED", (60, 100, 100), (160, 90, 0)) + rows_of("b", "ES", (50, 105, 70), (80, 110, 0))
    found = agreement(function_of_patients(rows))
    assert (found["LV_ef_percent"]["count"], found["LV_ef_percent"]["undefined"]) == (0, 1)
    assert (found["LV_esv_ml"]["count"], found["LV_esv_ml"]["undefined"]) == (0, 1)
    assert (found["RV_ef_percent"]["count"], found["RV_ef_percent"]["undefined"]) == (1, 1)
    assert (found["RV_edv_ml"]["count"], found["RV_edv_ml"]["undefined"]) == (2, 0)
    lines = format_agreement(found).splitlines()
    assert lines[1].split()[3:] == ["-", "-", "-", "0", "(1", "undefined)"]
