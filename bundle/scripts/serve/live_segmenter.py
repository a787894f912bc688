"""A segmenter for a service, where the geometry may change from volume to volume."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from scripts.live.orientation import Orientation
from scripts.live.segmenter import Segmenter, Status
from scripts.quality.direction import DOUBTFUL, is_doubtful
from scripts.quality.flags import FIELD
from scripts.quality.plausibility import field_doubt
from scripts.runtime.deploy import Runtime
from scripts.serve.protocol import Volume

logger = logging.getLogger(__name__)
SAME_SPACING = 1e-3
"""Two spacings with a smaller relative difference are roundings of the same matrix."""
MOVED_MM = 10.0
"""A field of view that moves further between two volumes shows the heart somewhere else."""


class LiveSegmenter:
    """Segments the volumes of peers. Use it from only one thread.

    Another size or spacing needs another Segmenter, which takes seconds. Another peer, other directions or a field of
    view that jumps only make it look for the heart again, over the whole field.

    Args:
        make: makes a Segmenter. The first one is made at once, so that a missing network is found at the start.

    Attributes:
        doubts: flags of whole streams, such as "orientation doubtful".
    """

    def __init__(self, make: Callable[[], Segmenter]):
        self._make, self._segmenter = make, make()
        self._spacing_mm: tuple[float, ...] | None = None
        self._shape: tuple[int, ...] = ()
        self._stream: tuple[object, object] | None = None
        self._corners_mm = np.zeros((2, 3))
        self.doubts: list[str] = []

    @property
    def runtime(self) -> Runtime:
        """How the network runs."""
        return self._segmenter.runtime

    def segment(
        self, volume: Volume, volume_HWD: np.ndarray, orientation: Orientation, peer: object
    ) -> tuple[np.ndarray, Status]:
        """Segment one volume.

        Args:
            volume: as it came.
            volume_HWD: its voxels in working order.
            orientation: this order.
            peer: who sent it.

        Returns:
            The mask, uint8 I J K, and its status.

        Raises:
            CineError: the volume cannot be segmented; the next one can.
        """
        begins = self._follow(volume, volume_HWD.shape, orientation, peer)
        assert self._spacing_mm is not None
        mask_HWD, status = self._segmenter.segment(volume_HWD, self._spacing_mm)
        mask_IJK = orientation.to_source(mask_HWD)
        if begins:
            self._doubt(mask_IJK, volume, orientation)
        return mask_IJK, status

    def _follow(self, volume: Volume, shape: tuple[int, ...], orientation: Orientation, peer: object) -> bool:
        """Prepare for a volume; whether a stream begins with it."""
        spacing_mm = orientation.spacing_mm
        last = np.array(volume.voxels_IJK.shape) - 1
        corners_mm = np.stack([volume.affine[:3, 3], volume.affine[:3, :3] @ last + volume.affine[:3, 3]])
        moved, self._corners_mm = np.abs(corners_mm - self._corners_mm).max() > MOVED_MM, corners_mm
        stream = (peer, orientation.key)
        same = self._spacing_mm is not None and np.allclose(spacing_mm, self._spacing_mm, rtol=SAME_SPACING, atol=0)
        if shape == self._shape and same and stream == self._stream and not moved:
            return False
        self._stream = stream
        if shape == self._shape and same:
            self._segmenter.forget()
            return True
        found = " x ".join(f"{mm:.4g}" for mm in spacing_mm)
        logger.info("Volumes of %s voxels of %s mm: the network is compiled for them", shape, found)
        if self._spacing_mm is not None:
            self._spacing_mm = None  # in case this fails
            self._segmenter = self._make()
        self._shape = ()
        self._segmenter.prepare(shape, spacing_mm)
        self._shape, self._spacing_mm = shape, spacing_mm
        return True

    def _doubt(self, mask_IJK: np.ndarray, volume: Volume, orientation: Orientation) -> None:
        doubts = [FIELD] if field_doubt(volume.voxels_IJK.shape, np.linalg.norm(volume.affine[:3, :3], axis=0)) else []
        doubts += [DOUBTFUL] if is_doubtful(mask_IJK[None], volume.affine) else []
        for doubt in doubts:
            logger.warning("%s: see docs/flags.md", doubt)
        self.doubts = list(dict.fromkeys(self.doubts + doubts))
