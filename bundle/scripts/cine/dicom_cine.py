"""A folder of DICOM short-axis series -> one cine as NIfTI, which then passes the gate as any other.

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
import psutil
from monai.transforms import Transform

from scripts.cine.dicom import ALONE, EXPORT, Plane, dicom_files, quiet, read_pixels, read_plane
from scripts.cine.header import MEMORY_SHARE
from scripts.files import CineError, replacing

logger = logging.getLogger(__name__)

CINE_SUFFIX = "_cine.nii.gz"
POSITION_TOLERANCE_MM = 0.1
DIFFERENCE = 1e-3
"""Largest difference of pixel spacings (mm) and of direction cosines that is taken for rounding."""
GAP = 1.5
"""A step between frames longer than this many usual ones is a frame that is missing."""


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
    """Read one cine from the DICOM images below a folder, one series a slice or all in one, whatever their names.

    Slices are sorted by position and the frames of each by its own trigger times, as heart rates differ between breath
    holds; where no file has any, by instance number. Files without an image are left out.

    Returns:
        H W D T, float32, modality rescaling applied; affine to RAS (mm); usual time between frames (ms; 0: unknown).

    Raises:
        CineError: pydicom is missing; a file cannot be read; several patients, studies or geometries; slices or frames
            that are missing, doubled or shifted; more voxels than the memory holds.
    """
    folder = Path(folder)
    if importlib.util.find_spec("pydicom") is None:
        raise CineError(folder, "DICOM files", "the package pydicom, which reads them", "pip install pydicom")
    files = list(dicom_files(folder))
    with quiet():
        slices = [plane for file in files if (plane := read_plane(file)) is not None]
    if not slices:
        raise CineError(folder, f"{len(files)} DICOM files and no image in them", "MR images", "Check input.")
    if len(slices) < len(files):
        logger.info("%d DICOM files without an image are left out", len(files) - len(slices))
    _check_alike(folder, slices)
    stack, normal, gap_mm = _by_position(folder, slices)
    frame_ms = _by_time(folder, stack)
    columns, rows = slices[0].size
    needed, budget = 8 * columns * rows * len(slices), int(MEMORY_SHARE * psutil.virtual_memory().available)
    if needed > budget:
        found = f"{len(slices)} images of {columns} x {rows}, which take {needed / 2**20:.0f} MiB"
        raise CineError(folder, found, f"at most {budget / 2**20:.0f} MiB", "Split the cine, or free memory.")
    voxels_HWDT = np.empty((columns, rows, len(stack), len(stack[0])), np.float32)
    with quiet():
        for depth, frames in enumerate(stack):
            for time, image in enumerate(frames):
                voxels_HWDT[:, :, depth, time] = read_pixels(image).T
    first = stack[0][0]
    lps = np.eye(4)
    lps[:3, :3] = np.stack([*(first.orientation * first.spacing_mm[:, None]), normal * gap_mm], axis=1)
    lps[:3, 3] = first.position_mm
    return voxels_HWDT, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps, frame_ms


def _check_alike(folder: Path, slices: list[Plane]) -> None:
    """One patient, study, frame of reference, matrix, spacing and orientation; CineError names what differs."""
    names = {"patient": "patients", "study": "studies", "frame_of_reference": "frames of reference"}
    for field, words in {**names, "size": "matrix sizes"}.items():
        count = len({getattr(image, field) for image in slices})
        if count > 1:
            raise CineError(folder, f"{count} {words} in {len(slices)} images", "one", ALONE)
    for field, words in {"spacing_mm": "pixel spacings", "orientation": "orientations"}.items():
        difference = np.ptp([getattr(image, field) for image in slices], axis=0).max()
        if difference > DIFFERENCE:
            raise CineError(folder, f"{words} that differ by up to {difference:.3g}", "one for all images", ALONE)


def _by_position(folder: Path, slices: list[Plane]) -> tuple[list[list[Plane]], np.ndarray, float]:
    """The images of each slice, the normal along which slices follow each other (LPS), and their distance (mm)."""
    normal = np.cross(*slices[0].orientation)
    normal /= np.linalg.norm(normal)
    positions = np.array([image.position_mm for image in slices])
    heights = positions @ normal
    shift = np.ptp(positions - heights[:, None] * normal, axis=0).max()
    if shift > POSITION_TOLERANCE_MM:
        found = f"slices that are shifted against each other by up to {shift:.3g} mm in plane"
        raise CineError(folder, found, "slices straight above one another", ALONE)
    order = np.argsort(heights, kind="stable")
    breaks = np.flatnonzero(np.diff(heights[order]) > POSITION_TOLERANCE_MM) + 1
    groups = np.split(order, breaks)
    levels = np.array([heights[group].mean() for group in groups])
    stack = [[slices[index] for index in group] for group in groups]
    if len(stack) == 1:
        thickness = slices[0].thickness_mm
        if thickness is None or thickness <= 0:
            raise CineError(slices[0].path, "one slice without a SliceThickness", "its thickness in mm", EXPORT)
        return stack, normal, thickness
    gaps = np.diff(levels)
    if np.ptp(gaps) > POSITION_TOLERANCE_MM:
        found = f"{len(stack)} slices that lie {gaps.min():.4g} to {gaps.max():.4g} mm apart"
        raise CineError(folder, found, "equal distances", f"Add the slice that is missing. {ALONE}")
    return stack, normal, float((levels[-1] - levels[0]) / (len(stack) - 1))


def _by_time(folder: Path, stack: list[list[Plane]]) -> float:
    """Sort the frames of each slice, in place; their usual distance in ms, 0 where it is unknown."""
    counts = [len(frames) for frames in stack]
    if max(counts) == 1:  # a volume, whatever cine it is of
        return 0.0
    promised = max((image.frames or 0 for frames in stack for image in frames), default=0)
    if min(counts) < max(*counts, promised):
        odd = counts.index(min(counts)) + 1
        found = f"{min(counts)} frames of slice {odd} of {len(stack)} (counted along the normal)"
        raise CineError(folder, found, f"{max(*counts, promised):g} of each slice", "Add the images that are missing.")
    without = sum(image.trigger_ms is None for frames in stack for image in frames)
    if 0 < without < sum(counts):
        raise CineError(folder, f"{without} of {sum(counts)} images without a TriggerTime", "one in each", EXPORT)
    name = "instance" if without else "trigger_ms"
    if without:
        logger.warning("no image has a trigger time: the frames are sorted by instance number")
    usual = []
    for number, frames in enumerate(stack, start=1):
        times = np.array([getattr(image, name) for image in frames], dtype=np.float64)  # None becomes NaN
        order = np.argsort(times, kind="stable")
        frames[:] = [frames[index] for index in order]
        steps = np.diff(times[order])
        where = f"slice {number} of {len(stack)}"
        if not np.all(steps > 0):
            found = f"two images of {where} at one time, or without an instance number"
            expected = "one image for each slice and time"
            raise CineError(folder, found, expected, "Remove copies, phase images and repeated series.")
        median = float(np.median(steps))
        if not without and steps.max() > GAP * median:
            found = f"{steps.max():.4g} ms between two frames of {where}, where {median:.4g} are usual"
            raise CineError(folder, found, "even steps", "Add the images that are missing.")
        usual.append(median)
    return 0.0 if without else float(np.median(usual))
