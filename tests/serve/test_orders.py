"""Files, stream and serve give the same mask for every axis order of a file, with the shipped network."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from serving import Client, igtl_image, running

from scripts import BUNDLE_ROOT
from scripts.exams.phantom import write_phantom
from scripts.exams.variants import ORDERS
from scripts.live.segmenter import Segmenter
from scripts.live.stream import stream_cine
from scripts.runtime.deploy import Runtime
from scripts.space.network import CineNet
from scripts.train.weights import load_model

MODELS = BUNDLE_ROOT / "models"
FRAMES = 3


@pytest.fixture(scope="module")
def cine(tmp_path_factory):
    """A few frames of the phantom, H W D T, and their true affine."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, patients=1)
    image = nib.load(folder / "patient001" / "patient001_4d.nii.gz")
    spacing = image.header.get_zooms()[:3]
    return np.asarray(image.dataobj)[..., :FRAMES].astype(np.int16), np.diag([-spacing[0], -spacing[1], spacing[2], 1])


def stored(cine, order, path: Path) -> Path:
    """The cine with its axes in another order, and a matching header."""
    (voxels, affine), (transposed, reversed_axes) = cine, ORDERS[order]
    change = np.eye(4)
    if transposed:
        voxels, change = voxels.swapaxes(0, 1), change[:, [1, 0, 2, 3]]
    for axis in reversed_axes:
        voxels = np.flip(voxels, axis)
        flip = np.eye(4)
        flip[axis, axis], flip[axis, 3] = -1, voxels.shape[axis] - 1
        change = change @ flip
    image = nib.Nifti1Image(np.ascontiguousarray(voxels), affine @ change)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def infer(path: Path, folder: Path) -> np.ndarray:
    parser = ConfigParser(ConfigParser.load_config_file(str(BUNDLE_ROOT / "configs" / "inference.json")))
    network = CineNet(str(MODELS / "architecture.json"))
    load_model(MODELS / "model.pt", network)
    parser["input"], parser["output_dir"], parser["device"] = str(path), str(folder), torch.device("cpu")
    parser["network_def"], parser["inferer#amp"] = network, False
    parser["handlers"] = parser["handlers"][2:]  # weights are already loaded; no progress bar
    del parser["writer#writers"]["_overlay.png"]
    parser.get_parsed_content("evaluator").run()
    return np.asarray(nib.load(folder / f"{path.name.removesuffix('.nii')}_seg.nii.gz").dataobj)


def served(path: Path) -> np.ndarray:
    """The masks that a peer of OpenIGTLink gets for the frames of a file, in the file's order."""
    image, masks = nib.load(path), []
    with (
        running(segmenter=lambda: Segmenter(str(MODELS), Runtime("cpu", "float32", "eager"))) as service,
        Client(service.port) as client,
    ):
        for frame in np.moveaxis(np.asarray(image.dataobj), -1, 0):
            client.send(igtl_image(frame.transpose(2, 1, 0), image.affine, "ras"))
            masks.append(client.answer()[0].image.transpose(2, 1, 0))
    return np.stack(masks, axis=-1)


@pytest.fixture(scope="module")
def of_acdc(cine, tmp_path_factory):
    """Mask of the order in which ACDC stores its exams."""
    folder = tmp_path_factory.mktemp("as_stored")
    return infer(stored(cine, "as stored", folder / "cine.nii"), folder)


@pytest.mark.parametrize("order", list(ORDERS))
def test_masks_are_those_of_infer_also_of_the_first_volume(order, cine, of_acdc, tmp_path):
    path = stored(cine, order, tmp_path / "cine.nii")
    from_files = infer(path, tmp_path)
    transposed, reversed_axes = ORDERS[order]
    back = np.flip(from_files, reversed_axes)
    np.testing.assert_array_equal(back.swapaxes(0, 1) if transposed else back, of_acdc)
    segmenter = Segmenter(str(MODELS), Runtime("cpu", "float32", "eager"))
    stream_cine(str(path), segmenter, str(tmp_path / "live"), per_second=None)
    streamed = np.asarray(nib.load(tmp_path / "live" / "cine_seg.nii.gz").dataobj)
    for masks in (streamed, served(path)):
        assert masks.shape == from_files.shape and from_files.any()
        differ = (masks != from_files).sum(axis=(0, 1, 2)) / (from_files > 0).sum(axis=(0, 1, 2))
        assert differ[0] < 0.002  # the whole field, as in infer
        assert differ.max() < 0.02  # a window, at whose edges the network sees zeros
