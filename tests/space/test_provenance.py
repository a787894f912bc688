"""The record of how an architecture was found and measured."""

from __future__ import annotations

import pytest

from scripts.core.errors import CineError
from scripts.core.json_files import validate
from scripts.space.architecture import Architecture
from scripts.space.provenance import NOTHING_KNOWN, PROVENANCE_SCHEMA, Provenance

KNOWN = Provenance(method="genetic", seed=3, predicted_ms=9.5, searched_exams=["a"], notes={"pool": [1, 2]})


def test_json_is_flat_and_without_what_is_unknown():
    assert KNOWN.to_json() == {
        "method": "genetic",
        "seed": 3,
        "searched_exams": ["a"],
        "predicted_ms": 9.5,
        "pool": [1, 2],
    }
    assert NOTHING_KNOWN.to_json() == {}


def test_json_is_read_back_and_unknown_keys_become_notes():
    assert Provenance.from_json(KNOWN.to_json()) == KNOWN
    assert Provenance.from_json({"reference_ms": 3.5, "seed": 0}) == Provenance(seed=0, notes={"reference_ms": 3.5})


def test_an_update_keeps_the_other_entries_and_joins_notes():
    updated = KNOWN.updated(budget_ms=12.0, notes={"genes": [0]})
    assert (updated.method, updated.budget_ms) == ("genetic", 12.0)
    assert updated.notes == {"pool": [1, 2], "genes": [0]}
    with pytest.raises(TypeError):
        KNOWN.updated(bugdet_ms=1.0)


def test_a_number_that_is_missing_is_named():
    assert KNOWN.number("predicted_ms") == 9.5
    with pytest.raises(LookupError, match="no fine_tuned_dice"):
        KNOWN.number("fine_tuned_dice")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shared_dice", "abc"),
        ("seed", "x"),
        ("visits", []),
        ("volumes_per_second", "fast"),
        ("accumulated_weight", {}),
        ("budget_ms", "soon"),
        ("predicted_ms", -1.0),
        ("searched_exams", "patient001"),
    ],
)
def test_values_of_another_type_are_refused(key, value):
    validate({"budget_ms": "auto", "seed": None, "visits": 4, "anything": [1]}, PROVENANCE_SCHEMA, "file", "")
    with pytest.raises(CineError, match=f"field {key}"):
        validate({key: value}, PROVENANCE_SCHEMA, "file", "")


def test_a_file_keeps_the_provenance(architecture, tmp_path):
    path = tmp_path / "architecture.json"
    architecture.with_provenance(seed=3, notes={"pool": [1]}).save(path)
    assert Architecture.load(path).provenance == Provenance(seed=3, notes={"pool": [1]})
