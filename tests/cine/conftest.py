"""Fixtures: NIfTI files built byte by byte, a small phantom, and real exams where there are any."""

from __future__ import annotations

import gzip
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.cine.phantom import write_phantom

with warnings.catch_warnings():
    # ignite imports torch.distributed.optim, which calls torch's own deprecated torch.jit
    warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
    import ignite.engine  # noqa: F401


@pytest.fixture
def nifti(tmp_path: Path) -> Callable[..., Path]:
    """``nifti(voxels, name, order, kind, **fields)`` writes a file whose header fields are set as given, unchecked."""

    def write(
        voxels: np.ndarray | None = None,
        name: str = "image.nii.gz",
        order: str = "<",
        kind: type = nib.Nifti1Header,
        tail: bytes = b"",
        **fields: Any,
    ) -> Path:
        if voxels is None:
            voxels = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
        header = kind(endianness=order)
        header.set_data_dtype(voxels.dtype)
        header.set_data_shape(voxels.shape)
        header["pixdim"] = [1, 1.5, 1.25, 8, 30, 1, 1, 1]
        header["magic"] = header.single_magic
        header["vox_offset"] = header.single_vox_offset
        header["scl_slope"], header["scl_inter"] = 1, 0
        header["xyzt_units"] = 2
        header["sform_code"] = 1
        header["srow_x"], header["srow_y"], header["srow_z"] = [-1.5, 0, 0, 7], [0, -1.25, 0, 8], [0, 0, 8, 9]
        for field, value in fields.items():
            header[field] = value
        stored = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")
        content = header.binaryblock + bytes(4) + stored + tail
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five phantom patients, one of each group."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, patients=5, seed=3)
    return folder


@pytest.fixture(scope="session")
def acdc_dir() -> Path:
    """Real exams; without them the tests that need them are skipped."""
    folder = os.environ.get("ACDC_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ACDC_DIR names no folder of real ACDC exams")
    return Path(folder)
