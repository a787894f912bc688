"""Preprocess volumes for a network and bring its output back; equal to the step infer, but faster.

Tensors: K classes, H W in-plane (of the volume; h w on the network's grid), D slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from scripts.core.errors import CineError
from scripts.live.heart_tracker import bounding_box

MAX_VOXELS = 2048
SAMPLE = 4096
"""Values that a percentile looks at first."""


class InPlaneGrid:
    """The network's in-plane grid and that of a volume; the centres of their first voxels coincide.

    Args:
        size: H, W of the volume.
        spacing_mm: distance of its voxels along H and W (mm).
        network_spacing_mm: distance of the network's voxels (mm).

    Raises:
        CineError: the spacing makes the network's grid impossibly large.
    """

    def __init__(self, size: tuple[int, int], spacing_mm: tuple[float, float], network_spacing_mm: tuple[float, float]):
        self.volume_size = size
        self.ratio = tuple(new / old for new, old in zip(network_spacing_mm, spacing_mm, strict=True))
        height, width = (round((n - 1) / ratio + 1) for n, ratio in zip(size, self.ratio, strict=True))
        self.size = height, width
        if max(self.size) > MAX_VOXELS:
            found = f"{spacing_mm} mm, a field of {self.size} voxels of {network_spacing_mm} mm"
            raise CineError(
                "spacing", found, f"at most {MAX_VOXELS} voxels per side", "Take it from the volume's header."
            )
        self.is_same = self.ratio == (1.0, 1.0)
        rows, columns = (torch.arange(n) * ratio for n, ratio in zip(self.size, self.ratio, strict=True))
        self._to_network = _sampling_grid(rows, columns, size)

    def to_network(self, volume_HWD: torch.Tensor) -> torch.Tensor:
        """H W D to h w D, bilinear; outside the volume, its border is repeated."""
        if self.is_same:
            return volume_HWD.float()
        planes = volume_HWD.permute(2, 0, 1)[None].float()
        planes = F.grid_sample(planes, self._to_network, "bilinear", "border", align_corners=True)
        return planes[0].permute(1, 2, 0)

    def to_volume(self, logits_KhwD: torch.Tensor, start: tuple[int, int]) -> tuple[torch.Tensor, tuple[slice, slice]]:
        """Logits of a window at ``start`` of the network's grid, interpolated to the volume's grid, bilinear.

        Returns:
            K H' W' D, for the voxels of the volume within the window; and their position in the volume.
        """
        classes, height, width, depth = logits_KhwD.shape
        if self.is_same:
            top, left = start
            return logits_KhwD.float(), (slice(top, top + height), slice(left, left + width))
        box = []
        positions = []
        for axis, length in enumerate((height, width)):
            first, last = start[axis] * self.ratio[axis], (start[axis] + length - 1) * self.ratio[axis]
            # the volume may extend beyond the network's grid by a fraction of a voxel
            low = 0 if start[axis] == 0 else int(np.ceil(first))
            high = self.volume_size[axis]
            high = high if start[axis] + length >= self.size[axis] else min(high, int(np.floor(last)) + 1)
            box.append(slice(low, high))
            positions.append(torch.arange(low, high) / self.ratio[axis] - start[axis])
        planes = logits_KhwD.permute(0, 3, 1, 2).reshape(1, classes * depth, height, width)
        planes = F.grid_sample(
            planes,
            _sampling_grid(positions[0], positions[1], (height, width)),
            "bilinear",
            "border",
            align_corners=True,
        )
        logits = planes.reshape(classes, depth, *planes.shape[2:]).permute(0, 2, 3, 1)
        return logits, (box[0], box[1])


def _sampling_grid(rows: torch.Tensor, columns: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Voxel positions in the format of grid_sample: 1 H W 2, (column, row) from -1 to 1."""
    row, column = (2 * x / max(n - 1, 1) - 1 for x, n in zip((rows, columns), size, strict=True))
    return torch.stack(torch.meshgrid(row.float(), column.float(), indexing="ij")[::-1], dim=-1)[None]


