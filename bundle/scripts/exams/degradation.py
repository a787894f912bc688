"""Simulate real-time imaging and free breathing on a breath-hold exam: noise, blur, fewer slices, shifted slices.

Tensors are channel first, C H W D.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import GibbsNoise, MapTransform, RandRicianNoise
from monai.utils import ImageMetaKey, MetaKeys

from scripts.cine.transforms import working_order
from scripts.core.errors import CineError

SEVERITIES = {
    "noise": (10.0, "the noise's standard deviation in standard deviations of the image"),
    "undersampling": (0.95, "the share of k-space's radius that is removed"),
    "half_slices": (1.0, "1, or 0 to keep all"),
    "slice_shift": (10.0, "the standard deviation of each slice's shift along both in-plane axes, in mm"),
}
"""Kind -> the highest severity and its meaning; 0 is no degradation."""


def usual_severity(kind: str) -> float:
    """The default severity: 0.5; 1 for the slices, which are halved or not; 3 mm for their shifts."""
    return {"half_slices": 1.0, "slice_shift": 3.0}.get(kind, 0.5)


class Degraded(MapTransform):
    """Degrade an exam on its acquired grid, before all other transforms.

    ``noise``: Rician, as in magnitude images. ``undersampling``: within each slice, the high spatial frequencies are
    removed, which causes blur and ringing. ``half_slices``: every second slice of image and label from the first on,
    twice as far apart. ``slice_shift``: each slice of image and label is shifted in-plane by whole voxels, as if each
    came from another breath. Noise and shifts of an exam depend only on the seed and its file's name.

    Args:
        keys: the image, and the label if there is one.
        kind: one of SEVERITIES.
        severity: see SEVERITIES.
        seed: the seed of the noise.
        image: which of the keys is the image.

    Raises:
        CineError: the kind does not exist, or the severity is out of range.
    """

    def __init__(self, keys: KeysCollection, kind: str, severity: float, seed: int = 0, image: str = "image"):
        super().__init__(keys)
        if kind not in SEVERITIES:
            raise CineError("degradation", repr(kind), f"one of {', '.join(SEVERITIES)}", "Correct it.")
        highest, meaning = SEVERITIES[kind]
        number = isinstance(severity, int | float)
        if not number or not 0 <= severity <= highest or (kind == "half_slices" and severity not in (0, 1)):
            expected = f"for {kind}, from 0 to {highest:g}: {meaning}"
            raise CineError("severity", repr(severity), expected, "Correct it.")
        self.kind, self.severity, self.seed, self.image = kind, severity, seed, image

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        seed = self._seed_of(result[self.image])
        for key in self.key_iterator(result):
            if self.severity == 0:
                break
            if self.kind == "half_slices":
                result[key] = half_slices(result[key])
            elif self.kind == "slice_shift":
                result[key] = shift_slices(result[key], self.severity, seed)
            elif key == self.image:
                noisy = self.kind == "noise"
                result[key] = self._noisy(result[key], seed) if noisy else blur(result[key], self.severity)
        return result

    def _seed_of(self, img: MetaTensor) -> int:
        name = Path(str(img.meta.get(ImageMetaKey.FILENAME_OR_OBJ))).name
        return (self.seed + zlib.crc32(name.encode())) % 2**32

    def _noisy(self, img: MetaTensor, seed: int) -> MetaTensor:
        rician = RandRicianNoise(prob=1.0, std=self.severity, relative=True, sample_std=False)
        rician.set_random_state(seed=seed)
        noisy: Any = rician(img)
        return noisy


def blur(img: MetaTensor, share: float) -> MetaTensor:
    """The magnitude of each slice without the outer ``share`` of k-space's radius (half the diagonal of its square)."""
    axis = _slice_axis(img)
    slices = img.as_tensor().movedim(axis, 1)  # C D and the two others: MONAI would also filter along the slices
    cut: Any = GibbsNoise(alpha=share)(slices.flatten(0, 1))
    cut = cut.abs().reshape(slices.shape)
    return MetaTensor(cut.movedim(1, axis).contiguous()).copy_meta_from(img)


def half_slices(img: MetaTensor) -> MetaTensor:
    """Every second slice, from the first on; the affine's spacing doubles."""
    axis = _slice_axis(img)
    kept = img.as_tensor().index_select(axis, torch.arange(0, img.shape[axis], 2))
    out = MetaTensor(kept).copy_meta_from(img)
    affine = img.affine.clone()
    affine[:3, axis - 1] *= 2
    out.meta[MetaKeys.AFFINE] = affine
    return out


def shift_slices(img: MetaTensor, sigma_mm: float, seed: int) -> MetaTensor:
    """Each slice, shifted along both in-plane axes by normal shifts, rounded to whole voxels; the border is repeated.

    Whole voxels keep labels exact. Image and label are shifted alike if both have the same grid and seed.
    """
    axis = _slice_axis(img)
    slices = img.as_tensor().movedim(axis, 1)  # C D and the two others, H W
    spacing_mm = [float(img.affine[:3, one].norm()) for one in range(3) if one != axis - 1]
    shifts_D2 = np.random.default_rng(seed).normal(0.0, sigma_mm, (img.shape[axis], 2)) / spacing_mm
    rows_DH, columns_DW = (
        (torch.arange(n) - torch.as_tensor(shifts_D2[:, i]).round().long()[:, None]).clamp(0, n - 1)
        for i, n in enumerate(slices.shape[2:])
    )
    numbers_D = torch.arange(img.shape[axis])
    shifted = slices[:, numbers_D[:, None, None], rows_DH[:, :, None], columns_DW[:, None, :]]
    return MetaTensor(shifted.movedim(1, axis).contiguous()).copy_meta_from(img)


def _slice_axis(img: MetaTensor) -> int:
    """The slice axis of a C H W D tensor."""
    order, _ = working_order(np.asarray(img.affine, dtype=np.float64), tuple(img.shape[1:]))
    return 1 + order[2]
