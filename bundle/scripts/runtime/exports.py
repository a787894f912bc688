"""Export a trained network to files for other programs, and compare the output of each file with the network's.

Tensors: B batch (1), C channels, H W in-plane, D slices.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from scripts.core.errors import CineError
from scripts.core.files import replacing
from scripts.core.json_files import write_json
from scripts.runtime.backends import BACKENDS, Call, load_onnx, to_onnx
from scripts.runtime.deploy import fold_norms
from scripts.space.deployable import Deployable
from scripts.space.network import MIN_ROWS, steps

logger = logging.getLogger(__name__)

FORMAT = "rtdnas-exports-1"
TOLERANCE = 1e-3
"""The largest difference due to rounding (folded norms, another order of sums), as a share of the largest logit."""
SLICES = (1, 3, 10)
"""The numbers of slices for the comparison, in addition to the deployment size's."""


def export_network(network: Deployable, folder: str) -> dict[str, Any]:
    """Write ``model.onnx``, ``model.pt2`` (torch.export) and ``exports.json``, and compare each with the network.

    Both take ``image``, float32 1 1 H W D, and give ``pred``, logits 1 4 H W D. H and W are multiples of
    ``network.multiple`` (H at least three of them); D is any number. Norms are folded.

    Args:
        network: the network with its weights.
        folder: the output folder.

    Returns:
        The content of ``exports.json``: for each file its size in bytes and ``largest_difference``.

    Raises:
        CineError: a package is missing, the network pads its slices, the outputs differ by more than ``TOLERANCE``, or
            the folder cannot be written.
    """
    obstacle = BACKENDS["onnxruntime"].obstacle("cpu", torch.float32)
    if obstacle:
        found = f"an environment where ONNX Runtime {obstacle}"
        raise CineError("export", found, "the packages to write and check ONNX", "Install the extra runtimes.")
    if getattr(network, "slice_multiple", 1) > 1:
        expected = "a network that accepts any number of slices without padding"
        raise CineError("export", "a network that pads its slices", expected, "Export it as TorchScript: ckpt_export.")
    network = copy.deepcopy(network).cpu().float().eval()
    folded = fold_norms(copy.deepcopy(network)).requires_grad_(False)
    height, width, depth = network.space.deployment_size
    sizes = [(height, width, d) for d in sorted({*SLICES, depth})]
    sizes.append((MIN_ROWS * network.multiple, 2 * network.multiple, depth))
    sizes = [padded(size, network.multiple) for size in sizes]
    example_BCHWD = torch.zeros(1, 1, *padded((height, width, max(depth, 2)), network.multiple))
    files: dict[str, Any] = {}
    for name, (write, load) in FORMATS.items():
        path = Path(folder) / name
        with replacing(path) as temporary:
            write(folded, example_BCHWD, dynamic_sizes(network.multiple), temporary)
            difference = largest_difference(network, load(temporary), sizes)
            if not difference <= TOLERANCE:  # also true for NaN
                found = f"logits that differ from the network's by up to {difference:.3g} of the largest"
                raise CineError(
                    path, found, f"at most {TOLERANCE:g} of it", "The file was not written. Please report the network."
                )
        files[name] = {"bytes": path.stat().st_size, "largest_difference": difference}
        logger.info(
            "%s: at %d sizes, logits differ from the network's by at most %.2g of the largest",
            name,
            difference,
            len(sizes),
        )
    result = {"format": FORMAT, "multiple": network.multiple, "sizes": [list(size) for size in sizes], "files": files}
    write_json(Path(folder) / "exports.json", result)
    return result


def dynamic_sizes(multiple: int) -> dict[int, Any]:
    """The axes of 1 1 H W D that may vary: any number of slices, and H and W in multiples, which need no padding."""
    rows, columns = Dim("rows", min=MIN_ROWS), Dim("columns", min=1)
    return {2: multiple * rows, 3: multiple * columns, 4: Dim("slices", min=1)}


def padded(size: tuple[int, int, int], multiple: int) -> tuple[int, int, int]:
    """H, W, D with H and W raised to a multiple."""
    height, width, depth = size
    return max(steps(height, multiple), MIN_ROWS) * multiple, steps(width, multiple) * multiple, depth


@torch.inference_mode()
def largest_difference(network: nn.Module, other: Call, sizes: list[tuple[int, int, int]]) -> float:
    """The largest difference of logits, as a share of the largest logit, on a seeded normal image of each size H, W, D.

    It is infinite if the shapes differ or a value is not finite.
    """
    largest = 0.0
    for size in sizes:
        image_BCHWD = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))
        expected, found = network(image_BCHWD), other(image_BCHWD)
        same = found.shape == expected.shape and bool(found.isfinite().all())
        largest = max(largest, float((found - expected).abs().max() / expected.abs().max()) if same else float("inf"))
    return largest


def _write_onnx(network: nn.Module, example_BCHWD: torch.Tensor, sizes: dict[int, Any], path: Path) -> None:
    path.write_bytes(to_onnx(network, example_BCHWD, sizes))


def _write_program(network: nn.Module, example_BCHWD: torch.Tensor, sizes: dict[int, Any], path: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own parts warn about each other
        torch.export.save(torch.export.export(network, (example_BCHWD,), dynamic_shapes=(sizes,)), path)


def _load_program(path: Path) -> Call:
    return torch.export.load(path).module()


Write = Callable[[nn.Module, torch.Tensor, dict[int, Any], Path], None]
FORMATS: dict[str, tuple[Write, Callable[[Path], Call]]] = {
    "model.onnx": (_write_onnx, lambda path: load_onnx(path.read_bytes())),
    "model.pt2": (_write_program, _load_program),
}
