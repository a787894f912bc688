"""Exams of a few voxels, written in no time."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np


def write_exams(folder: Path, patients: int = 5) -> Path:
    """A datalist of patients with one volume each of 16x16x3 voxels, its labels at random, its voxels by label."""
    generator, items = np.random.default_rng(0), []
    for number in range(patients):
        item = {"image": f"{number}.nii.gz", "label": f"{number}_gt.nii.gz", "patient": number}
        label = generator.integers(0, 4, (16, 16, 3)).astype(np.uint8)
        for voxels, key in ((label * 50.0, "image"), (label, "label")):
            nib.save(nib.Nifti1Image(voxels.astype(np.uint8), np.diag([-1.5, -1.5, 8, 1])), folder / str(item[key]))
        items.append(item)
    (folder / "exams.json").write_text(json.dumps({"training": items}))
    return folder / "exams.json"
