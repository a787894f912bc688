"""A beating phantom in ACDC's layout, for steps that must run without data; anatomy.py draws it.

It is difficult in the same ways as real exams: noise, coil shading, partial volume, shifts between breath-holds, and
bright fat and vessels next to bright blood. Sizes, positions and contractions differ by patient and group.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from scripts.cine import STRUCTURES
from scripts.core.cache import cached
from scripts.exams.anatomy import GROUPS, Anatomy, contraction, draw_slice

logger = logging.getLogger(__name__)

_VERSION = "phantom-v1"
PHANTOM = "phantom"
"""The flag of results that were made from it."""


def cached_phantom() -> Path:
    """The phantom's folder in the user's cache, written at the first call.

    It gets its name only when complete; callers that write at the same time all get one complete phantom.
    """
    logger.warning("no exams and no input were given: using the PHANTOM, which is drawn and shows no patient")
    folder = cached(_VERSION)
    if folder.is_dir():
        return folder
    temporary = Path(tempfile.mkdtemp(prefix=f".{_VERSION}-", dir=folder.parent))
    try:
        write_phantom(temporary)
        os.replace(temporary, folder)
    except OSError:
        if not folder.is_dir():  # otherwise another caller was first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def is_phantom(path: str | Path) -> bool:
    """Whether a file belongs to the cached phantom."""
    return Path(path).resolve().is_relative_to(cached(_VERSION).resolve())


def write_phantom(folder: str | Path, patients: int = 30, seed: int = 0) -> None:
    """Write patients in ACDC's layout: Info.cfg, ED and ES frames, the 4D cine; labels of every frame.

    The groups NOR, DCM, HCM, MINF and RV alternate. A patient depends only on ``seed`` and its number.
    """
    folder = Path(folder)
    for number in tqdm(range(1, patients + 1), desc="Phantom", unit="patient", delay=2, disable=None):
        name = f"patient{number:03d}"
        _write_patient(folder / name, GROUPS[(number - 1) % len(GROUPS)], np.random.default_rng([seed, number]))
    logger.info("wrote a phantom of %d patients", patients)


def _write_patient(folder: Path, group: str, rng: np.random.Generator) -> None:
    anatomy = Anatomy.draw(group, rng)
    frames = int(rng.integers(8, 13))
    pixel, between = rng.uniform(1.3, 1.8), rng.uniform(8, 10)
    image_THWD, labels_THWD = _scan(anatomy, contraction(frames, rng), pixel, between, rng)
    image_THWD = _store(_acquire(image_THWD, rng), rng)
    lv_voxels = np.count_nonzero(labels_THWD == STRUCTURES["LV"], axis=(1, 2, 3))
    numbers = {"ED": int(lv_voxels.argmax()) + 1, "ES": int(lv_voxels.argmin()) + 1}

    folder.mkdir(parents=True)
    spacing = (pixel, pixel, between)
    for suffix, volume_THWD in (("", image_THWD), ("_gt", labels_THWD)):
        _save(folder / f"{folder.name}_4d{suffix}.nii.gz", np.moveaxis(volume_THWD, 0, -1), spacing)
        for number in numbers.values():
            path = folder / f"{folder.name}_frame{number:02d}{suffix}.nii.gz"
            _save(path, volume_THWD[number - 1], spacing)
    height, weight = rng.uniform(155, 195), rng.uniform(50, 110)
    info = {**numbers, "Group": group, "Height": f"{height:.1f}", "NbFrame": frames, "Weight": f"{weight:.1f}"}
    (folder / "Info.cfg").write_text("".join(f"{key}: {value}\n" for key, value in info.items()), encoding="utf-8")


def _scan(
    anatomy: Anatomy, beat: np.ndarray, pixel: float, between: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Signal (float32) and labels (uint8), T H W D; slices run from base to apex."""
    matrix = rng.integers(96, 145, size=2)
    slices = int(np.clip(np.ceil(anatomy.length / between) + rng.integers(-1, 2), 6, 10))
    first = rng.uniform(-0.7, 0.2) * between
    room = np.maximum(matrix * pixel / 2 - 75, 5)  # keeps most of the heart in view
    centre = rng.uniform(-1, 1, size=2) * np.minimum(room, 30)
    drawn = []
    for index in range(slices):
        at = centre + rng.normal(0, 1.2, size=2)  # every slice has its own breath-hold
        x, y = ((np.arange(n) - (n - 1) / 2) * pixel - offset for n, offset in zip(matrix, at, strict=True))
        grid = np.meshgrid(x.astype(np.float32), y.astype(np.float32), indexing="ij")
        depth, thickness = first + index * between, 0.8 * between
        drawn.append(draw_slice(anatomy, grid[0], grid[1], depth, thickness, pixel, beat))
    signal, labels = (np.stack(part, axis=-1) for part in zip(*drawn, strict=True))
    return signal, labels


def _acquire(signal_THWD: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tissue texture, coil shading, a gain for each slice, and Rician noise."""
    _, height, width, slices = signal_THWD.shape
    x, y = np.linspace(-1, 1, height)[:, None, None], np.linspace(-1, 1, width)[None, :, None]
    c = rng.normal(0, 0.2, size=5)
    shading = np.exp(c[0] * x + c[1] * y + c[2] * x * y + c[3] * x**2 + c[4] * y**2)
    shading = (shading * rng.normal(1, 0.05, size=slices)).astype(np.float32)
    texture = ndimage.gaussian_filter(rng.standard_normal(signal_THWD.shape[1:], dtype=np.float32), (2, 2, 0.3))
    shading *= 1 + 0.12 * texture / texture.std()
    sigma = rng.uniform(0.04, 0.08)
    real, imaginary = sigma * rng.standard_normal((2, *signal_THWD.shape), dtype=np.float32)
    return np.hypot(signal_THWD * shading + real, imaginary)


def _store(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """ACDC's mix of types: int16, uint8 or float32, each with an arbitrary scale."""
    kind = rng.choice(["int16", "uint8", "float32"])
    if kind == "uint8":
        return (image * (255 / image.max())).astype(np.uint8)
    return (image * rng.uniform(150, 900)).astype(kind)


def _save(path: Path, voxels: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """Write with ACDC's header: an sform that claims 1 mm voxels, and the true spacing in pixdim."""
    header = nib.Nifti1Header()
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    header.set_zooms((*spacing, 1.0)[: voxels.ndim])
    header.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), code=2)
    nib.save(nib.Nifti1Image(voxels, None, header), path)
