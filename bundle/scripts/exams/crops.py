"""Augmented crops of preprocessed exams, made in batches on the device where the exams stay.

Cropping, rotating and scaling are one interpolation of the exam itself, so that a crop has no empty corners.
Tensors: B batch, H W in-plane, D slices; h w d of a crop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import Sampler
from tqdm import tqdm

from scripts.core.distributed import is_main
from scripts.core.errors import CineError

MAX_PLACES = 4096
MAX_FEW_SLICES = 3
WORKERS = 2
RANGES = {
    "rotation": (0.0, 3.1416),
    "scaling": (0.0, 0.9),
    "noise": (0.0, 10.0),
    "bias_field": (0.0, 3.0),
    "low_resolution": (1.0, 8.0),
}


@dataclass(frozen=True)
class Augmentation:
    """How much crops vary; each range is symmetric around "no change".

    Args:
        rotation: in-plane angle, radians. The default is any angle, since headers often give wrong directions.
        scaling: relative change of size, drawn separately for each in-plane axis.
        flip: probability that the order of the slices is reversed.
        gamma: exponents of the contrast, applied with ``gamma_probability``.
        brightness: factor and offset, in standard deviations of the image.
        noise: largest standard deviation of Gaussian noise, applied with ``noise_probability``.
        background: the share of crops at random positions; the others are placed at a labelled voxel.
        mirror: probability that an in-plane axis is reversed; with ``rotation``, every storage order occurs.
        few_slices: share of crops of 1 to ``MAX_FEW_SLICES`` slices, padded as networks do it (``pad_slices``).
        bias_field: largest logarithm of a smooth factor on the image, like the shading by coils.
        low_resolution: largest factor of a lower in-plane resolution, applied with ``low_resolution_probability``.

    Raises:
        CineError: a value is out of range; the message names its key.
    """

    rotation: float = math.pi
    scaling: float = 0.15
    flip: float = 0.5
    gamma: tuple[float, float] = (0.7, 1.5)
    gamma_probability: float = 0.3
    brightness: float = 0.15
    noise: float = 0.1
    noise_probability: float = 0.3
    background: float = 0.1
    mirror: float = 0.5
    few_slices: float = 0.1
    bias_field: float = 0.0
    low_resolution: float = 1.0
    low_resolution_probability: float = 0.3

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name == "gamma":
                fits = len(value) == 2 and 0 < value[0] <= value[1]
                expected = "two exponents above 0, the smaller first"
            else:
                low, high = RANGES.get(name, (0.0, 1.0))  # all others are shares from 0 to 1
                fits = isinstance(value, int | float) and low <= value <= high
                expected = f"{low:g} to {high:g}"
            if not fits:
                raise CineError(f"augmentation#{name}", repr(value), expected, "Change the key.")


@dataclass(frozen=True)
class Prepared:
    """An exam on the device: image float16 and label uint8, D H W, and positions of labelled voxels, N x 3 as D H W."""

    image_DHW: torch.Tensor
    label_DHW: torch.Tensor
    places: torch.Tensor


@dataclass(frozen=True)
class View:
    """The place of a crop in its exam: first slice, count, in-plane transform (2 x 3), and whether reversed."""

    first: int
    slices: int
    theta: torch.Tensor
    flip: bool


class CropLoader:
    """Batches of "image" and "label", B 1 h w d, float32: one crop of every exam per epoch, in random order.

    The exams are prepared in the first epoch and stay on the device, float16 and uint8. All randomness comes from
    ``generator``, so the same seed repeats an epoch.

    Args:
        dataset: preprocessed exams, "image" and "label" as 1 H W D (MONAI's Dataset or CacheDataset).
        batch_size: crops per batch; exams beyond the last full batch are left out in this epoch.
        patch_size: h, w, d of a crop, voxels. Smaller exams are padded with zeros, the mean of an image.
        device: where exams and crops are.
        augmentation: how much crops vary.
        sampler: the exams of an epoch in their order, such as the share of one of several processes; default: all.

    Raises:
        CineError: an exam lacks "image" or "label", a size is invalid, or no exam has a label.
    """

    def __init__(
        self,
        dataset: Sequence[Mapping[str, Any]],
        batch_size: int,
        patch_size: Sequence[int],
        device: str | torch.device = "cpu",
        augmentation: Augmentation | None = None,
        sampler: Sampler[int] | None = None,
    ):
        for name, values, count in (("batch_size", [batch_size], 1), ("patch_size", list(patch_size), 3)):
            if len(values) != count or not all(isinstance(n, int) and n >= 1 for n in values):
                raise CineError(name, repr(values), f"{count} whole numbers of at least 1", "Change the key.")
        self.dataset, self.batch_size = dataset, batch_size
        self.patch_size: tuple[int, int, int] = tuple(patch_size)  # type: ignore[assignment]
        self.device, self.augmentation = torch.device(device), augmentation or Augmentation()
        self.sampler, self.generator = sampler, torch.Generator()
        self._exams: list[Prepared] = []

    def __len__(self) -> int:
        exams: Sized = self.dataset if self.sampler is None else self.sampler  # type: ignore[assignment]
        return len(exams) // self.batch_size

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        if not self._exams:
            with ThreadPoolExecutor(WORKERS) as pool:
                items = pool.map(self.dataset.__getitem__, range(len(self.dataset)))
                bar = tqdm(items, "exams", len(self.dataset), unit="exam", disable=not is_main())
                self._exams = [self._prepare(item) for item in bar]
            if not any(len(exam.places) for exam in self._exams):
                found = f"no labelled voxel in any of {len(self._exams)} exams"
                raise CineError("exams", found, "labels 1 RV, 2 MYO, 3 LV", "Check the labels, and label_map.")
        order = torch.randperm(len(self._exams), generator=self.generator).tolist()
        order = order if self.sampler is None else list(self.sampler)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            exams = [self._exams[index] for index in order[start : start + self.batch_size]]
            views = [self._view(exam) for exam in exams]
            # only one copy per batch: each copy waits until the device's queue is empty
            thetas = torch.stack([view.theta for view in views]).to(self.device, non_blocking=True)
            grids = F.affine_grid(thetas, [len(views), 1, *self.patch_size[:2]], align_corners=False)
            crops = [self._crop(*parts) for parts in zip(exams, views, grids.split(1), strict=True)]
            images, labels = (torch.stack(tensors)[:, None] for tensors in zip(*crops, strict=True))
            yield {"image": self._vary(images), "label": labels}

    def _prepare(self, item: Mapping[str, Any]) -> Prepared:
        image, label = (torch.as_tensor(item[key])[0].permute(2, 0, 1).contiguous() for key in ("image", "label"))
        places = label.nonzero()
        places = places[:: max(1, len(places) // MAX_PLACES)].to(torch.int16)
        return Prepared(image.to(self.device, torch.float16), label.to(self.device, torch.uint8), places)

    def _uniform(self, *size: int) -> torch.Tensor:
        """Uniform random numbers from -1 to 1."""
        return 2 * torch.rand(*size, generator=self.generator) - 1

    def _below(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self.generator))

    def _happens(self, probability: float) -> bool:
        return bool(torch.rand(1, generator=self.generator) < probability)

    def _view(self, exam: Prepared) -> View:
        vary, depth = self.augmentation, exam.image_DHW.shape[0]
        if len(exam.places) and not self._happens(vary.background):
            place = exam.places[self._below(len(exam.places))].tolist()
        else:
            place = [self._below(n) for n in exam.image_DHW.shape]
        slices = self.patch_size[2]
        if self._happens(vary.few_slices):
            slices = 1 + self._below(min(MAX_FEW_SLICES, slices, depth))
        first = min(max(place[0] - self._below(slices), 0), max(depth - slices, 0))
        return View(first, slices, self._affine(place[1:], exam.image_DHW.shape[1:]), self._happens(vary.flip))

    def _crop(self, exam: Prepared, view: View, grid_1HW2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and label of one crop, h w d."""
        crops = []
        for volume, mode in ((exam.image_DHW, "bilinear"), (exam.label_DHW, "nearest")):
            planes = volume[view.first : view.first + view.slices].float()[None]
            planes = F.grid_sample(planes, grid_1HW2, mode, "zeros", align_corners=False)[0]
            missing = self.patch_size[2] - len(planes)
            before, after = missing // 2, missing - missing // 2
            if (
                view.slices < self.patch_size[2]
            ):  # only where the view has few slices; an exam of few slices is padded with zeros
                planes = torch.cat([planes[:1].expand(before, -1, -1), planes, planes[-1:].expand(after, -1, -1)])
            else:
                planes = F.pad(planes, (0, 0, 0, 0, before, after))
            crops.append((planes.flip(0) if view.flip else planes).permute(1, 2, 0))
        return crops[0], crops[1]

    def _affine(self, place_HW: Sequence[int], size_HW: Sequence[int]) -> torch.Tensor:
        """The transform from a crop to its exam for ``affine_grid``: columns before rows, each from -1 to 1; 2 x 3."""
        angle = float(self._uniform(1)) * self.augmentation.rotation
        stretch = 1 + self.augmentation.scaling * self._uniform(2)
        if self._happens(self.augmentation.mirror):
            stretch[0] *= -1
        place, size, patch = (torch.tensor(x[1::-1]) for x in (place_HW, size_HW, self.patch_size))
        # the crop is within the exam as far as its size allows, at whole voxels if it is not rotated
        inside = (place - patch // 2).clamp(min=0).minimum(size - patch)
        centre = torch.where(size > patch, inside, (size - patch) // 2) + patch / 2
        cosine, sine = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[cosine, -sine], [sine, cosine]]) * stretch * patch / size[:, None]
        return torch.cat([turn, (2 * centre / size - 1)[:, None]], dim=1)

    def _vary(self, images_B1HWD: torch.Tensor) -> torch.Tensor:
        """Change the contrast, brightness and noise of each image of a batch."""
        vary, count = self.augmentation, len(images_B1HWD)
        chosen, gamma = torch.rand(count, generator=self.generator), torch.rand(count, generator=self.generator)
        gamma = torch.where(
            chosen < vary.gamma_probability, vary.gamma[0] + (vary.gamma[1] - vary.gamma[0]) * gamma, torch.ones(count)
        )
        factor, offset = 1 + vary.brightness * self._uniform(count), vary.brightness * self._uniform(count)
        chosen, noise = torch.rand(count, generator=self.generator), torch.rand(count, generator=self.generator)
        noise = torch.where(chosen < vary.noise_probability, noise * vary.noise, torch.zeros(count))
        gamma, factor, offset, noise = (
            x.to(self.device, non_blocking=True).view(-1, 1, 1, 1, 1) for x in (gamma, factor, offset, noise)
        )
        low, high = (function(images_B1HWD, dim=(1, 2, 3, 4), keepdim=True) for function in (torch.amin, torch.amax))
        span = (high - low).clamp(min=1e-6)
        images = ((images_B1HWD - low) / span) ** gamma * span * self._bias(count, images_B1HWD.shape[2:]) + low
        images = self._coarsen(images)
        on_device = torch.Generator(self.device).manual_seed(self._below(2**31))
        grain = torch.randn(images.shape, generator=on_device, device=self.device)
        return images * factor + offset + noise * grain

    def _bias(self, count: int, size: Sequence[int]) -> torch.Tensor:
        """Smooth random factors, B 1 H W D."""
        strength = self.augmentation.bias_field * torch.rand(count, 1, 1, 1, 1, generator=self.generator)
        corners = (strength * self._uniform(count, 1, 3, 3, 2)).to(self.device)
        return F.interpolate(corners, tuple(size), mode="trilinear", align_corners=True).exp()

    def _coarsen(self, images_B1HWD: torch.Tensor) -> torch.Tensor:
        """Lower the in-plane resolution of some images, on the same grid."""
        vary, size = self.augmentation, images_B1HWD.shape[2:4]
        images = []
        for image_1HWD in images_B1HWD:
            factor = 1 + (vary.low_resolution - 1) * float(torch.rand(1, generator=self.generator))
            if self._happens(vary.low_resolution_probability) and factor > 1:
                planes = image_1HWD.permute(0, 3, 1, 2)
                coarse = [max(1, round(n / factor)) for n in size]
                planes = F.interpolate(planes, coarse, mode="bilinear", antialias=True)
                image_1HWD = F.interpolate(planes, size, mode="bilinear").permute(0, 2, 3, 1)
            images.append(image_1HWD)
        return torch.stack(images)
