"""Exams of a few voxels, which are quick to write."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np


def write_exams(folder: Path, patients: int = 5, frames: int = 0) -> Path:
    """A datalist of patients with one volume of 16x16x3 voxels each: random labels, and voxels that follow the labels.

    With ``frames``, each patient has a cine of that many frames; only the second and the last are labelled. The number
    of the frame is added to its voxels.
    """
    generator, items = np.random.default_rng(0), []
    for number in range(patients):
        item = {"image": f"{number}.nii.gz", "label": f"{number}_gt.nii.gz", "patient": number}
        label = generator.integers(0, 4, (16, 16, 3)).astype(np.uint8)
        image = label * 50.0
        if frames:
            label, image = (
                np.stack([x * (t in (1, frames - 1)) for t in range(frames)], axis=-1) for x in (label, image)
            )
            image += np.arange(frames)
        image = (image + 0.25).astype(np.float32)  # so few different whole numbers would count as labels
        for voxels, key in ((image, "image"), (label, "label")):
            nib.save(nib.Nifti1Image(voxels, np.diag([-1.5, -1.5, 8, 1])), folder / str(item[key]))
        items.append(item)
    (folder / "exams.json").write_text(json.dumps({"training": items}))
    return folder / "exams.json"
