"""No log above debug level names an exam, and a mask keeps only the geometry of its input's header."""

from __future__ import annotations

import gzip
import logging
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from scripts import BUNDLE_ROOT
from scripts.cine.writer import write_mask
from scripts.live.segmenter import Segmenter
from scripts.live.stream import stream_cine
from scripts.runtime.deploy import Runtime
from scripts.space.network import CineNet
from scripts.train import checkpoint

NAME = "jane_doe_1950"


@pytest.fixture
def cine(tmp_path):
    voxels = np.random.default_rng(0).random((16, 16, 3, 3), np.float32)
    image = nib.Nifti1Image(voxels, np.diag([-1.5, -1.5, 8, 1]))
    image.header["descrip"] = image.header["db_name"] = NAME
    image.header["aux_file"] = image.header["intent_name"] = NAME
    image.header["data_type"] = NAME[:10]
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME.encode()))
    nib.save(image, tmp_path / f"{NAME}.nii.gz")
    return tmp_path / f"{NAME}.nii.gz"


@pytest.fixture
def model_dir(architecture, tmp_path):
    architecture.save(tmp_path / "work" / "architecture.json")
    checkpoint.save(tmp_path / "work" / "model.pt", CineNet(architecture).state_dict())
    return tmp_path / "work"


def infer(given, model_dir, folder):
    """With the bundle's own logging: MONAI would log every argument of the command."""
    config = BUNDLE_ROOT / "configs" / "inference.json"
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "infer", "--config_file", str(config)]
    arguments = ["--work_dir", str(model_dir), "--input", str(given)]
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 results" in done.stderr
    return done.stdout + done.stderr


def test_infer_as_a_command(cine, model_dir, tmp_path):
    assert NAME not in infer(cine, model_dir, tmp_path)


def test_infer_on_dicom_as_a_command(model_dir, tmp_path):
    """Neither logs nor results contain what the files say about the patient, even odd values, which pydicom quotes."""
    import dicom_exam

    datasets = dicom_exam.exam(
        np.random.default_rng(0).integers(0, 999, (16, 16, 3, 2), np.uint16), np.diag([-1.5, -1.5, 8, 1])
    )
    for dataset in datasets:
        dataset.add_new("PatientBirthDate", "LO", dicom_exam.NAME)
    log = infer(dicom_exam.write(datasets, tmp_path / NAME), model_dir, tmp_path)
    results = [path for path in (model_dir / "infer").iterdir() if "run.json" not in path.name]
    assert {path.name.removeprefix(NAME) for path in results} == {
        "_cine.nii.gz", "_seg.nii.gz", "_function.json", "_overlay.png",
    }  # fmt: skip
    assert NAME not in log and dicom_exam.NAME not in log
    for path in results:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert dicom_exam.NAME.encode() not in content
        assert str(datasets[0].StudyInstanceUID).encode() not in content


def test_stream(cine, model_dir, tmp_path, caplog, capsys):
    with caplog.at_level(logging.INFO):
        segmenter = Segmenter(str(model_dir), Runtime("cpu", "float32"))
        stream_cine(str(cine), segmenter, str(tmp_path / "out"), per_second=0)  # a busy machine would drop volumes
    assert "3 of 3 volumes" in caplog.text
    assert NAME not in caplog.text + "".join(capsys.readouterr())


def test_masks_take_no_text_from_the_header(cine, tmp_path):
    write_mask(tmp_path / "mask.nii", np.zeros((3, 16, 16, 3), np.uint8), cine)
    assert NAME[:10].encode() not in (tmp_path / "mask.nii").read_bytes()
