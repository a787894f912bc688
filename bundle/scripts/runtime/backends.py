"""The ways to execute a prepared network on a device; each but eager is an optional package.

A backend compiles a network for one input shape and gives a callable, image B C H W D to logits. Adding one is
adding an entry to ``BACKENDS``. Imports of optional packages stay inside the functions.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch._dynamo
from torch import nn

Call = Callable[[torch.Tensor], torch.Tensor]
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Backend:
    """One way to execute.

    Args:
        device: the kind of device that it runs on, "cpu", "cuda" or "any".
        packages: distributions that it needs beside torch.
        compile: (network in eval mode, norm folded, float32 on the CPU; example image; precision) to a callable.
        precisions: what it computes in.
        compiler: whether it needs a C++ compiler.
        own_threads: whether it runs on threads of its own, beside PyTorch's.
    """

    device: str
    compile: Callable[[nn.Module, torch.Tensor, torch.dtype], Call]
    packages: tuple[str, ...] = ()
    precisions: tuple[torch.dtype, ...] = FLOATS
    compiler: bool = False
    own_threads: bool = False

    def obstacle(self, device: str, dtype: torch.dtype) -> str | None:
        """Why it cannot run here, or None."""
        if self.device not in ("any", device.split(":")[0]):
            return f"runs on {self.device}, not on {device}"
        if dtype not in self.precisions:
            return f"does not compute in {str(dtype).removeprefix('torch.')}"
        missing = [package for package in self.packages if importlib.util.find_spec(package) is None]
        if missing:
            return f"needs the package {missing[0]}"
        if self.compiler and shutil.which(os.environ.get("CXX", "g++")) is None:
            return "needs a C++ compiler"
        return None

    def versions(self) -> dict[str, str]:
        """The installed versions of its packages."""
        return {package: importlib.metadata.version(package) for package in self.packages}


def channels_last(module: nn.Module) -> nn.Module:
    """Lay out the weights of convolutions with their channels last, in place, of volumes and of slices alike."""
    for parameter in module.parameters():
        layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(parameter.dim())
        if layout is not None:
            parameter.data = parameter.data.to(memory_format=layout)
    return module


def place(module: nn.Module, like: torch.Tensor, dtype: torch.dtype) -> nn.Module:
    """Put a module on the device of ``like``, in a precision and with channels last."""
    return channels_last(module.to(like.device, dtype))


def _eager(network: nn.Module, example_BCHWD: torch.Tensor, dtype: torch.dtype) -> Call:
    network = place(network, example_BCHWD, dtype)
    return lambda x_BCHWD: network(x_BCHWD.to(dtype, memory_format=torch.channels_last_3d))


def _compile(network: nn.Module, example_BCHWD: torch.Tensor, dtype: torch.dtype) -> Call:
    # networks share their code, and torch would return to eager after the eighth of them
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10_000
    compiled = torch.compile(place(network, example_BCHWD, dtype), dynamic=False)
    return lambda x_BCHWD: compiled(x_BCHWD.to(dtype, memory_format=torch.channels_last_3d))


def _cuda_graph(network: nn.Module, example_BCHWD: torch.Tensor, dtype: torch.dtype) -> Call:
    network = place(network, example_BCHWD, dtype)
    image = example_BCHWD.to(dtype, memory_format=torch.channels_last_3d).clone()
    with torch.cuda.device(image.device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # kernels are selected and memory is planned before the capture
            for _ in range(3):
                network(image)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = network(image)
    captured = graph, network  # a graph reads weights whose memory it does not keep

    def replay(x_BCHWD: torch.Tensor) -> torch.Tensor:
        image.copy_(x_BCHWD)
        captured[0].replay()
        return logits.clone()

    return replay


@functools.cache
def _openvino_core() -> Any:
    """One for the process: each sets a stack for signals and puts back that of the one before when it goes, which may
    be gone by then; the next Ctrl-C would be a segmentation fault."""
    import openvino

    return openvino.Core()


def _openvino(network: nn.Module, example_BCHWD: torch.Tensor, dtype: torch.dtype) -> Call:
    # OpenVINO reports its use over the network, from processes that it forks for it, unless that package is missing
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example_BCHWD = example_BCHWD.contiguous()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, and sizes become constants: they are, here
        traced = torch.jit.trace(network, example_BCHWD, check_trace=False)
        model = openvino.convert_model(traced, example_input=example_BCHWD, input=[list(example_BCHWD.shape)])
    precision = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = _openvino_core().compile_model(model, "CPU", settings).create_infer_request()
    output = request.get_output_tensor(0)
    shape, number_type = tuple(output.shape), output.data.dtype

    def infer(x_BCHWD: torch.Tensor) -> torch.Tensor:
        # The answer is written to where it stays. A copy by torch would wake OpenMP's threads, and these go on spinning
        # for some ms, on the cores that OpenVINO's own threads need
        answer = np.empty(shape, number_type)
        request.set_output_tensor(0, openvino.Tensor(answer, shared_memory=True))
        request.infer({0: x_BCHWD.contiguous().numpy()}, share_inputs=True, share_outputs=True)
        return torch.from_numpy(answer)

    return infer


def to_onnx(network: nn.Module, example_BCHWD: torch.Tensor, sizes: dict[int, Any] | None = None) -> bytes:
    """The network as an ONNX model, ``image`` to ``pred``.

    Args:
        network: on the CPU, in eval mode.
        example_BCHWD: an image of the shape that it takes.
        sizes: the axes that may vary, as of ``torch.export``; none by default.
    """
    network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["pred"]}
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example_BCHWD.contiguous(),),
            dynamo=True,
            verbose=False,
            dynamic_shapes=None if sizes is None else (sizes,),
            **names,
        )
    assert program is not None
    return program.model_proto.SerializeToString()


def load_onnx(model: bytes) -> Call:
    """What ONNX Runtime makes of an ONNX model, on as many threads as PyTorch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x_BCHWD: torch.from_numpy(session.run(None, {name: x_BCHWD.contiguous().numpy()})[0])


def _onnxruntime(network: nn.Module, example_BCHWD: torch.Tensor, dtype: torch.dtype) -> Call:
    return load_onnx(to_onnx(network, example_BCHWD))


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Silence loggers below errors: exporters tell of every pass, and of packages that this network does not need."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


BACKENDS: dict[str, Backend] = {
    "eager": Backend("any", _eager, precisions=(*FLOATS, torch.int8)),
    "compile": Backend("cpu", _compile, compiler=True),
    "onnxruntime": Backend(
        "cpu", _onnxruntime, ("onnxruntime", "onnx", "onnxscript"), precisions=(torch.float32,), own_threads=True
    ),
    "openvino": Backend(
        "cpu",
        _openvino,
        ("openvino",),
        precisions=(*FLOATS, torch.int8),
        own_threads=True,
    ),
    "cuda_graph": Backend("cuda", _cuda_graph),
}
