"""Labels that do not lie on the hearts of their images."""

from __future__ import annotations

import logging

import nibabel as nib
import numpy as np
import pytest

from scripts.exams.alignment import warn_of_alignment
from scripts.exams.load import load_exams

MAPPED = {0: 0, 1: 1, 2: 2, 3: 3}


@pytest.fixture
def exam(tmp_path):
    """``exam(flip)``: an LV of 2 x 2 voxels within MYO near a corner; blood 200, myocardium 50, the rest 20 to 120."""

    def write(flip: bool, inverted: bool = False):
        label = np.zeros((12, 12, 2), np.uint8)
        label[1:5, 1:5], label[2:4, 2:4] = 2, 3
        image = np.random.default_rng(0).uniform(20, 120, label.shape).astype(np.float32)
        image[label == 2], image[label == 3] = 50, 200
        if inverted:
            image = 250 - image
        label = label[::-1] if flip else label
        for name, voxels in (("image.nii", image), ("label.nii", label)):
            nib.save(nib.Nifti1Image(voxels, np.diag([1.5, 1.5, 8, 1])), tmp_path / name)
        return {"image": str(tmp_path / "image.nii"), "label": str(tmp_path / "label.nii")}

    return write


def test_labels_on_their_hearts_are_not_doubted(exam, caplog):
    warn_of_alignment([exam(flip=False)], MAPPED)
    assert not caplog.text


@pytest.mark.parametrize("how", [{"flip": True}, {"flip": False, "inverted": True}])
def test_labels_that_lie_elsewhere_are_doubted(exam, caplog, how):
    warn_of_alignment([exam(**how)], MAPPED)
    assert "may not lie on the hearts of their images" in caplog.text


def test_labels_without_an_lv_are_not_judged(exam, caplog):
    warn_of_alignment([exam(flip=True)], {0: 0, 1: 1, 2: 2, 3: 0})
    assert not caplog.text


def test_no_real_exam_is_doubted_but_a_flipped_one_is(acdc_dir, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    exams = load_exams(acdc_dir)
    assert "lie on the hearts" not in caplog.text
    flipped = []
    for number, exam in enumerate(exams[::17]):
        label = nib.load(exam["label"])
        path = tmp_path / f"{number}.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(label.dataobj)[::-1], label.affine, label.header), path)
        flipped.append({**exam, "label": str(path)})
    warn_of_alignment(flipped, MAPPED)
    assert "lie on the hearts" in caplog.text
