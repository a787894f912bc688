"""A NIfTI's voxels in mm: lengths from pixdim unless it is a dummy, directions and origin from the affine."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.linalg import polar

from scripts.core.errors import CineError

logger = logging.getLogger(__name__)

SHEAR_TOLERANCE = 0.01
"""Axes up to this cosine between them are repaired as rounding (about 0.6 degrees); others are refused."""
SPACING_RANGE_MM = (0.01, 100.0)
SAME_SPACING = 0.01
"""Two spacings with a smaller relative difference are taken as roundings of the same value."""
EXTENT_LIMIT_MM = 1000.0
"""Wider than any scanner's field of view."""
ORIGIN_LIMIT_MM = 1e5

_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


@np.errstate(all="ignore")  # values that overflow become infinite and are refused
def geometry(
    path: Path, raw: nib.Nifti1Header, file_shape: tuple[int, ...]
) -> tuple[tuple[float, float, float], np.ndarray, str]:
    """Spacing along H, W and D (mm), the affine to RAS (mm), and a doubt about the spacing.

    The affine is orthogonal, and its columns have the spacing's lengths. Tools that know no spacing write 1 x 1 x 1. If
    only one of pixdim and the affine has these lengths, the other one is used; otherwise pixdim is used. The doubt is a
    text if both are 1 x 1 x 1 or if they contradict each other; otherwise it is empty.

    Raises:
        CineError: units, spacing, extent or affine are implausible.
    """
    units = int(raw["xyzt_units"]) & 7
    if units not in _UNITS_MM:
        raise CineError(path, f"spatial units of code {units}", "0 unknown, 1 m, 2 mm or 3 um", "Correct xyzt_units.")
    if units == 0:
        logger.debug("%s gives no unit of length: mm is assumed", path)
    unit_mm = _UNITS_MM[units]
    pixdim = np.array(raw["pixdim"][1:4], dtype=np.float64)
    if len(file_shape) == 2 and not 0 < pixdim[2] < math.inf:
        logger.warning("a 2D file gives no slice thickness: 1 mm is assumed")
        pixdim[2] = 1.0 / unit_mm
    _check_lengths(path, pixdim * unit_mm, file_shape)
    stored = _stored_affine(path, raw, pixdim)
    lengths, origin_mm = np.linalg.norm(stored[:, :3], axis=0), stored[:, 3] * unit_mm
    if not (np.all(lengths > 0) and np.all(np.isfinite(lengths)) and np.all(np.abs(origin_mm) <= ORIGIN_LIMIT_MM)):
        expected = f"finite nonzero axes, and an origin within {ORIGIN_LIMIT_MM:g} mm"
        raise CineError(path, f"the affine {stored.tolist()}", expected, "Correct sform or qform in the header.")
    spacing_mm, doubt = _spacing(path, pixdim, lengths)
    spacing_mm *= unit_mm
    _check_lengths(path, spacing_mm, file_shape)
    affine = np.eye(4)
    affine[:3, :3] = _orthonormal(path, stored[:, :3] / lengths) * spacing_mm
    affine[:3, 3] = origin_mm
    return (float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2])), affine, doubt


def _check_lengths(path: Path, spacing_mm: np.ndarray, file_shape: tuple[int, ...]) -> None:
    """CineError if a voxel or the whole field of view is impossibly large or small."""
    low, high = SPACING_RANGE_MM
    if not np.all((spacing_mm >= low) & (spacing_mm <= high)):  # also true for NaN
        raise CineError(
            path,
            f"a voxel spacing of {spacing_mm.tolist()} mm",
            f"three numbers from {low:g} to {high:g} mm",
            "Correct pixdim or the units in the header.",
        )
    extent = max(n * mm for n, mm in zip((*file_shape, 1), spacing_mm, strict=False))
    if extent > EXTENT_LIMIT_MM:
        raise CineError(
            path,
            f"{extent:.6g} mm along one axis",
            f"at most {EXTENT_LIMIT_MM:g} mm",
            "Store the axes as H x W x D x T, and correct pixdim or the units in the header.",
        )


def _spacing(path: Path, pixdim: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, str]:
    """The spacing to use, from pixdim and the affine (in the file's units), and why it may be wrong."""
    is_dummy, other_is_dummy = (np.allclose(spacing, 1, rtol=0, atol=1e-3) for spacing in (pixdim, lengths))
    if is_dummy and other_is_dummy:
        return (
            pixdim.copy(),
            "pixdim and affine both give 1 x 1 x 1, as for an array that was saved without its spacing",
        )
    in_plane = np.sort(pixdim)[:2]
    if np.allclose(pixdim, lengths, rtol=SAME_SPACING) and np.array_equal(in_plane, (1.0, 1.0)):
        return (
            pixdim.copy(),
            "the spacing in plane is 1 x 1: a dummy, unless the image was resampled to it",
        )
    if is_dummy:
        logger.debug("%s: pixdim gives 1 x 1 x 1, so the affine's spacing is used", path)
        return lengths.copy(), ""
    if other_is_dummy or np.allclose(pixdim, lengths, rtol=SAME_SPACING):
        return pixdim.copy(), ""
    logger.debug("%s: the affine's voxel sizes contradict pixdim, which is used", path)
    said = (" x ".join(f"{length:.4g}" for length in spacing) for spacing in (pixdim, lengths))
    return pixdim.copy(), "pixdim gives {} and the affine {}; pixdim is used".format(*said)


def _stored_affine(path: Path, raw: nib.Nifti1Header, pixdim: np.ndarray) -> np.ndarray:
    """3x4, in the file's units: the sform, or else the qform, or else nibabel's fallback (axes to L, A, S; centred)."""
    sane = raw.copy()
    sane["pixdim"][1:4] = pixdim
    sane["pixdim"][0] = -1 if raw["pixdim"][0] < 0 else 1  # in the standard 0 means 1, but nibabel raises
    try:
        return np.asarray(sane.get_best_affine(), dtype=np.float64)[:3]
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, nib.spatialimages.HeaderDataError) as error:
        raise CineError(
            path,
            f"a qform that is not a rotation ({error})",
            "a valid quaternion",
            "Correct the quaternion, or set qform_code to 0.",
        ) from None


def _orthonormal(path: Path, directions: np.ndarray) -> np.ndarray:
    """The nearest orthonormal matrix to 3x3 unit columns; CineError beyond SHEAR_TOLERANCE."""
    cosine = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if cosine > SHEAR_TOLERANCE:
        raise CineError(
            path,
            f"sheared axes (a cosine of {cosine:.3f} between two of them)",
            f"axes at right angles (a cosine of at most {SHEAR_TOLERANCE})",
            "Resample the image to an orthogonal grid.",
        )
    if cosine > 1e-4:
        logger.debug("%s: axes with a cosine of %.1e between them made orthogonal", path, cosine)
    return polar(directions)[0]
