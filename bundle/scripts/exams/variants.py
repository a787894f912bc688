"""Variants of an exam: every storage order, rotated, and cut to few slices. A network must not depend on them.

Tensors are channel first, C H W D.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys
from scipy.ndimage import affine_transform

from scripts.cine.levels import labelled_slices
from scripts.cine.transforms import working_order
from scripts.core.errors import CineError
from scripts.exams.reference import Exam

AS_STORED = "as stored"
ORDERS = {  # name -> whether the in-plane axes are swapped, and which are reversed afterwards
    AS_STORED: (False, ()),
    "mirrored x": (False, (0,)),
    "mirrored y": (False, (1,)),
    "turned 180": (False, (0, 1)),
    "transposed": (True, ()),
    "transposed + x": (True, (0,)),
    "transposed + y": (True, (1,)),
    "transposed + both": (True, (0, 1)),
}
TURNED = "turned 45"
SLICES = {"1 slice": 1, "2 slices": 2, "3 slices": 3}
VARIANTS = (*ORDERS, TURNED, *SLICES)


def in_all_variants(exams: Sequence[Exam]) -> list[Exam]:
    """Each exam once per variant of VARIANTS, which is its item's "variant"."""
    return [{**exam, "variant": variant} for exam in exams for variant in VARIANTS]


class Varied(MapTransform):
    """Store image and label in the variant ``item["variant"]``, under the header of the original.

    The header is not updated, as in files with wrong headers; only spacings stay with their axes.
    "turned 45" rotates the voxels by 45 degrees in plane, with zeros outside. "1 slice" to "3 slices" keep the middle
    slices of the labelled ones.

    Args:
        keys: image and label.
        label: which of the keys is the label.

    Raises:
        CineError: the variant does not exist.
    """

    def __init__(self, keys: KeysCollection, label: str = "label"):
        super().__init__(keys)
        self.label = label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result, variant = dict(data), data["variant"]
        if variant not in VARIANTS:
            raise CineError("variant", repr(variant), f"one of {', '.join(VARIANTS)}", "Correct it.")
        for key in self.key_iterator(result):
            if variant in ORDERS:
                result[key] = _reordered(data[key], *ORDERS[variant])  # type: ignore[index]
            elif variant == TURNED:
                result[key] = _turned(data[key], order=0 if key == self.label else 1)  # type: ignore[index]
            else:
                result[key] = _cut(data[key], data[self.label], SLICES[variant])  # type: ignore[index]
        return result


def middle_slices(label_HWD: np.ndarray, count: int) -> list[int]:
    """``count`` successive slices (last axis) in the middle of the labelled ones, or of all if none is labelled."""
    depth = label_HWD.shape[-1]
    filled = sorted(labelled_slices(label_HWD).tolist()) or list(range(depth))
    first = max(0, min(filled[max(0, (len(filled) - count) // 2)], depth - count))
    return list(range(first, min(first + count, depth)))


def _axes(img: MetaTensor) -> list[int]:
    """The two in-plane axes and the slice axis, of a C H W D tensor."""
    order, _ = working_order(np.asarray(img.affine, dtype=np.float64), tuple(img.shape[1:]))
    return [1 + axis for axis in order]


def _reordered(img: MetaTensor, transposed: bool, reversed_axes: Sequence[int]) -> MetaTensor:
    planes = _axes(img)[:2]
    voxels, affine = img.as_tensor(), img.affine.clone()
    if transposed:
        voxels = voxels.transpose(*planes)
        first, second = (axis - 1 for axis in planes)
        lengths = torch.linalg.norm(affine[:3, :3], dim=0)
        affine[:3, first] *= lengths[second] / lengths[first]
        affine[:3, second] *= lengths[first] / lengths[second]
    return _like(img, voxels.flip([planes[axis] for axis in reversed_axes]), affine)


def _turned(img: MetaTensor, order: int) -> MetaTensor:
    """Rotated in mm around the centre of the plane, in a plane that is large enough for all of it."""
    axes, affine = _axes(img), np.asarray(img.affine)
    slices_last = img.as_tensor().permute(0, *axes).numpy()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[[axis - 1 for axis in axes[:2]]]
    turn = np.array([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    to_voxels = np.eye(3)
    to_voxels[:2, :2] = turn / spacing[:, None] * spacing  # from voxels of the rotated plane to those of the plane
    size = np.array(slices_last.shape[1:4])
    new = size.copy()
    new[:2] = np.ceil(np.abs(turn) @ (size[:2] * spacing) / spacing)
    offset = (size - 1) / 2 - to_voxels @ ((new - 1) / 2)
    planes = [affine_transform(channel, to_voxels, offset, tuple(new), order=order) for channel in slices_last]
    turned = torch.from_numpy(np.stack(planes))
    return _like(img, turned.permute(0, *(1 + axes.index(axis) for axis in (1, 2, 3))), img.affine)


def _cut(img: MetaTensor, label: MetaTensor, count: int) -> MetaTensor:
    order, flips = working_order(np.asarray(label.affine, dtype=np.float64), tuple(label.shape[1:]))
    axis, stored = 1 + order[2], np.moveaxis(np.asarray(label)[0], order[2], -1)
    slices = middle_slices(stored[..., ::-1] if flips[2] else stored, count)  # counted in working order
    slices = [stored.shape[-1] - 1 - index for index in slices[::-1]] if flips[2] else slices
    return _like(img, img.as_tensor().index_select(axis, torch.tensor(slices)), img.affine)


def _like(img: MetaTensor, voxels: torch.Tensor, affine: torch.Tensor) -> MetaTensor:
    out = MetaTensor(voxels.contiguous()).copy_meta_from(img)
    out.meta[MetaKeys.AFFINE] = affine
    return out
