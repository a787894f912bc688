"""Heart function: computed by hand if it is defined, None with a reason if it is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.cine.reader import read_volume
from scripts.core.errors import CineError
from scripts.exams.load import load_exams
from scripts.measures.function import cardiac_function, save_function, volume_ml

SPACING = (12.5, 2.0, 40.0)  # 1 ml per voxel, in a field that can show a heart


def cine(lv, rv, myo=None) -> np.ndarray:
    """Frames with the given numbers of voxels, each structure in its own row: T H W D."""
    labels = np.zeros((len(lv), 6, 100, 1), np.uint8)
    for frame, counts in enumerate(zip(rv, myo or [60] * len(lv), lv, strict=True)):
        for label, count in enumerate(counts, start=1):
            labels[frame, 2 * label - 1, :count, 0] = label
    return labels


def test_a_beat_computed_by_hand():
    result = cardiac_function(cine(lv=[80, 100, 70, 40, 60], rv=[70, 90, 80, 45, 60]), SPACING)
    assert (result["frames"], result["ed_frame"], result["es_frame"]) == (5, 2, 4)
    assert result["volumes_ml"]["LV"] == pytest.approx([80, 100, 70, 40, 60])
    assert result["LV"] == pytest.approx({"edv_ml": 100, "esv_ml": 40, "sv_ml": 60, "ef_percent": 60})
    assert result["RV"] == pytest.approx({"edv_ml": 90, "esv_ml": 45, "sv_ml": 45, "ef_percent": 50})
    assert result["myocardial_mass_g"] == pytest.approx(60 * 1.05)
    assert result["reasons"] == {} and result["flags"] == []


def test_given_frames_are_used():
    result = cardiac_function(cine(lv=[80, 100, 40], rv=[70, 90, 45]), SPACING, ed=1, es=3)
    assert result["LV"]["ef_percent"] == pytest.approx(50)
    for ed in (0, 4):
        with pytest.raises(CineError, match=f"found frame {ed}; expected a frame from 1 to 3"):
            cardiac_function(cine(lv=[80, 100, 40], rv=[70, 90, 45]), SPACING, ed=ed)


def test_one_frame_has_volumes_and_no_function():
    result = cardiac_function(cine(lv=[80], rv=[70]), SPACING)
    assert result["volumes_ml"]["LV"] == pytest.approx([80])
    assert set(result["LV"].values()) == {None} and result["myocardial_mass_g"] is None
    assert set(result["reasons"].values()) == {"only one frame"}
    at_ed = cardiac_function(cine(lv=[80], rv=[70]), SPACING, ed=1)
    assert at_ed["LV"] == {"edv_ml": pytest.approx(80), "esv_ml": None, "sv_ml": None, "ef_percent": None}
    assert at_ed["reasons"]["LV.ef_percent"] == "only one frame" and at_ed["myocardial_mass_g"]


def test_no_labels_give_no_result():
    result = cardiac_function(np.zeros((3, 6, 40, 1), int), SPACING)
    assert result["ed_frame"] is None and set(result["LV"].values()) == {None}
    assert set(result["reasons"].values()) == {"no LV in any frame"}
    assert len(result["flags"]) == 9


def test_edv_of_zero_gives_no_ejection_fraction():
    result = cardiac_function(cine(lv=[0, 50], rv=[70, 60]), SPACING, ed=1, es=2)
    assert set(result["LV"].values()) == {None, 50}
    assert result["reasons"]["LV.ef_percent"] == "no LV at ED"


def test_a_frame_without_lv_is_no_end_systole():
    result = cardiac_function(cine(lv=[100, 0, 40], rv=[70, 60, 50]), SPACING)
    assert result["es_frame"] == 3
    assert {"flag": "missing", "structure": "LV", "frame": 2} in result["flags"]


def test_a_badly_segmented_frame_gives_no_ejection_fraction():
    """Otherwise, three remaining voxels of the LV in one frame would give an EF of 97 %."""
    result = cardiac_function(cine(lv=[100, 95, 3, 60, 80, 95], rv=[70, 65, 60, 55, 60, 65]), SPACING)
    assert result["es_frame"] == 3
    assert result["LV"]["ef_percent"] is None
    assert "jumps at frame 3" in result["reasons"]["LV.ef_percent"]
    assert result["LV"]["esv_ml"] == pytest.approx(3)


def test_a_badly_segmented_first_frame_gives_no_ejection_fraction():
    """The cine is a loop: otherwise 30 ml between 95 and 90 would be ES, with an EF of 70 % instead of 60."""
    result = cardiac_function(cine(lv=[30, 95, 100, 70, 45, 40, 60, 90], rv=[70, 68, 70, 60, 50, 45, 55, 65]), SPACING)
    assert result["es_frame"] == 1 and result["LV"]["ef_percent"] is None
    assert result["flags"] == [{"flag": "sudden change", "structure": "LV", "frame": 1}]
    assert result["RV"]["ef_percent"] is not None or "RV.ef_percent" in result["reasons"]


@pytest.mark.parametrize("shift", range(8))
def test_a_frame_next_to_a_badly_segmented_true_ed_gives_no_ejection_fraction(shift):
    lv, rv = np.roll([50, 85, 42, 97, 71, 47, 41, 46], shift).tolist(), [70, 68, 70, 60, 50, 45, 55, 65]
    result = cardiac_function(cine(lv=lv, rv=rv), SPACING)
    assert result["ed_frame"] == (3 + shift) % 8 + 1 and result["LV"]["ef_percent"] is None
    assert f"jumps at frame {(2 + shift) % 8 + 1}" in result["reasons"]["LV.ef_percent"]


def test_a_frame_without_half_its_myocardium_is_neither_ed_nor_es():
    """Its LV is not far below that of its neighbours, but muscle keeps its volume."""
    myo = [25] + [60] * 7
    result = cardiac_function(cine(lv=[38, 60, 90, 100, 80, 60, 45, 40], rv=[60] * 7 + [50], myo=myo), SPACING)
    assert {"flag": "sudden change", "structure": "MYO", "frame": 1} in result["flags"]
    assert (result["LV"]["esv_ml"], result["LV"]["ef_percent"], result["RV"]["ef_percent"]) == (38, None, None)
    pair = cardiac_function(cine(lv=[100, 38], rv=[60, 50], myo=[60, 25]), SPACING)
    assert pair["LV"]["ef_percent"] is None and pair["flags"] == [{"flag": "implausible", "structure": "MYO"}]
    assert pair["reasons"]["LV.ef_percent"].startswith("a myocardium of 60 ml at ED and 25 ml at ES")


@pytest.mark.parametrize(
    ("lv", "withheld"), [((100, 4), {"sv_ml", "ef_percent"}), ((100, 98), {"sv_ml", "ef_percent"}), ((9, 4), None)]
)
def test_impossible_values_are_withheld_with_a_flag(lv, withheld):
    result = cardiac_function(cine(lv=lv, rv=[70, 60]), SPACING)
    assert {"flag": "implausible", "structure": "LV"} in result["flags"]
    assert {key for key, value in result["LV"].items() if value is None} == (withheld or set(result["LV"]))
    assert "heart" in result["reasons"]["LV.ef_percent"] and result["RV"]["ef_percent"] is not None
    assert result["volumes_ml"]["LV"] == list(lv)


@pytest.mark.parametrize(
    ("doubts", "spacing_mm", "has_volumes", "has_function"),
    [
        ({"axes doubtful": "why"}, SPACING, False, False),
        ({"contrast inverted": "why"}, SPACING, True, False),
        ({"no motion": "why"}, SPACING, True, False),
        ({"spacing doubtful": "why"}, SPACING, True, True),
        ({"spacing doubtful": "why"}, (12.5, 0.7, 40.0), True, True),  # an LV of 35 ml
        ({"spacing doubtful": "why"}, (12.5, 0.7, 20.0), False, False),  # of 17.5 ml
        ({}, (2.0, 2.0, 40.0), False, False),  # a field of 12 mm
    ],
)
def test_values_that_depend_on_a_doubt_are_withheld(doubts, spacing_mm, has_volumes, has_function):
    result = cardiac_function(cine(lv=[100, 40], rv=[90, 50]), spacing_mm, doubts=doubts)
    assert {"flag": next(iter(doubts), "field of view doubtful")} in result["flags"]
    assert (result["volumes_ml"]["LV"][0] is not None) is has_volumes
    assert (result["LV"]["ef_percent"] is not None) is has_function
    if not has_function:
        assert result["reasons"]["LV.edv_ml"] == result["reasons"]["myocardial_mass_g"] != ""
    if not has_volumes:
        assert result["reasons"]["volumes_ml"] == result["reasons"]["LV.edv_ml"]


def test_a_right_ventricle_that_fills_in_systole_has_no_ejection_fraction():
    result = cardiac_function(cine(lv=[100, 40], rv=[50, 60]), SPACING)
    assert result["RV"] == {
        "edv_ml": pytest.approx(50),
        "esv_ml": pytest.approx(60),
        "sv_ml": None,
        "ef_percent": None,
    }
    assert result["reasons"]["RV.sv_ml"] == "the volume at ES is above that at ED"
    assert result["LV"]["ef_percent"] == pytest.approx(60)


def test_a_missing_right_ventricle_is_reported():
    result = cardiac_function(cine(lv=[100, 40], rv=[50, 0]), SPACING)
    assert result["reasons"]["RV.ef_percent"] == "no RV at ES"  # not 100 %
    assert result["flags"] == [{"flag": "missing", "structure": "RV", "frame": 2}]


def test_a_still_heart_has_no_end_systole():
    result = cardiac_function(cine(lv=[50, 50], rv=[50, 50]), SPACING)
    assert result["reasons"]["LV.ef_percent"] == "ED and ES are the same frame"


def test_mass_needs_myocardium():
    result = cardiac_function(cine(lv=[50, 40], rv=[50, 40], myo=[0, 60]), SPACING)
    assert result["myocardial_mass_g"] is None and result["reasons"]["myocardial_mass_g"] == "no MYO at ED"


def test_fragments_are_flagged_from_a_minimum_share():
    labels = cine(lv=[80, 60], rv=[70, 60])
    labels[0, 5, 96:99, 0] = 3  # 3 of 83: below 5 %
    labels[1, 5, 95:99, 0] = 3  # 4 of 64: above
    assert cardiac_function(labels, SPACING)["flags"] == [{"flag": "fragments", "structure": "LV", "frame": 2}]


def test_fragments_are_detected_before_they_are_removed():
    kept, before = cine(lv=[80, 60], rv=[70, 60]), cine(lv=[80, 60], rv=[70, 60])
    before[1, 5, 90:99, 0] = 3
    result = cardiac_function(kept, SPACING, all_parts_THWD=before)
    assert result["flags"] == [{"flag": "fragments", "structure": "LV", "frame": 2}]
    assert result["volumes_ml"]["LV"] == pytest.approx([80, 60])


def test_blank_frames_are_neither_ed_nor_es():
    result = cardiac_function(cine(lv=[100, 90, 5, 50], rv=[70, 70, 60, 60]), SPACING, blank=[1, 3])
    assert (result["ed_frame"], result["es_frame"]) == (2, 4)
    assert result["flags"] == [{"flag": "no contrast", "frame": 1}, {"flag": "no contrast", "frame": 3}]
    nothing = cardiac_function(cine(lv=[100, 50], rv=[60] * 2), SPACING, blank=[1, 2])
    assert set(nothing["LV"].values()) == {None}
    assert set(nothing["reasons"].values()) == {"no LV in any frame with contrast"}


def test_sudden_changes_are_flagged_only_in_a_cine():
    flags = cardiac_function(cine(lv=[100, 90, 45, 50, 70], rv=[60, 58, 50, 50, 60]), SPACING)["flags"]
    assert flags == [{"flag": "sudden change", "structure": "LV", "frame": 3}]
    assert cardiac_function(cine(lv=[100, 45], rv=[60, 50]), SPACING)["flags"] == []


def test_the_file_describes_its_content(nifti, tmp_path):
    rows = {"srow_x": [-12.5, 0, 0, 0], "srow_y": [0, -2, 0, 0], "srow_z": [0, 0, 40, 0]}
    image = nifti(np.zeros((6, 100, 1, 2), np.int16), pixdim=[1, 12.5, 2, 40, 1, 0, 0, 0], **rows)
    labels = MetaTensor(torch.from_numpy(cine(lv=[100, 40], rv=[50, 60])).float())
    save_function({"pred": labels, "source": str(image)}, tmp_path / "a_function.json")
    written = json.loads((tmp_path / "a_function.json").read_text())
    assert written["image"] == "image.nii.gz" and written["units"]["volume"] == "ml"
    assert written["LV"]["ef_percent"] == pytest.approx(60)
    with pytest.raises(CineError, match="labels of shape"):
        save_function({"pred": labels[:1], "source": str(image)}, tmp_path / "b.json")


@pytest.mark.parametrize(
    ("slices", "between_mm", "whole"), [(1, 10.0, False), (3, 10.0, False), (4, 10.0, True), (1, 45.0, True)]
)
def test_a_stack_too_short_for_a_ventricle_gives_no_function(slices, between_mm, whole):
    labels = np.repeat(cine(lv=[80, 40], rv=[70, 45]), slices, axis=3)
    result = cardiac_function(labels, (12.5, 4.0, between_mm))
    assert ({"flag": "few slices"} in result["flags"]) is not whole
    assert result["volumes_ml"]["LV"][0] == pytest.approx(80 * slices * between_mm / 20)
    if whole:
        assert result["LV"]["ef_percent"] == pytest.approx(50) and result["myocardial_mass_g"]
        return
    assert {*result["LV"].values(), *result["RV"].values(), result["myocardial_mass_g"]} == {None}
    assert set(result["reasons"]) == {
        *(f"{name}.{key}" for name in ("LV", "RV") for key in result[name]),
        "myocardial_mass_g",
    }
    assert set(result["reasons"].values()) == {
        f"a stack of {slices * between_mm:g} mm cannot contain a whole ventricle"
    }


def test_metres_give_the_same_millilitres(nifti):
    rows = {"srow_x": [-1.5e-3, 0, 0, 0], "srow_y": [0, -1.25e-3, 0, 0], "srow_z": [0, 0, 8e-3, 0]}
    metres = nifti(np.full((4, 5, 3), 3, np.uint8), pixdim=[1, 1.5e-3, 1.25e-3, 8e-3, 0, 0, 0, 0], xyzt_units=1, **rows)
    labels, header = read_volume(metres)
    assert volume_ml(labels[0], header.spacing_mm) == pytest.approx({"RV": 0, "MYO": 0, "LV": 60 * 15 / 1000})


def test_real_hearts_beat_plausibly(acdc_dir):
    exams = [exam for exam in load_exams(acdc_dir) if exam["patient"] in ("patient001", "patient061")]
    for first, second in zip(exams[::2], exams[1::2], strict=True):
        volumes, header = zip(*(read_volume(exam["label"]) for exam in (first, second)), strict=True)
        result = cardiac_function(np.concatenate(volumes), header[0].spacing_mm, ed=1, es=2)
        low, high = {"DCM": (10, 40), "NOR": (50, 80)}[first["group"]]
        assert low < result["LV"]["ef_percent"] < high
        assert 60 < result["myocardial_mass_g"] < 300
        assert {flag["flag"] for flag in result["flags"]} <= {"fragments"} and not header[0].spacing_doubt
