"""The ways to execute a prepared network on a device; all except eager need an optional package.

A backend compiles a network for one input shape and gives a callable from image B C H W D to logits. A new backend is
one more entry in ``BACKENDS``. Optional packages are imported only inside the functions.
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
    """One way to execute a network.

    Args:
        device: the kind of device on which it runs: "cpu", "cuda" or "any".
        packages: the distributions that it needs in addition to torch.
        compile: (network in eval mode, norm folded, float32 on the CPU; example image; precision) to a callable.
        precisions: the precisions in which it computes.
        compiler: whether it needs a C++ compiler.
        own_threads: whether it has its own threads in addition to PyTorch's.
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
    """Lay out the weights of 2D and 3D convolutions with channels last, in place."""
    for parameter in module.parameters():
        layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(parameter.dim())
        if layout is not None:
            parameter.data = parameter.data.to(memory_format=layout)
    return module


def place(module: nn.Module, like: torch.Tensor, dtype: torch.dtype) -> nn.Module:
    """Put a module on the device of ``like``, in the given precision and with channels last."""
    return channels_last(module.to(like.device, dtype))


def _eager(network: nn.Module, example_BCHWD: torch.Tensor, dtype: torch.dtype) -> Call:
    network = place(network, example_BCHWD, dtype)
    return lambda x_BCHWD: network(x_BCHWD.to(dtype, memory_format=torch.channels_last_3d))


def _compile(network: nn.Module, example_BCHWD: torch.Tensor, dtype: torch.dtype) -> Call:
    # networks share their code, and torch would fall back to eager after eight of them
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
    captured = graph, network  # the graph reads the network's weights but does not keep their memory

    def replay(x_BCHWD: torch.Tensor) -> torch.Tensor:
        image.copy_(x_BCHWD)
        captured[0].replay()
        return logits.clone()

    return replay


@functools.cache
def _openvino_core() -> Any:
    """One core for the whole process.

    Each core sets a signal stack and, when it is deleted, restores that of the previous core, which may be gone by
    then. The next Ctrl-C would then be a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _openvino(network: nn.Module, example_BCHWD: torch.Tensor, dtype: torch.dtype) -> Call:
    # without this package, OpenVINO does not fork processes that report its use over the network
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example_BCHWD = example_BCHWD.contiguous()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, and sizes become constants, as they should here
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
        # The result is written directly to its final place. A copy by torch would wake OpenMP's threads, which then
        # spin for some ms on the cores that OpenVINO's own threads need
        answer = np.empty(shape, number_type)
        request.set_output_tensor(0, openvino.Tensor(answer, shared_memory=True))
        request.infer({0: x_BCHWD.contiguous().numpy()}, share_inputs=True, share_outputs=True)
        return torch.from_numpy(answer)

    return infer


def to_onnx(network: nn.Module, example_BCHWD: torch.Tensor, sizes: dict[int, Any] | None = None) -> bytes:
    """The network as an ONNX model, from ``image`` to ``pred``.

    Args:
        network: on the CPU, in eval mode.
        example_BCHWD: an image of its input shape.
        sizes: the axes that may vary, as for ``torch.export``; none by default.
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
    """A callable that runs an ONNX model in ONNX Runtime, on as many threads as PyTorch has."""
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
    """Silence loggers below errors: exporters log every pass, and packages that this network does not need."""
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
