"""What real-time imaging does to a breath-held exam, simulated: noise, blur of undersampling, fewer slices.

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
    "noise": (10.0, "the noise's standard deviation in those of the image"),
    "undersampling": (0.95, "the share of k-space's radius that is cut off"),
    "half_slices": (1.0, "1, or 0 to keep all"),
}
"""Kind -> the highest severity, and what severity means; 0 is no degradation."""


def usual_severity(kind: str) -> float:
    """What is taken where nobody names one: 0.5, and for the slices, which are halved or not, 1."""
    return 1.0 if kind == "half_slices" else 0.5


class Degraded(MapTransform):
    """Degrade an exam on the grid that it was acquired on, before anything else sees it.

    ``noise``: Rician, as magnitude images have it. ``undersampling``: within each slice, the high spatial frequencies
    are cut off, which blurs and rings. ``half_slices``: of image and label every second slice, from the first on,
    twice as far apart. The noise of an exam follows from the seed and its file's name alone.

    Args:
        keys: the image, and the label where there is one.
        kind: one of SEVERITIES.
        severity: see SEVERITIES.
        seed: of the noise.
        image: which of the keys is the image.

    Raises:
        CineError: no such kind, or a severity beyond its range.
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
        for key in self.key_iterator(result):
            if self.severity == 0:
                break
            if self.kind == "half_slices":
                result[key] = half_slices(result[key])
            elif key == self.image:
                result[key] = self._noisy(result[key]) if self.kind == "noise" else blur(result[key], self.severity)
        return result

    def _noisy(self, img: MetaTensor) -> MetaTensor:
        name = Path(str(img.meta.get(ImageMetaKey.FILENAME_OR_OBJ))).name
        rician = RandRicianNoise(prob=1.0, std=self.severity, relative=True, sample_std=False)
        rician.set_random_state(seed=(self.seed + zlib.crc32(name.encode())) % 2**32)
        noisy: Any = rician(img)
        return noisy


def blur(img: MetaTensor, share: float) -> MetaTensor:
    """The magnitude of each slice without the outer ``share`` of k-space's radius (half the diagonal of its square)."""
    axis = _slice_axis(img)
    slices = img.as_tensor().movedim(axis, 1)  # C D and the two others: MONAI would cut along the slices, too
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


def _slice_axis(img: MetaTensor) -> int:
    """Of a C H W D tensor, the axis of its slices."""
    order, _ = working_order(np.asarray(img.affine, dtype=np.float64), tuple(img.shape[1:]))
    return 1 + order[2]
