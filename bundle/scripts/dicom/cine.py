"""Convert a folder of DICOM, such as a whole study, to its short-axis cine as NIfTI, which is then read as any other.

DICOM gives directions and positions in LPS, NIfTI in RAS (both mm): x and y change sign. The NIfTI's first axis runs
along the rows of the images, its second down their columns, its third along the normal of both, its fourth through
time.
"""

from __future__ import annotations

import importlib.util
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.transforms import Transform

from scripts.cine.dicom_signature import quiet
from scripts.cine.frames import write_frames
from scripts.cine.header import MEMORY_SHARE
from scripts.cine.writer import CINE_SUFFIX
from scripts.core.errors import CineError
from scripts.dicom.files import dicom_files
from scripts.dicom.stack import Stack, build_stack
from scripts.dicom.study import short_axis
from scripts.dicom.tags import Plane, read_content, read_pixels
from scripts.runtime.device import available_memory

logger = logging.getLogger(__name__)

_FRAME_BYTES, _STORED_BYTES = 16, 4
"""Bytes per voxel of a frame while it is decoded and rescaled, and per voxel of a file that stays open."""


class DicomCined(Transform):
    """If ``item["image"]`` is a folder of DICOM, write its cine to ``item["output"]`` + CINE_SUFFIX.

    Image and source are then set to that file, so that the checks, the writers and the user read the network's input.
    """

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if not Path(data["image"]).is_dir():
            return dict(data)
        path = f"{data['output']}{CINE_SUFFIX}"
        write_cine(data["image"], path)
        return {**data, "image": path, "source": path}


def write_cine(folder: str | Path, path: str | Path) -> None:
    """Write the cine of a folder of DICOM as NIfTI: geometry, frame time and voxels, but no data about the patient.

    Raises:
        CineError: see ``read_cine``; or the file cannot be written.
    """
    stack = _find_stack(Path(folder))
    affine, header = _affine(stack), nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    shape = (*stack.slices[0][0].size, len(stack.slices), len(stack.slices[0]))
    header.set_data_shape(shape if shape[3] > 1 else shape[:3])
    header.set_xyzt_units("mm", "msec")
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")
    header["pixdim"][4] = stack.frame_ms
    header["vox_offset"] = header.single_vox_offset
    no_extensions = bytes(4)
    frames = (frame_HWD.tobytes(order="F") for frame_HWD in _frames(stack))
    write_frames(path, header.binaryblock + no_extensions, frames)


def read_cine(folder: str | Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Read the short-axis cine from the DICOM images below a folder: one series or one per slice, with any names.

    Slices are sorted by position. The frames of each slice are sorted by their own trigger times, as heart rates differ
    between breath holds, or by instance number if no file has trigger times. The log lists used and ignored images.

    Returns:
        H W D T, float32, with modality rescaling; affine to RAS (mm); usual time between frames (ms; 0: unknown).

    Raises:
        CineError: pydicom is missing; a file cannot be read; see ``short_axis`` and ``build_stack``; the voxels do not
            fit in memory.
    """
    stack = _find_stack(Path(folder))
    return np.stack(list(_frames(stack)), axis=-1), _affine(stack), stack.frame_ms


def _find_stack(folder: Path) -> Stack:
    if importlib.util.find_spec("pydicom") is None:
        raise CineError(folder, "DICOM files", "the package pydicom to read them", "pip install pydicom")
    files, others = dicom_files(folder)
    if files and others:
        logger.warning("%d files of the folder are not DICOM and are ignored", len(others))
        logger.debug("not DICOM: %s", ", ".join(str(path.relative_to(folder)) for path in others))
    with quiet():
        images = short_axis(folder, [read_content(file) for file in files])
    stack = build_stack(folder, images)
    columns, rows = images[0].size
    kept = _STORED_BYTES * len(images) if len({image.path for image in images}) < len(images) else 0
    needed = columns * rows * (_FRAME_BYTES * len(stack.slices) + kept)
    budget = int(MEMORY_SHARE * available_memory("cpu"))
    if needed > budget:
        found = f"{len(stack.slices)} images of {columns} x {rows} per frame, which take {needed / 2**20:.0f} MiB"
        raise CineError(folder, found, f"at most {budget / 2**20:.0f} MiB", "Crop the images, or free memory.")
    return stack


def _frames(stack: Stack) -> Iterator[np.ndarray]:
    """Each frame, H W D, float32. Every file is opened once; a file of several images stays open in between."""
    columns, rows = stack.slices[0][0].size
    images = [image for frame in zip(*stack.slices, strict=True) for image in frame]
    of_file: dict[Path, list[Plane]] = {}
    for image in images:
        of_file.setdefault(image.path, []).append(image)
    pixels = {path: read_pixels(of_this) for path, of_this in of_file.items()}
    left = Counter(image.path for image in images)
    for frame in zip(*stack.slices, strict=True):
        frame_HWD = np.empty((columns, rows, len(frame)), np.float32)
        with quiet():
            for depth, image in enumerate(frame):
                frame_HWD[:, :, depth] = next(pixels[image.path]).T
                left[image.path] -= 1
                if not left[image.path]:
                    del pixels[image.path]
        yield frame_HWD


def _affine(stack: Stack) -> np.ndarray:
    first = stack.slices[0][0]
    lps = np.eye(4)
    lps[:3, :3] = np.stack([*(first.orientation * first.spacing_mm[:, None]), stack.normal * stack.gap_mm], axis=1)
    lps[:3, 3] = stack.origin_mm
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
