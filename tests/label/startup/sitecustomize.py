"""Run by every Python that has this folder on PYTHONPATH: the server, and the processes in which it trains.

torchvision, which MONAI Label imports, declares two operators in a library that must fit torch's build. A package index
may offer one that does not fit torch for CPUs. In that case they are declared here; nothing calls them.
"""

import importlib.util
from pathlib import Path

import torch

spec = importlib.util.find_spec("torchvision")
try:
    torch.ops.load_library(Path(spec.origin).with_name("_C.so"))
except OSError:
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
