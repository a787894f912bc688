"""What a device is: its description, its native precision, its clock, and how its process keeps memory."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import re
import resource
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from scripts.files import CineError

GROUP = Path("/sys/fs/cgroup")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}


def check_device(device: str | torch.device, key: str = "device") -> str:
    """The name of a device that is here, "cpu" or "cuda:N"; CineError, which names the key, where it is not."""
    action = f"Use --{key} cpu."
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise CineError(key, repr(device), "cpu or cuda:N", action) from None
    if found.type == "cpu":
        return "cpu"
    count = torch.cuda.device_count() if found.type == "cuda" else 0
    if (found.index or 0) >= count:
        raise CineError(key, repr(device), f"cpu or one of {count} CUDA devices", action)
    return f"cuda:{found.index or 0}"


def describe_device(device: str) -> dict[str, Any]:
    """Name, kind and compute units of a device; for a GPU also its driver's CUDA version."""
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        units = properties.multi_processor_count
        return {"kind": "cuda", "name": properties.name, "units": units, "driver": str(torch.version.cuda)}
    return {"kind": device, "name": _processor(), "units": torch.get_num_threads(), "driver": platform.system()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def has_native_bfloat16(device: str) -> bool:
    """Whether the device has bfloat16 arithmetic of its own (emulation is slower than float32)."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_avx512_bf16()


def _has_avx512_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def available_memory(device: str | torch.device) -> int:
    """Bytes that this process can still take on a device, within its control group where it is in one."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # none here, or without a limit ("max")
        free = min(free, int((GROUP / "memory.max").read_text()) - int((GROUP / "memory.current").read_text()))
    return free


def peak_memory(device: str | torch.device) -> dict[str, int]:
    """The most bytes that this process has held so far: in the system's memory, and on its GPU where it has one."""
    peaks = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)}
    with contextlib.suppress(OSError, AttributeError):  # Linux: getrusage's value begins at that of the parent process
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peaks["process"] = 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]
    if torch.device(device).type == "cuda":
        peaks["cuda"] = torch.cuda.max_memory_allocated(device)
    return peaks


def keep_memory() -> bool:
    """Make malloc keep what is freed for the rest of the process; whether that is so (glibc alone).

    By default glibc returns large blocks to the system, and each layer of a network pays to get them back.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    most_mappings, trim_threshold = -4, -1
    return all([mallopt(most_mappings, 0), mallopt(trim_threshold, -1)])
