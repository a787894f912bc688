from __future__ import annotations

import os
import subprocess
import sys
from random import Random

import pytest
import torch

from scripts import BUNDLE_ROOT
from scripts.core.errors import CineError
from scripts.runtime.backends import BACKENDS, channels_last
from scripts.runtime.deploy import Runtime
from scripts.space.network import CineNet
from scripts.space.sampling import random_architecture
from scripts.space.space import Space


def runtime_or_skip(name, dtype="float32"):
    try:
        return Runtime("cuda:0" if BACKENDS[name].device == "cuda" else "cpu", dtype, name)
    except CineError as error:
        pytest.skip(str(error))


def skip_without_device(name):
    if BACKENDS[name].device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.filterwarnings("ignore")  # warnings of exporters and compilers
def test_every_backend_computes_what_the_network_does(name, architecture):
    skip_without_device(name)
    runtime = runtime_or_skip(name)
    network = CineNet(architecture).eval()
    deployed = runtime.deploy(network)
    images = [torch.randn(1, 1, 16, 16, 3), torch.randn(1, 1, 12, 20, 4), torch.randn(1, 1, 16, 16, 3)]
    answers = [deployed(image) for image in images]
    for image, answer in zip(images, answers, strict=True):  # a result does not change when the next is computed
        with torch.no_grad():
            torch.testing.assert_close(answer.cpu().float(), network(image), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "compile"])  # "compile" takes a minute
@pytest.mark.filterwarnings("ignore")  # warnings of exporters
def test_a_network_keeps_its_weights_while_others_are_deployed(name, architecture):
    skip_without_device(name)
    runtime, image = runtime_or_skip(name), torch.randn(1, 1, 16, 16, 3)
    networks = [CineNet(architecture).eval() for _ in range(3)]
    deployed = [runtime.deploy(network) for network in networks]
    for _ in range(2):  # a graph that lost its weights would read other data in the second round
        for network, call in zip(networks, deployed, strict=True):
            with torch.no_grad():
                torch.testing.assert_close(call(image).cpu().float(), network(image), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in BACKENDS if BACKENDS[name].device != "cuda"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "changes",
    [
        {"scaling": "before", "skip": True, "nodes": 2},
        {"start": "any", "end": "any", "join": "mean", "share_cells": False, "nodes": 1},
    ],
)
@pytest.mark.filterwarnings("ignore")  # warnings of exporters and compilers
def test_every_backend_runs_the_networks_of_the_other_searches(name, dtype, changes):
    if name == "compile":
        pytest.skip("compiles for a minute what the other backends show")
    space = Space(layers=3, scales=2, channels=4, deployment_size=(16, 16, 3), **changes)
    architecture = random_architecture(space, Random(2), paths=4)
    assert architecture.starts == list(space.trellis.starts)
    network, image = CineNet(architecture).eval(), torch.randn(1, 1, 16, 16, 3)
    answer = runtime_or_skip(name, dtype).deploy(network)(image)
    close = 1e-3 if dtype == "float32" else 0.1
    with torch.no_grad():
        torch.testing.assert_close(answer.float(), network(image), rtol=close, atol=close)


def test_weights_of_volumes_and_of_slices_have_their_channels_last():
    volumes, slices = torch.nn.Conv3d(4, 8, 3), torch.nn.Conv2d(4, 8, 3)
    values = volumes.weight.clone(), slices.weight.clone()
    network = channels_last(torch.nn.ModuleList([volumes, slices, torch.nn.BatchNorm3d(8)]))
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(volumes.weight, values[0]) and torch.equal(slices.weight, values[1])


def test_half_precision_of_openvino_is_close(architecture):
    runtime = runtime_or_skip("openvino", "bfloat16")
    network = CineNet(architecture).eval()
    image = torch.randn(1, 1, 16, 16, 3)
    with torch.no_grad():
        torch.testing.assert_close(runtime.deploy(network)(image), network(image), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("banana", "auto", "eager"), "device: found 'banana'; expected cpu or cuda:N"),
        (("cuda:99", "auto", "eager"), "device: found 'cuda:99'; expected cpu or one of"),
        (("mps", "auto", "eager"), "device: found 'mps'"),
        (("cpu", "auto", "fastest"), "backend: found 'fastest'; expected auto or one of"),
        (("cpu", "float32", "cuda_graph"), "cuda_graph, which runs on cuda, not on cpu"),
        (("cpu", "bfloat16", "onnxruntime"), "onnxruntime, which does not compute in bfloat16"),
    ],
)
def test_a_backend_that_cannot_run_here_is_refused(arguments, says):
    with pytest.raises(CineError, match=says):
        Runtime(*arguments)


def test_a_backend_reports_its_missing_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CineError, match="needs the package openvino"):
        Runtime("cpu", "float32", "openvino")


def test_openvino_sends_no_telemetry(tmp_path):
    """Its telemetry would write an identity into the home folder, and fork and send data at each conversion."""
    runtime_or_skip("openvino")
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[1])\n"
        "from scripts.runtime.deploy import Runtime\n"
        "Runtime('cpu', 'float32', 'openvino').deploy(torch.nn.Conv3d(1, 1, 1))(torch.zeros(1, 1, 4, 4, 2))\n"
        "assert 'openvino' in sys.modules and sys.modules['openvino_telemetry'] is None\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", code, str(BUNDLE_ROOT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_signal_finds_a_valid_signal_stack():
    """Creating and deleting networks in any order left OpenVINO's signal stack behind, unmapped."""
    script = f"""
import gc, signal, sys, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
sys.path.insert(0, {str(BUNDLE_ROOT)!r})
from scripts.runtime.deploy import Deployed, Runtime
runtime = Runtime("cpu", "float32", "openvino")
networks = [Deployed(runtime, torch.nn.Conv3d(1, 2, 1).eval()) for _ in range(2)]
for network in networks:
    network(torch.rand(1, 1, 4, 4, 2))
while networks:
    networks.pop(0)
    del network
    gc.collect()
    network = None
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("alive")
"""
    runtime_or_skip("openvino")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-2000:]
