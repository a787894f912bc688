"""Segmenter: segments volume after volume, as they come from a scanner.

Tensors: H W in-plane, D slices; h w on the network's in-plane grid.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from scripts.cine import STRUCTURES
from scripts.core.errors import CineError
from scripts.live.fitted_window import FittedWindow
from scripts.live.heart_tracker import HeartTracker, bounding_box
from scripts.live.preprocessing import InPlaneGrid, distances, labels_of, normalise, voxels, where_labelled
from scripts.measures.function import volume_ml
from scripts.measures.temporal import SUDDEN_SHARE
from scripts.quality.fragments import Parts, find_parts, keep_heart
from scripts.runtime.autotune import accepted_precision, choose_runtime
from scripts.runtime.backends import BACKENDS
from scripts.runtime.deploy import Runtime
from scripts.runtime.device import describe_device
from scripts.space.deployable import Deployable
from scripts.space.network import CineNet
from scripts.space.provenance import PREDICTED
from scripts.train.weights import load_model

logger = logging.getLogger(__name__)
MAX_VOXEL = 1e15  # squares of larger values overflow


@dataclass(frozen=True)
class Status:
    """How one volume was segmented.

    Attributes:
        milliseconds: time from the call of ``segment`` to the mask.
        network_ms: the part of this time in the network.
        whole_field: whether the network saw the whole field of view.
        fitted_window: whether it saw the smaller window, which the heart fits.
        volumes_ml: structure -> ml.
        flags: doubts: "no contrast" (a constant volume), "heart lost", and "missing", "fragments" or "sudden change"
            with the structure.
    """

    milliseconds: float
    network_ms: float
    whole_field: bool
    volumes_ml: dict[str, float]
    flags: list[str] = field(default_factory=list)
    fitted_window: bool = False


class Segmenter:
    """Segments the volumes of one stream, all of one shape and spacing.

    The first volume is segmented over its whole field of view. Later ones are segmented in a window of the deployment
    size that follows the heart, or in a smaller one if the heart fits and the masks agree. If the heart is lost there,
    the same volume is segmented again over the whole field.
    Use it from only one thread.

    Args:
        model_dir: the folder with ``model.pt``, and with ``architecture.json`` unless the network is given.
        runtime: how the network runs; None: the fastest on the CPU, in the precision in which it was accepted.
        spacing_mm: in-plane spacing at which the network was trained.
        percentiles: lower and upper percentile to which intensities are clipped, as in training.
        network: the network for the weights; None: the derived network of ``architecture.json``.
        fit_window: whether the window may become smaller; otherwise it always has the deployment size.

    Raises:
        CineError: there is no trained network, or its latency was predicted but never measured.
    """

    def __init__(
        self,
        model_dir: str,
        runtime: Runtime | None = None,
        spacing_mm: Sequence[float] = (1.5, 1.5),
        percentiles: Sequence[float] = (0.5, 99.5),
        network: Deployable | None = None,
        fit_window: bool = True,
    ):
        network = network or CineNet(str(Path(model_dir) / "architecture.json"))
        if network.provenance.verdict == PREDICTED:
            raise CineError(
                Path(model_dir) / "architecture.json",
                "a latency that was predicted for another device, not measured",
                "a network that was measured on this device",
                "Run the step verify with this work_dir.",
            )
        self.runtime = runtime or choose_runtime(dtype=accepted_precision(network))
        measured_on, here = network.provenance.device, describe_device(self.runtime.device)
        if measured_on not in (None, here):
            logger.warning(
                "The network was accepted on %s, but this is %s: check the time per volume", measured_on, here
            )
        model_path = Path(model_dir) / "model.pt"
        self.spacing_mm, self.percentiles = distances("spacing_mm", spacing_mm, 2), percentiles
        load_model(model_path, network, spacing_mm=self.spacing_mm)
        self.network = self.runtime.deploy(network)
        self.window = HeartTracker(network.multiple)
        self.fitted = FittedWindow(network.deployment_size[:2], self.spacing_mm, network.multiple, fit_window)
        self.shape: tuple[int, ...] | None = None
        self._largest_ml = dict.fromkeys(STRUCTURES, 0.0)
        self._last_ml: dict[str, float] | None = None

    def prepare(self, shape: Sequence[int], spacing_mm: Sequence[float]) -> None:
        """Compile for volumes of a shape H, W, D and a spacing (mm), so that the first volume does not wait.

        Raises:
            CineError: the shape or spacing is impossible, or differs from the earlier volumes.
        """
        shape, spacing = tuple(int(n) for n in shape), distances("spacing", spacing_mm, 3)
        if len(shape) != 3 or min(shape) < 1:
            raise CineError("volume", f"shape {shape}", "H, W, D", "Give one volume at a time, slices last.")
        if self.shape is None:
            grid = InPlaneGrid(shape[:2], spacing[:2], self.spacing_mm)  # type: ignore[arg-type]
            self._warm_up(grid, shape[2])
            self.shape, self.volume_spacing_mm, self._grid = shape, spacing, grid
        if (shape, spacing) != (self.shape, self.volume_spacing_mm):
            raise CineError(
                "volume",
                f"shape {shape} and spacing {spacing} mm",
                f"{self.shape} and {self.volume_spacing_mm} mm, like the volumes before",
                "The geometry of a stream is fixed: make a new Segmenter if the scanner's protocol changes.",
            )

    def forget(self) -> None:
        """Begin another stream of the same geometry: its first volume is segmented over the whole field."""
        self.window = HeartTracker(self.window.step)
        self.fitted.restart()
        self._largest_ml, self._last_ml = dict.fromkeys(STRUCTURES, 0.0), None

    def segment(self, volume_HWD: np.ndarray | torch.Tensor, spacing_mm: Sequence[float]) -> tuple[np.ndarray, Status]:
        """Segment one volume.

        Args:
            volume_HWD: finite real numbers in short-axis order, the first axis towards the patient's left, the second
                towards the back, slices last.
            spacing_mm: distance of voxels along H, W and D.

        Returns:
            The mask, uint8 H W D, 0 background, 1 RV, 2 MYO, 3 LV; and its status.

        Raises:
            CineError: the shape or spacing differs from earlier volumes, or voxels are not finite.
        """
        begin = time.perf_counter()
        volume = voxels(volume_HWD)
        self.prepare(volume.shape, spacing_mm)
        with self._engine_only():
            image_hwD = self._grid.to_network(volume)
            low, high = (float(value) for value in image_hwD.aminmax())
            if not (abs(low) < MAX_VOXEL and abs(high) < MAX_VOXEL):
                expected = f"finite voxels of at most {MAX_VOXEL:g}"
                raise CineError("volume", f"voxels from {low} to {high}", expected, "Drop this volume.")
            image_hwD = normalise(image_hwD, self.percentiles)
            size, fitted = self.fitted.size, self.fitted.in_use
            start = self.window.start(self._grid.size, size)
            mask, network_ms = self._segment(image_hwD, start, size)
            flags = ["no contrast"] if low == high else []
            if start is not None and self._is_lost(mask):
                flags.append("heart lost")
                start, fitted = None, False
                mask, again_ms = self._segment(image_hwD, None, size)
                network_ms += again_ms
            labels, parts = _keep_heart(mask)
            volumes_ml = volume_ml(labels, self.volume_spacing_mm)
            for name in STRUCTURES:
                if not volumes_ml[name] or parts.fragmented(name):
                    flags.append(f"{'fragments' if volumes_ml[name] else 'missing'} {name}")
            flags += self._sudden_changes(volumes_ml)
            heart = self._on_network_grid(bounding_box(mask))
            self.fitted.follow(heart, start, self._grid.size)
            if self.fitted.try_now(heart):
                network_ms += self._try_fitted(image_hwD, mask)
            self.window.follow(heart, sum(volumes_ml.values()))
        milliseconds = 1000 * (time.perf_counter() - begin)
        return mask, Status(milliseconds, network_ms, start is None, volumes_ml, flags, fitted)

    def _try_fitted(self, image_hwD: torch.Tensor, mask_HWD: np.ndarray) -> float:
        """Segment the volume of a mask again, in the smaller window; returns the network's time in ms."""
        size = self.fitted.small
        other, network_ms = self._segment(image_hwD, self.window.start(self._grid.size, size), size)
        _keep_heart(other)
        self.fitted.decide(mask_HWD, other)
        return network_ms

    def _segment(
        self, image_hwD: torch.Tensor, start: tuple[int, int] | None, size: tuple[int, int]
    ) -> tuple[np.ndarray, float]:
        """The mask of a window, on the volume's grid, and the network's time in ms. No start: the whole field."""
        if start is None:
            start, size = (0, 0), self._grid.size
        (top, left), (height, width) = start, _within(size, self._grid.size)
        begin = time.perf_counter()
        window_hwD = image_hwD[top : top + height, left : left + width]
        beyond = (0, 0, 0, width - window_hwD.shape[1], 0, height - window_hwD.shape[0])
        image = F.pad(window_hwD, beyond)[None, None].contiguous()  # in the same way as the network pads
        logits = self.network(image)[0].cpu().float()  # NumPy does not support bfloat16
        network_ms = 1000 * (time.perf_counter() - begin)
        assert self.shape is not None
        mask = np.zeros(self.shape, np.uint8)
        field = self._grid.size
        logits = logits[:, : field[0] - top, : field[1] - left]  # the window may extend beyond the field
        heart = where_labelled(logits)
        if heart is not None:
            start = top + heart[0].start, left + heart[1].start
            logits, box = self._grid.to_volume(logits[:, heart[0], heart[1]], start)
            mask[box] = labels_of(logits)
        return mask, network_ms

    def _warm_up(self, grid: InPlaneGrid, depth: int) -> None:
        """Compile for the whole field and for the window, and run everything that a volume needs."""
        for size in {_within(size, grid.size) for size in (grid.size, *self.fitted.sizes)}:
            image = torch.zeros(1, 1, *size, depth)
            self.network(image)
            with self._engine_only():
                for _ in range(3):
                    self.network(image)
                    normalise(grid.to_network(torch.zeros(*grid.volume_size, depth)), self.percentiles)
                    labels_of(grid.to_volume(torch.zeros(4, *size, depth), (0, 0))[0])

    def _is_lost(self, mask: np.ndarray) -> bool:
        return self.window.lost(sum(volume_ml(mask, self.volume_spacing_mm).values()))

    def _on_network_grid(self, box: tuple[slice, slice] | None) -> tuple[slice, slice] | None:
        if box is None:
            return None
        rows, columns = (
            slice(round(along.start / ratio), round(along.stop / ratio))
            for along, ratio in zip(box, self._grid.ratio, strict=True)
        )
        return rows, columns

    def _sudden_changes(self, volumes_ml: dict[str, float]) -> list[str]:
        before, self._last_ml = self._last_ml, volumes_ml
        self._largest_ml = {name: max(ml, volumes_ml[name]) for name, ml in self._largest_ml.items()}
        if before is None:
            return []
        return [
            f"sudden change {name}"
            for name, ml in volumes_ml.items()
            if abs(ml - before[name]) > SUDDEN_SHARE * self._largest_ml[name]
        ]

    @contextmanager
    def _engine_only(self) -> Iterator[None]:
        """Use one thread in PyTorch while an engine runs with its own: PyTorch's would block its cores by spinning."""
        threads = torch.get_num_threads()
        own = BACKENDS[self.runtime.backend].own_threads
        try:
            if own:
                torch.set_num_threads(1)
            with torch.inference_mode():
                yield
        finally:
            if own:
                torch.set_num_threads(threads)


def _within(size: tuple[int, int], field: tuple[int, int]) -> tuple[int, int]:
    return min(size[0], field[0]), min(size[1], field[1])


def _keep_heart(mask_HWD: np.ndarray) -> tuple[np.ndarray, Parts]:
    """Keep, in place, only the heart; returns the part of the mask with labels (a view), and its parts before."""
    labels = mask_HWD[bounding_box(mask_HWD) or ()]  # of the whole mask if it is empty
    parts = find_parts(labels)
    keep_heart(labels, parts)
    return labels, parts
