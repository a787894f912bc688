"""How well heart function from the masks agrees with heart function from the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import StatisticsError, correlation, fmean, stdev
from typing import Any

from scripts.cine import STRUCTURES
from scripts.exams.reference import PHASES
from scripts.measures.ventricles import function_of_volumes

MEASURES = {
    "LV_ef_percent": "LV EF (%)",
    "RV_ef_percent": "RV EF (%)",
    "LV_edv_ml": "LV EDV (ml)",
    "LV_esv_ml": "LV ESV (ml)",
    "RV_edv_ml": "RV EDV (ml)",
    "RV_esv_ml": "RV ESV (ml)",
    "myocardial_mass_g": "mass (g)",
}
"""Key -> name and unit; the mass is measured at ED."""


def function_of_patients(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The heart function of each patient with an exam at ED or ES, from prediction and reference.

    Args:
        rows: as in ``metrics.csv``, with patient, group, phase, structure, volume_ml and reference_ml.

    Returns:
        patient, group, predicted and reference; the last two have a value or None for each of MEASURES. It is None if
        its phase or structure is missing, or if ES is larger than ED. A patient with several exams of one phase is left
        out, since it is unknown which ED and ES belong together.
    """
    patients: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["phase"] in PHASES:
            patients.setdefault(row["patient"], []).append(row)
    functions = []
    for patient, own in patients.items():
        by_place = {(row["phase"], row["structure"]): row for row in own}
        if len(by_place) == len(own):
            predicted, reference = (_function(by_place, column) for column in ("volume_ml", "reference_ml"))
            group = own[0]["group"]
            functions.append({"patient": patient, "group": group, "predicted": predicted, "reference": reference})
    return functions


def _function(by_place: Mapping[tuple[str, str], Mapping[str, Any]], column: str) -> dict[str, float | None]:
    """MEASURES from the volumes in a column; ED is the first frame and ES the second."""
    known = {phase for phase, _ in by_place}
    volumes = {
        name: [by_place[phase, name][column] if phase in known else 0.0 for phase in PHASES] for name in STRUCTURES
    }
    ed, es = (number if phase in known else None for number, phase in enumerate(PHASES, start=1))
    reasons = {"ed_frame": "no exam", "es_frame": "no exam"}
    function = function_of_volumes(volumes, ed, es, reasons, judged=False)
    flat = {f"{name}_{key}": value for name in ("LV", "RV") for key, value in function[name].items()}
    return {key: {**flat, **function}[key] for key in MEASURES}


def pairs_of(functions: Sequence[Mapping[str, Any]], measure: str) -> list[tuple[float, float]]:
    """(predicted, reference) for the patients with both values."""
    pairs = ((entry["predicted"][measure], entry["reference"][measure]) for entry in functions)
    return [pair for pair in pairs if None not in pair]


def bland_altman(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Agreement of predicted with reference values: Bland and Altman, Lancet 1986;327:307-310.

    Returns:
        mean_error (of predicted - reference), std (with n - 1), limits (mean -+ 1.96 std), correlation (Pearson's),
        count. A value is None if there are too few pairs, or if one side does not vary.
    """
    errors = [predicted - reference for predicted, reference in pairs]
    mean = fmean(errors) if errors else None
    std = stdev(errors) if len(errors) > 1 else None
    try:
        together: float | None = correlation(*zip(*pairs, strict=True)) if pairs else None
    except StatisticsError:
        together = None
    return {
        "mean_error": mean,
        "std": std,
        "limits": None if mean is None or std is None else [mean - 1.96 * std, mean + 1.96 * std],
        "correlation": together,
        "count": len(pairs),
    }


def agreement(functions: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """``bland_altman`` for each of MEASURES, and "undefined": the number of patients with only a reference value."""
    return {
        measure: {
            **bland_altman(pairs_of(functions, measure)),
            "undefined": sum(
                entry["predicted"][measure] is None and entry["reference"][measure] is not None for entry in functions
            ),
        }
        for measure in MEASURES
    }


def agreement_cells(found: Mapping[str, Any]) -> tuple[str, str, str]:
    """Mean error, limits of agreement and correlation of one measure, as tables show them."""
    error, limits, together = "-", "-", "-"
    if found["mean_error"] is not None:
        error = f"{found['mean_error']:+.1f}" + ("" if found["std"] is None else f" ± {found['std']:.1f}")
    if found["limits"] is not None:
        limits = "{:+.1f} to {:+.1f}".format(*found["limits"])
    if found["correlation"] is not None:
        together = f"{found['correlation']:.3f}"
    return error, limits, together


def format_agreement(agreements: Mapping[str, Mapping[str, Any]]) -> str:
    """The agreement as a table for the terminal, without measures that have no reference."""
    lines = [f"{'':12}{'mean error':>16}{'limits of agreement':>22}{'correlation':>13}{'patients':>10}"]
    for measure, name in MEASURES.items():
        found = agreements[measure]
        if not found["count"] and not found["undefined"]:
            continue
        error, limits, together = agreement_cells(found)
        undefined = f" ({found['undefined']} undefined)" if found["undefined"] else ""
        lines.append(f"{name:12}{error:>16}{limits:>22}{together:>13}{found['count']:>10}{undefined}")
    return "\n".join(lines)
