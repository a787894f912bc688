"""The step as a command, with a network of random weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
from serving import Client, igtl_image

from scripts import BUNDLE_ROOT
from scripts.space.network import CineNet
from scripts.train import checkpoint

NAME = "jane_doe_1950"


def test_a_signal_ends_it_with_its_results_and_no_log_names_a_device(architecture, tmp_path):
    """A device has the name of the file that 3D Slicer shows."""
    architecture.save(tmp_path / "work" / "architecture.json")
    checkpoint.save(tmp_path / "work" / "model.pt", CineNet(architecture).state_dict())
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "serve"]
    command += ["--config_file", str(BUNDLE_ROOT / "configs" / "serve.json"), "--work_dir", "work", "--port", "0"]
    command += ["--backend", "eager", "--precision", "float32", "--device", "cpu"]
    voxels = np.random.default_rng(0).normal(size=(3, 16, 16)).astype(np.float32)
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as service:
        log = ""
        while "listening at 127.0.0.1, port" not in log:
            line = service.stderr.readline()
            assert line, log
            log += line
        with Client(int(log.split()[-1])) as client:
            for _ in range(2):
                client.send(igtl_image(voxels, device=NAME))
                assert client.answer()[0].image.shape == (3, 16, 16)
            service.send_signal(signal.SIGTERM)
            out, more = service.communicate(timeout=60)
    assert service.returncode == 0, log + more
    assert NAME not in out + log + more
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    (path,) = (tmp_path / "work" / "serve").glob("openigtlink_*_stream.json")
    written = json.loads(path.read_text())
    assert written["records"] == lines and len(lines) == 2
    assert path.with_suffix(".png").stat().st_size > 20_000
    outputs = json.loads((path.parent / "run.json").read_text())["steps"]["serve"]["outputs"]
    assert outputs.keys() == {path.name, path.with_suffix(".png").name}
