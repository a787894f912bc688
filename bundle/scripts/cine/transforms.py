"""Transforms that MONAI lacks: the working order of short-axis stacks, and transforms for each frame of a cine.

Tensors are channel first, C H W D; the frames of a cine are channels, T H W D.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import InvertibleTransform, MapTransform, Spacingd, Transform
from monai.utils import MetaKeys, TraceKeys, convert_to_tensor

from scripts.core.errors import CineError

logger = logging.getLogger(__name__)

CLEARLY_COARSER = 1.5
"""An axis is the slice axis if its spacing is at least this many times that of both others."""
# directions in RAS; the small tilt decides consistently, for every axis order, if two axes agree equally well
_TOWARDS_L = np.array([-1.0, -1e-3, -1e-3])
_TOWARDS_P = np.array([0.0, -1.0, -1e-3])


class ShortAxisOrder(InvertibleTransform):
    """Bring a short-axis stack into its working order and back, by permuting and flipping whole axes.

    The slice axis (``slice_axis``) comes last. Of the other two, the one closer to left-right comes first.
    They are flipped towards the patient's left and back (L, P). The slice axis is flipped so that the coordinate system
    is right-handed. ACDC keeps its order.
    A canonical reorientation could move the slice axis of an oblique stack; this transform cannot.
    """

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """C H W D -> C and the three axes in working order; the affine is updated."""
        img = convert_to_tensor(img, track_meta=get_track_meta())
        if img.ndim != 4:
            raise CineError(
                "ShortAxisOrder", f"a tensor of shape {tuple(img.shape)}", "C H W D", "Load it channel first."
            )
        affine = img.affine if isinstance(img, MetaTensor) else torch.eye(4)
        order, flips = working_order(np.asarray(affine, dtype=np.float64), tuple(img.shape[1:]))
        xform = torch.zeros(4, 4, dtype=torch.float64)
        xform[3, 3] = 1.0
        for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
            xform[old, new] = -1.0 if flip else 1.0
            xform[old, 3] = img.shape[1 + old] - 1.0 if flip else 0.0
        meta = self.track_transform_meta(
            img,
            affine=xform,
            extra_info={"order": order, "flips": flips, "affine": torch.as_tensor(affine).clone()},
            orig_size=tuple(img.shape[1:]),
            transform_info=self.get_transform_info(),
        )
        out = _plain(img).permute(0, *(1 + axis for axis in order)).flip([1 + axis for axis in range(3) if flips[axis]])
        return _with_meta(out, meta)

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """Undo the permutation and the flips: voxels, order and affine exactly as they were."""
        info = self.pop_transform(data)[TraceKeys.EXTRA_INFO]
        order, flips = info["order"], info["flips"]
        back = [order.index(axis) for axis in range(3)]
        out = _plain(data).flip([1 + axis for axis in range(3) if flips[axis]]).permute(0, *(1 + axis for axis in back))
        out = _with_meta(out, data)
        if isinstance(out, MetaTensor):
            out.meta[MetaKeys.AFFINE] = info["affine"].clone()
        return out


class ShortAxisOrderd(MapTransform, InvertibleTransform):
    """Dictionary version of :class:`ShortAxisOrder`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False):
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = ShortAxisOrder()

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            _log_slice_axis(result[key])
            result[key] = self.transform(result[key])
        return result

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform.inverse(result[key])
        return result


