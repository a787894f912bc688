"""Properties of a device: description, native precision, clock, and memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from scripts.core.errors import CineError

GROUP, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux mounts control groups, such as a container's, and lists the control groups of a process."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}


def check_device(device: str | torch.device, key: str = "device") -> str:
    """The name of an available device, "cpu" or "cuda:N"; otherwise CineError, which names the key."""
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
    """Whether the device computes bfloat16 natively (emulation is slower than float32)."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_avx512_bf16()


def _has_avx512_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def available_memory(device: str | torch.device) -> int:
    """Bytes that this process can still take on a device, within the limits of its control group, if it is in one."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return max(0, min([_left_of_machine(), *_left_of_groups()]))


def _left_of_machine() -> int:
    try:
        import psutil
    except ImportError:  # this compiled package is not available for every Python
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return psutil.virtual_memory().available


def _left_of_groups() -> Iterator[int]:
    """The free bytes within each memory limit of this process's control group and of the groups that contain it."""
    paths = {"": "/", "memory": "/"}  # "" is version 2, "memory" version 1; in a container the root is its own group
    with contextlib.suppress(OSError, ValueError):
        for line in MEMBERSHIP.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            paths |= dict.fromkeys(controllers.split(","), path)
    for root, path in ((GROUP, paths[""]), (GROUP / "unified", paths[""]), (GROUP / "memory", paths["memory"])):
        group = Path(os.path.normpath(root / path.strip("/")))
        for folder in (group, *group.parents) if root in group.parents else (root,):
            yield from _left_of_group(folder)
            if folder == root:
                break


def _left_of_group(folder: Path) -> Iterator[int]:
    """Limit minus use, for each limit of a group; the file cache is not use, since the system frees it on demand."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.high", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):  # the file is missing, or there is no limit ("max")
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            with contextlib.suppress(OSError, ValueError, KeyError):
                statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                left += int(statistics[cache])
            yield left


def peak_memory(device: str | torch.device) -> dict[str, int]:
    """The peak bytes of this process so far: in the system's memory, and on its GPU if it has one."""
    peaks = {"process": _peak_of_process()}
    if torch.device(device).type == "cuda":
        peaks["cuda"] = torch.cuda.max_memory_allocated(device)
    return peaks


def _peak_of_process() -> int:
    with contextlib.suppress(OSError, TypeError):  # Linux: getrusage's value would start at that of the parent process
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def keep_memory() -> bool:
    """Make malloc keep freed memory for the rest of the process; returns whether this works (only with glibc).

    By default glibc returns large blocks to the system, and each layer of a network spends time to get them back.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    max_mappings, trim_threshold = -4, -1
    return all([mallopt(max_mappings, 0), mallopt(trim_threshold, -1)])
