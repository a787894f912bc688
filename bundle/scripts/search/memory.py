"""The memory that a step of the search needs, logged before the search starts."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch

from scripts.core.errors import CineError
from scripts.runtime.device import available_memory
from scripts.runtime.memory_tracker import LiveTensors
from scripts.runtime.precision import autocast
from scripts.search.relaxation import uniform_mixing
from scripts.space.architecture import Architecture, Node
from scripts.space.mixing import Mixing
from scripts.space.network import CineNet
from scripts.space.registry import PARAMETER_FREE, ZERO
from scripts.space.space import Space
from scripts.space.supernet import Supernet
from scripts.space.trellis import Path, union_of

logger = logging.getLogger(__name__)
# measured peaks divided by the sum of live tensors (docs/benchmarks.md): workspace of kernels, gaps between blocks
FIXED, KEPT, RECOMPUTED = 128 * 2**20, 2.0, 3.4
SMALLER = "Lower search_batch_size, search_patch_size or search_channels."


def step_memory(
    supernet: Supernet, batch_size: int, patch_size: Sequence[int], amp: bool = False, paths: int | None = None
) -> int:
    """The peak bytes of the largest step (one of the weights), without computing it: torch's meta device is used.

    Args:
        supernet: the relaxed network; its ``recompute`` is taken into account.
        batch_size: volumes a step.
        patch_size: their H W D in voxels.
        amp: whether the step runs under bfloat16 autocast.
        paths: the number of paths, if steps compute discrete networks; None for the mixture.
    """
    dtype = torch.bfloat16 if amp else torch.float32
    shadow = copy.deepcopy(supernet).to("meta", dtype).requires_grad_()
    uniform = uniform_mixing(shadow.space)
    nodes = {kind: [p.to("meta", dtype) for p in tables] for kind, tables in uniform.nodes.items()}
    mixing = Mixing(nodes, {cell: p.to("meta", dtype) for cell, p in uniform.cells.items()})
    image = torch.empty(batch_size, 1, *patch_size, device="meta", dtype=dtype)
    image = image.to(memory_format=torch.channels_last_3d)
    with LiveTensors() as tensors:
        logits = shadow(image, mixing) if paths is None else shadow.run_one(image, large_network(shadow.space, paths))
        logits.float().log_softmax(1).sum().backward()
    # weights, their gradients and momentum are float32 and stay in memory all the time
    parameters = sum(parameter.numel() for parameter in supernet.parameters())
    factor = RECOMPUTED if supernet.recompute else KEPT
    return FIXED + int(factor * tensors.peak) + 3 * 4 * parameters


def large_network(space: Space, paths: int) -> Architecture:
    """A discrete network whose step needs much memory: every node is a convolution of the cell's input, and the paths
    leave scale 0 late."""
    name = next(name for name in space.operations if name not in (*PARAMETER_FREE, ZERO))
    cells: dict[str, tuple[Node, ...]] = {group: ((0, name),) * space.nodes for group in space.groups}
    fine = {cell: -float(cell.source + cell.target) for cell in space.trellis.cells}
    chosen: dict[Path, None] = {}
    for _ in range(paths):  # each path has as many new cells as possible
        union = set(union_of(chosen))
        score = {cell: -9.0 if cell in union else value for cell, value in fine.items()}
        chosen[space.trellis.best_paths(1, score)[0][1]] = None
    return Architecture(space, cells, tuple(chosen))


def measured_step_memory(
    architecture: Architecture, batch_size: int, patch_size: Sequence[int], device: str | torch.device = "cpu"
) -> int:
    """The peak bytes of one training step of a network, measured: live tensors, or a GPU's allocated memory."""
    network = CineNet(architecture).to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    image = torch.randn(batch_size, 1, *patch_size, device=device).to(memory_format=torch.channels_last_3d)
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    with LiveTensors() as tensors:
        with autocast(device):
            logits = network(image)
        logits.float().log_softmax(1).sum().backward()
    if cuda:
        return torch.cuda.max_memory_allocated(device)
    # live tensors include gradients, but not weights and the optimiser's state
    return tensors.peak + 3 * 4 * sum(parameter.numel() for parameter in network.parameters())


def fit_memory(
    supernet: Supernet,
    batch_size: int,
    patch_size: Sequence[int],
    device: str | torch.device = "cpu",
    paths: int | None = None,
) -> Supernet:
    """The supernet, set to recompute activations if a step would otherwise not fit in the memory of the device.

    Args:
        supernet, batch_size, patch_size, paths: see ``step_memory``; discrete networks recompute nothing.
        device: where steps run.

    Raises:
        CineError: a step does not fit even so, or the batch size or patch size is invalid.
    """
    if not _positive([batch_size]):
        raise CineError("search_batch_size", repr(batch_size), "a whole number of at least 1", "Change the key.")
    if not isinstance(patch_size, Sequence) or len(patch_size) != 3 or not _positive(patch_size):
        raise CineError("search_patch_size", repr(patch_size), "three whole numbers of at least 1", "Change the key.")
    free = available_memory(device)
    amp = autocast(device)._enabled
    needed = step_memory(supernet, batch_size, patch_size, amp, paths)
    if needed > free and paths is None:
        supernet.recompute = True
        kept, needed = needed, step_memory(supernet, batch_size, patch_size, amp)
        if needed <= free:
            logger.info("A step would need %s: activations are computed twice instead of kept", _gib(kept))
    if needed > free:
        size = "x".join(map(str, patch_size))
        raise CineError(
            f"a step of {batch_size} patches of {size}",
            f"a need of {_gib(needed)}",
            f"at most the {_gib(free)} that are available on {device}",
            SMALLER,
        )
    logger.info("A step of the search needs about %s of the %s available on %s", _gib(needed), _gib(free), device)
    return supernet


def _positive(values: Sequence[Any]) -> bool:
    return all(type(value) is int and value > 0 for value in values)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