class SpacingBesideTextd(Spacingd):
    """MONAI's Spacingd for items with text under keys that begin like an image's, such as image_path of MONAI Label.

    Spacingd takes such text for the image's metadata and fails (MONAI 1.6.1).
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        texts = {key: value for key, value in data.items() if isinstance(value, str)}
        spaced = super().__call__({key: value for key, value in data.items() if key not in texts}, lazy)
        return {**spaced, **texts}


class ForEachFrame(Transform):
    """Apply an array transform to each frame of a cine separately.

    Args:
        transform: takes and returns a tensor of channels x H W D; it must keep the grid.
        channels: channels per frame: 1 for an image or labels, the number of classes for a network's output.
    """

    def __init__(self, transform: Callable[[torch.Tensor], Any], channels: int = 1):
        self.transform = transform
        self.channels = channels

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """(T * channels) H W D -> the transformed frames, one after the other; metadata as before."""
        if img.shape[0] % self.channels:
            found, expected = f"{img.shape[0]} channels", f"a multiple of {self.channels}"
            raise CineError("ForEachFrame", found, expected, "Correct channels.")
        frames = (self.transform(frame) for frame in _plain(img).split(self.channels))
        out = torch.cat([_plain(convert_to_tensor(frame)) for frame in frames])
        return _with_meta(out, img) if isinstance(img, MetaTensor) else out


class ForEachFramed(MapTransform):
    """Dictionary version of :class:`ForEachFrame`."""

    def __init__(
        self,
        keys: KeysCollection,
        transform: Callable[[torch.Tensor], Any],
        channels: int = 1,
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.transform = ForEachFrame(transform, channels)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result


def working_order(affine: np.ndarray, shape: tuple[int, ...]) -> tuple[list[int], list[bool]]:
    """For each new axis, the old axis and whether it is reversed."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    through = slice_axis(spacing, shape)
    first, second = (axis for axis in range(3) if axis != through)

    def agreement(left: int, back: int) -> float:
        return abs(directions[:, left] @ _TOWARDS_L) + abs(directions[:, back] @ _TOWARDS_P)

    if agreement(second, first) > agreement(first, second):
        first, second = second, first
    flips = [bool(directions[:, first] @ _TOWARDS_L < 0), bool(directions[:, second] @ _TOWARDS_P < 0)]
    signs = np.array([-1.0 if flip else 1.0 for flip in flips] + [1.0])
    handed = np.linalg.det(directions[:, [first, second, through]] * signs)
    return [first, second, through], [*flips, bool(handed < 0)]


def slice_axis(spacing_mm: np.ndarray, shape: tuple[int, ...]) -> int:
    """The slice axis: the only axis of size 1; else the axis with a clearly coarser spacing; else the last axis.

    Clearly means ``CLEARLY_COARSER`` times the spacing of both others. 3D cines and stacks that were resampled to thin
    slices have no such axis; in their files, slices come last.
    """
    single = [axis for axis in range(3) if shape[axis] == 1]
    if len(single) == 1:
        return single[0]
    finer, coarsest = np.argsort(spacing_mm, kind="stable")[1:]
    return int(coarsest) if spacing_mm[coarsest] >= CLEARLY_COARSER * spacing_mm[finer] else 2


def _log_slice_axis(img: torch.Tensor) -> None:
    """Log which axis of C H W D is the slice axis; more than debug level unless it is the last and clearly right."""
    if not isinstance(img, MetaTensor):
        return
    shape, spacing_mm = tuple(img.shape[1:]), np.linalg.norm(np.asarray(img.affine)[:3, :3], axis=0)
    axis = slice_axis(spacing_mm, shape)
    plain = axis == 2 and (shape[2] == 1 or spacing_mm[2] >= CLEARLY_COARSER * spacing_mm[:2].max())
    found = " x ".join(f"{mm:.4g}" for mm in spacing_mm)
    level = logging.DEBUG if plain else logging.INFO
    logger.log(level, "using axis %d of 3 as the slice axis (%s voxels of %s mm)", axis + 1, shape, found)


def _plain(img: torch.Tensor) -> torch.Tensor:
    return img.as_tensor() if isinstance(img, MetaTensor) else img


def _with_meta(out: torch.Tensor, meta: Any) -> torch.Tensor:
    out = convert_to_tensor(out.contiguous(), track_meta=get_track_meta())
    return out.copy_meta_from(meta) if isinstance(out, MetaTensor) else out