def normalise(volume_hwD: torch.Tensor, percentiles: Sequence[float]) -> torch.Tensor:
    """Clip to the lower and upper percentile, then zero mean and unit variance."""
    image = volume_hwD.numpy()
    values = image.ravel(order="K")
    lower, upper = (percentile(values, percent) for percent in percentiles)
    centred = np.clip(image, lower, upper)
    flat = centred.ravel(order="K")  # a view: NumPy keeps the memory order
    flat -= flat.mean()
    if upper > lower:
        flat /= np.sqrt(np.dot(flat, flat) / len(flat))
    return torch.from_numpy(centred)


def percentile(values: np.ndarray, percent: float) -> float:
    """Like numpy.percentile, but only the values near that end are put in order.

    A sorted sample of the values gives a bound; the values beyond it are few. All are taken if the bound is too tight.
    """
    place = percent / 100 * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    sample = np.sort(values[:: max(1, len(values) // SAMPLE)])
    sampled = percent / 100 * (len(sample) - 1)
    slack = 2 + 4 * np.sqrt(sampled * (1 - percent / 100))  # four standard deviations of the rank in the sample
    upwards = percent < 50
    bound = sample[int(np.clip(sampled + (slack if upwards else -slack), 0, len(sample) - 1))]
    few = values[values <= bound if upwards else values >= bound]
    before = 0 if upwards else len(values) - len(few)
    if not (before <= low and high < before + len(few)):
        few, before = values.copy(), 0
    few.partition((low - before, high - before))
    return float(few[low - before] + (place - low) * (few[high - before] - few[low - before]))


def where_labelled(logits_KhwD: torch.Tensor) -> tuple[slice, slice] | None:
    """The rows and columns outside which no interpolated voxel gets a label; None if there is no label.

    If all neighbouring voxels are background, so is a weighted mean of their logits. So, with a margin of one voxel on
    each side, the rest of the field need not be resampled.
    """
    background, *others = logits_KhwD.numpy()
    labelled = np.zeros(background.shape, bool)
    for logits in others:
        labelled |= logits > background
    box = bounding_box(labelled)
    if box is None:
        return None
    rows, columns = (slice(max(along.start - 1, 0), along.stop + 1) for along in box)
    return rows, columns


def labels_of(logits_KHWD: torch.Tensor) -> np.ndarray:
    """The class of the largest logit, uint8; several times faster than argmax, whose integers are 64 bits."""
    best, *others = logits_KHWD.numpy()
    labels = np.zeros(best.shape, np.uint8)
    for label, logits in enumerate(others, start=1):
        labels = np.maximum(labels, (logits > best).view(np.uint8) * np.uint8(label))
        best = np.maximum(best, logits)
    return labels


def distances(name: str, values: Sequence[float], count: int) -> tuple[float, ...]:
    """Check that ``values`` are ``count`` distances in mm; CineError otherwise."""
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        found = ()
    if len(found) != count or not all(0 < mm < 1000 for mm in found):
        action = "Take them from the volume's header, H and W first."
        raise CineError(name, repr(values), f"{count} distances in mm", action)
    return found


def voxels(volume_HWD: np.ndarray | torch.Tensor) -> torch.Tensor:
    """A volume of any memory order, byte order and real type as PyTorch reads it."""
    array = np.asarray(volume_HWD.cpu() if isinstance(volume_HWD, torch.Tensor) else volume_HWD)
    if array.dtype.kind not in "iufb":
        raise CineError("volume", f"voxels of type {array.dtype}", "real numbers", "Hand over magnitudes.")
    array = np.ascontiguousarray(array, dtype=np.float32)
    # of an axis of one voxel, NumPy takes a reversed stride for contiguous, and torch refuses it
    return torch.from_numpy(array if min(array.strides, default=0) >= 0 else array.copy(order="C"))
