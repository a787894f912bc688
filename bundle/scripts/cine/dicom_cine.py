"""A folder of DICOM, such as a whole study -> its short-axis cine as NIfTI, which then passes the gate as any other.

DICOM gives directions and positions in LPS, NIfTI in RAS (both mm): x and y change sign. The NIfTI's first axis runs
along the rows of the images, its second down their columns, its third along the normal of both, its fourth through
time.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.transforms import Transform

from scripts.cine.dicom import Plane, read_content, read_pixels
from scripts.cine.dicom_files import dicom_files, quiet
from scripts.cine.dicom_stack import build_stack
from scripts.cine.dicom_study import short_axis
from scripts.cine.header import MEMORY_SHARE
from scripts.files import CineError, replacing
from scripts.runtime.device import available_memory

logger = logging.getLogger(__name__)

CINE_SUFFIX = "_cine.nii.gz"


class DicomCined(Transform):
    """Where ``item["image"]`` is a folder of DICOM, write its cine to ``item["output"]`` + CINE_SUFFIX.

    Image and source become that file, so that the gate, the writers and the user read what the network read.
    """

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if not Path(data["image"]).is_dir():
            return dict(data)
        path = f"{data['output']}{CINE_SUFFIX}"
        write_cine(data["image"], path)
        return {**data, "image": path, "source": path}


def write_cine(folder: str | Path, path: str | Path) -> None:
    """Write the cine of a folder of DICOM as NIfTI: geometry, frame time and voxels, no word about the patient.

    Raises:
        CineError: as ``read_cine``; or the file cannot be written.
    """
    voxels_HWDT, affine, frame_ms = read_cine(folder)
    image = nib.Nifti1Image(voxels_HWDT if voxels_HWDT.shape[3] > 1 else voxels_HWDT[..., 0], affine)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = frame_ms
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    with replacing(path) as temporary:
        nib.save(image, temporary)


def read_cine(folder: str | Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Read the short-axis cine from the DICOM images below a folder, one series a slice or all in one, of any names.

    Slices are sorted by position and the frames of each by its own trigger times, as heart rates differ between breath
    holds; where no file has any, by instance number. The log names what is used and what is left out.

    Returns:
        H W D T, float32, modality rescaling applied; affine to RAS (mm); usual time between frames (ms; 0: unknown).

    Raises:
        CineError: pydicom is missing; a file cannot be read; as ``short_axis`` and ``build_stack``; more voxels than
            the memory holds.
    """
    folder = Path(folder)
    if importlib.util.find_spec("pydicom") is None:
        raise CineError(folder, "DICOM files", "the package pydicom, which reads them", "pip install pydicom")
    files, others = dicom_files(folder)
    if files and others:
        logger.warning("%d files of the folder are no DICOM and are left out", len(others))
        logger.debug("no DICOM: %s", ", ".join(str(path.relative_to(folder)) for path in others))
    with quiet():
        images = short_axis(folder, [read_content(file) for file in files])
    stack = build_stack(folder, images)
    columns, rows = images[0].size
    needed, budget = 8 * columns * rows * len(images), int(MEMORY_SHARE * available_memory("cpu"))
    if needed > budget:
        found = f"{len(images)} images of {columns} x {rows}, which take {needed / 2**20:.0f} MiB"
        raise CineError(folder, found, f"at most {budget / 2**20:.0f} MiB", "Split the cine, or free memory.")
    voxels_HWDT = np.empty((columns, rows, len(stack.slices), len(stack.slices[0])), np.float32)
    by_file: dict[Path, list[tuple[int, int, Plane]]] = {}
    for depth, frames in enumerate(stack.slices):
        for time, image in enumerate(frames):
            by_file.setdefault(image.path, []).append((depth, time, image))
    with quiet():
        for places in by_file.values():
            decoded = read_pixels([image for _, _, image in places])
            for (depth, time, _), pixels in zip(places, decoded, strict=True):
                voxels_HWDT[:, :, depth, time] = pixels.T
    first = stack.slices[0][0]
    lps = np.eye(4)
    lps[:3, :3] = np.stack([*(first.orientation * first.spacing_mm[:, None]), stack.normal * stack.gap_mm], axis=1)
    lps[:3, 3] = stack.origin_mm
    return voxels_HWDT, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps, stack.frame_ms
