"""Fixtures built in code; nothing is downloaded. Real exams are used if ACDC_DIR is set."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.exams.phantom import write_phantom
from scripts.latency.counts import keys_of
from scripts.latency.table import Entry, LatencyTable
from scripts.latency.timer import Timing
from scripts.space.architecture import Architecture
from scripts.space.space import Space

LONGEST = (
    "tests/test_commands.py",
    "tests/compare/test_systems.py",
    "tests/compare/test_command.py",
    "tests/core/test_distributed.py",
    "tests/search/test_one_shot.py",
    "tests/release/test_notebook.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that the processes of pytest-xdist end together."""
    ranks = {file: rank for rank, file in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.split("::")[0], len(ranks)))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _logging_stays(monkeypatch):
    """MONAI's run() configures the root logger, which closes pytest's handlers and shows INFO in all later tests."""
    monkeypatch.setattr("monai.bundle.workflows.fileConfig", lambda *_, **__: None)


@pytest.fixture
def space() -> Space:
    """A space small enough to enumerate, but with every kind of cell."""
    return Space(layers=4, scales=3, nodes=2, channels=4, stem_stride=2, deployment_size=(16, 16, 3))


@pytest.fixture
def architecture(space: Space) -> Architecture:
    return Architecture(
        space,
        {
            "contracting": ((0, "conv_3x3x3"), (1, "max_pool_3x3x3")),
            "non_scaling": ((0, "separable_conv_3x3x3"), (0, "identity")),
            "expanding": ((0, "dilated_conv_3x3x3"), (1, "conv_3x3x3")),
        },
        ((0, 1, 2, 1, 0), (0, 0, 0, 0, 0)),
    )


def table_of(space: Space, ms=lambda name, scale: 1.0) -> LatencyTable:
    """A table with chosen latencies."""
    entries = {key: Entry(ms(*key), Timing(ms(*key), ms(*key), ms(*key), 0.0, 1)) for key in keys_of(space)}
    return LatencyTable(entries, {}, {}, {})


@pytest.fixture
def make_table():
    return table_of


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
    """Real exams; tests that need them are skipped if there are none."""
    folder = os.environ.get("ACDC_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ACDC_DIR names no folder of real ACDC exams")
    return Path(folder)
