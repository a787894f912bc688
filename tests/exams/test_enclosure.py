"""Labels are compared with anatomy before a network sees them."""

from __future__ import annotations

import itertools
import logging

import nibabel as nib
import numpy as np
import pytest

from scripts.exams.enclosure import count_contacts, enclosing_order, warn_of_order
from scripts.exams.load import load_exams


@pytest.fixture
def heart() -> np.ndarray:
    """An LV of 2 x 2 x 2 voxels, MYO around it in plane, RV next to it."""
    label = np.zeros((8, 6, 2), int)
    label[1:5, 1:5], label[2:4, 2:4], label[5:7, 1:5] = 2, 3, 1
    return label


def exam_of(label: np.ndarray, path, affine=(1.5, 1.5, 8, 1)):
    nib.save(nib.Nifti1Image(label.astype(np.uint8), np.diag(affine)), path)
    return {"label": str(path)}


def test_contacts_are_counted_by_hand(heart):
    counts = count_contacts(heart, through=2)
    assert counts[3, 2] == counts[2, 3] == 2 * 8  # each side of the LV is 2 voxels long
    assert counts[1, 2] == 2 * 4 and counts[1, 0] == 2 * (2 + 2 + 4) and counts[3, 0] == counts[1, 1] == 0
    assert count_contacts(heart, through=0)[1, 2] == 0  # RV is next to MYO along the first axis


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_the_map_that_corrects_an_exchange_is_logged(heart, tmp_path, caplog, order):
    stored = np.array([0, *order])[heart]
    warn_of_order([exam_of(stored, tmp_path / "a.nii")], {0: 0, 1: 1, 2: 2, 3: 3})
    mended = {str(order[structure - 1]): structure for structure in (1, 2, 3)}
    text = f'try --label_map "{dict(sorted(mended.items()))}"'
    assert (text in caplog.text) == (order != (1, 2, 3)) and bool(caplog.text) == (order != (1, 2, 3))


def test_a_label_map_is_applied_and_slices_may_be_on_the_first_axis(heart, tmp_path, caplog):
    stored = np.moveaxis(np.array([0, 50, 20, 60])[heart], 2, 0)
    exam = exam_of(stored, tmp_path / "a.nii", (8, 1.5, 1.5, 1))
    warn_of_order([exam], {0: 0, 50: 1, 20: 2, 60: 3})
    assert not caplog.text
    warn_of_order([exam], {0: 0, 50: 3, 20: 2, 60: 1})
    assert """try --label_map "{'50': 1, '20': 2, '60': 3}\"""" in caplog.text


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_labels_without_enclosure_give_no_hint(heart, missing):
    counts = count_contacts(np.where(heart == missing, 0, heart), through=2)
    assert enclosing_order(counts) is None


def test_labels_without_rv_are_judged_by_the_others(heart):
    exchanged = np.array([0, 0, 1, 2])[heart]  # MYO is read as RV, LV as MYO
    assert enclosing_order(count_contacts(exchanged, through=2)) == {2: 3, 1: 2, 3: 1}


def test_no_real_exam_is_doubted(acdc_dir, caplog):
    with caplog.at_level(logging.WARNING):
        exams = [{"label": str(path)} for path in sorted(acdc_dir.glob("patient*/*_frame??_gt.nii.gz"))]
        for start in range(0, len(exams), 50):
            warn_of_order(exams[start : start + 50], {0: 0, 1: 1, 2: 2, 3: 3})
    assert len(exams) >= 200 and "another order" not in caplog.text


def test_doubts_are_logged_when_exams_are_listed(phantom_dir, caplog):
    load_exams(phantom_dir, label_map={"3": 1, "2": 2, "1": 3})
    assert """try --label_map "{'3': 3, '2': 2, '1': 1}\"""" in caplog.text
