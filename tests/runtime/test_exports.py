from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.networks.utils import convert_to_onnx

from scripts import BUNDLE_ROOT
from scripts.cine.reader import read_volume
from scripts.core.errors import CineError
from scripts.run.start import check_keys
from scripts.runtime import exports
from scripts.runtime.exports import FORMATS, export_network
from scripts.space.network import CineNet
from scripts.train import checkpoint

SIZES = [(16, 16, 2), (24, 8, 1), (32, 40, 6), (48, 24, 21)]


@pytest.fixture
def network(architecture) -> CineNet:
    """Norms like after training: with the identity's, folding errors would not show."""
    network = CineNet(architecture).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 2)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.3)
    return network


@pytest.fixture
def work_dir(network, tmp_path) -> Path:
    network.architecture.save(tmp_path / "work" / "architecture.json")
    checkpoint.save(tmp_path / "work" / "model.pt", network.state_dict())
    return tmp_path / "work"


def bundle(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def agree(answer, network, sizes=SIZES):
    for size in sizes:
        image = torch.randn(1, 1, *size)
        with torch.no_grad():
            torch.testing.assert_close(answer(image), network(image), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # warnings of exporters
def test_exported_files_equal_the_network_for_any_number_of_slices(network, work_dir, tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    done = bundle(
        *("run", "export", "--config_file", BUNDLE_ROOT / "configs" / "export.json", "--work_dir", work_dir),
        folder=tmp_path,
    )
    assert "model.onnx: " in done.stderr and "model.pt2: " in done.stderr
    folder = work_dir / "export"
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (image,), (pred,) = session.get_inputs(), session.get_outputs()
    assert (image.name, pred.name, image.shape[4], pred.shape[:2]) == ("image", "pred", "slices", [1, 4])
    sizes = [(24, 16, 2), (24, 24, 1), (32, 40, 6), (48, 24, 21)]
    agree(lambda x: torch.from_numpy(session.run(None, {"image": x.numpy()})[0]), network, sizes)
    agree(torch.export.load(folder / "model.pt2").module(), network, sizes)
    written = json.loads((folder / "exports.json").read_text())
    assert (written["format"], written["multiple"]) == (exports.FORMAT, 8)
    assert [24, 16, 3] in written["sizes"] and {size[2] for size in written["sizes"]} == {1, 3, 10}
    for name, entry in written["files"].items():
        assert entry["bytes"] == (folder / name).stat().st_size and entry["largest_difference"] < 1e-4
    assert set(json.loads((folder / "run.json").read_text())["steps"]["export"]["outputs"]) == {
        *written["files"],
        "exports.json",
    }


def test_an_export_with_other_outputs_is_refused(network, tmp_path, monkeypatch):
    def off_for_one_slice(path):
        return lambda x: network(x) * (1.01 if x.shape[4] == 1 else 1)

    monkeypatch.setattr(exports, "FORMATS", {"model.x": (lambda *args: args[-1].write_text(""), off_for_one_slice)})
    monkeypatch.setattr(exports.BACKENDS["onnxruntime"].__class__, "obstacle", lambda *args: None)
    with pytest.raises(
        CineError,
        match=r"model.x: found logits that differ .* by up to 0.01 of the largest; expected at most 0.001",
    ):
        export_network(network, str(tmp_path))
    monkeypatch.setattr(
        exports, "FORMATS", {"model.x": (lambda *args: args[-1].write_text(""), lambda path: lambda x: x * np.nan)}
    )
    with pytest.raises(CineError, match="by up to inf"):
        export_network(network, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_reported(network, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CineError, match=r"ONNX Runtime needs the package onnxruntime; expected .* Install the extra"):
        export_network(network, str(tmp_path))
    assert set(FORMATS) == {"model.onnx", "model.pt2"}


def test_a_network_that_pads_its_slices_is_refused(network, tmp_path):
    network.slice_multiple = 4
    with pytest.raises(CineError, match=r"a network that pads its slices; .* ckpt_export"):
        export_network(network, str(tmp_path))


@pytest.mark.filterwarnings("ignore")  # warnings of exporters
def test_the_onnx_for_tensorrt_equals_the_network_in_all_sizes(network):
    """TensorRT itself needs a GPU; MONAI gives it this ONNX, which is made from the first image."""
    onnxruntime = pytest.importorskip("onnxruntime")
    overlay = json.loads((BUNDLE_ROOT / "configs" / "inference_trt.json").read_text())["network"]["args"]
    (profile,) = overlay["input_profiles"]
    varying = {name: [axis for axis in range(5) if low[axis] < high[axis]] for name, (low, _, high) in profile.items()}
    assert varying == {"image_BCHWD": [0, 2, 3, 4]}
    for first in ((4, 1, 32, 48, 5), (1, 1, 47, 41, 1)):
        names = {"input_names": list(varying), "output_names": [], "dynamic_axes": varying}
        model = convert_to_onnx(network, [torch.randn(first)], **names, **overlay["export_args"])
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        answer = lambda x: torch.from_numpy(session.run(None, {"image_BCHWD": x.numpy()})[0])  # noqa: B023, E731
        agree(answer, network, [first[2:], (24, 24, 1), (33, 25, 21)])


def test_the_overlay_of_tensorrt_changes_nothing_without_tensorrt(work_dir, caplog):
    files = [str(BUNDLE_ROOT / "configs" / f"{name}.json") for name in ("inference", "inference_trt")]
    check_keys(files, {"network#args#precision": "fp32"})
    parser = ConfigParser(ConfigParser.load_config_files(files))
    parser["work_dir"], parser["device"] = str(work_dir), torch.device("cpu")
    parser.get_parsed_content("imports")
    assert parser.get_parsed_content("network") is parser.get_parsed_content("network_def")
    assert not parser.get_parsed_content("inferer").amp
    digest = hashlib.sha256((work_dir / "model.pt").read_bytes()).hexdigest()  # new weights get a new engine
    assert parser.get_parsed_content("network#base_path") == f"{work_dir}/fp16-{digest}"


@pytest.fixture
def torchscript(work_dir) -> Path:
    """What MONAI's own command makes of the configs, as the docs give it."""
    path = work_dir / "model.ts"
    bundle(
        *("ckpt_export", "--config_file", "['configs/inference.json','configs/deploy.json']"),
        *("--meta_file", "configs/metadata.json", "--work_dir", work_dir, "--ckpt_file", work_dir / "model.pt"),
        *("--filepath", path, "--use_trace", "True", "--input_shape", "[1,1,128,112,20]"),
        folder=BUNDLE_ROOT,
    )
    return path


def test_torchscript_equals_the_network_in_all_sizes_and_runs_like_a_deploy_operator(network, torchscript, tmp_path):
    script = torch.jit.load(torchscript).eval()
    agree(script, network, [(24, 16, 2), (24, 24, 1), (32, 40, 6), (47, 25, 21), (190, 166, 3)])
    deployed = _deployed(torchscript, script, tmp_path)
    voxels = np.random.default_rng(0).integers(0, 999, (60, 44, 5)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.2, -1.3, 8, 1])), tmp_path / "volume.nii.gz")
    arguments = ["--work_dir", torchscript.parent, "--input", tmp_path / "volume.nii.gz", "--output_dir", tmp_path]
    bundle("run", "infer", "--config_file", BUNDLE_ROOT / "configs" / "inference.json", *arguments, folder=tmp_path)
    mask, header = read_volume(tmp_path / "volume_seg.nii.gz")
    found = deployed(MetaTensor(torch.from_numpy(voxels.astype(np.float32)), affine=header.affine))
    assert found.shape == (1, 60, 44, 5)
    assert np.mean(found.numpy() == mask) > 0.99  # bfloat16 rounds differently in a graph


def _deployed(path: Path, script: torch.nn.Module, folder: Path):
    """Our model of MONAI Deploy's bundle operator: configs from the archive, no transforms that load or save, an image
    without a channel, and Invertd with the filtered composition."""
    with zipfile.ZipFile(path) as archive:
        for name in ("metadata", "inference", "deploy"):
            (folder / f"{name}.json").write_bytes(archive.read(f"{path.stem}/extra/{name}.json"))
    parser = ConfigParser()
    parser.read_meta(json.loads((folder / "metadata.json").read_text()))
    parser.read_config([folder / "inference.json", folder / "deploy.json"])
    parser.parse()
    inferer, before, after = (parser.get_parsed_content(key) for key in ("inferer", "preprocessing", "postprocessing"))
    for compose in (before, after):
        compose.transforms = tuple(
            t for t in compose.transforms if not type(t).__name__.startswith(("LoadImage", "SaveImage"))
        )
    (given,), (made,) = (parser["_meta_"]["network_data_format"][side] for side in ("inputs", "outputs"))

    def infer(image_HWD: MetaTensor) -> torch.Tensor:
        image_HWD.meta["original_channel_dim"] = "no_channel"
        item = before({given: image_HWD})
        with torch.no_grad():
            logits = inferer(inputs=item[given][None], network=script)
        return after({**item, made: logits[0]})[made].as_tensor()

    return infer
