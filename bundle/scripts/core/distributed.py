"""Several processes that work as one, as torchrun starts them: which one writes, and what they average and share.

In a single process these functions do nothing. All processes must call them in the same order; otherwise they wait for
each other for ever.
"""

from __future__ import annotations

import atexit
import datetime
import functools
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import ignite.distributed as idist
import torch
import torch.distributed as dist

from scripts.core.errors import CineError

P = ParamSpec("P")
R = TypeVar("R")
_only_main = False  # true while only the first process works and the others wait for its result


def rank() -> int:
    """The number of this process; process 0 is the one that writes and measures."""
    return idist.get_rank()


def is_main() -> bool:
    return rank() == 0


def world_size() -> int:
    """How many processes work together."""
    return 1 if _only_main else idist.get_world_size()


def join(several: bool) -> None:
    """Join the processes of torchrun: by NCCL if there are GPUs, otherwise by gloo. Only the first one logs.

    Args:
        several: whether several processes can share the step.

    Raises:
        CineError: there are several processes, but the step cannot be shared; or the step is to be shared, but torchrun
            did not start this process.
    """
    started = os.environ.get("WORLD_SIZE")
    if several and started is None:
        found = "settings for several processes, but one process"
        raise CineError("the configuration", found, "processes of torchrun", "Start it by torchrun.")
    if not several and int(started or 1) > 1:
        expected = "one process, or an overlay: train with multi_gpu_train.json, search with multi_gpu_search.json"
        raise CineError("torchrun", f"{started} processes", expected, "Add the overlay, or do not use torchrun.")
    if several and not dist.is_initialized():
        # the long timeout: others wait while the first process measures; torchrun ends all of them if one fails
        idist.initialize("nccl" if torch.cuda.is_available() else "gloo", timeout=datetime.timedelta(days=1))
        atexit.register(idist.finalize)
    if not is_main():
        logging.getLogger().setLevel(logging.WARNING)


def on_main(function: Callable[P, R]) -> Callable[P, R]:
    """Let only the first process call a function; all processes return its result, or raise its error."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        global _only_main
        if world_size() == 1:
            return function(*args, **kwargs)
        outcome: list[Any] = [None, None]
        if is_main():
            _only_main = True
            try:
                outcome[0] = function(*args, **kwargs)
            except BaseException as error:
                outcome[1] = error
            finally:
                _only_main = False
        dist.broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    return call


def any_process(wish: bool) -> bool:
    """Whether the wish is true in at least one process; all processes get the same answer."""
    return bool(idist.all_reduce(float(wish), "MAX")) if world_size() > 1 else wish


def gather(value: Any) -> list[Any]:
    """The values of all processes, by rank."""
    values = [value] * world_size()
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


def average(tensors: Iterable[torch.Tensor]) -> None:
    """Replace tensors in place by their means over the processes; all processes get the same bits."""
    tensors = list(tensors)
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message
    dist.all_reduce(flat)
    flat /= world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.reshape(tensor.shape))


def average_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Average the gradients that an optimizer will use; every process has gradients of the same parameters."""
    if world_size() > 1:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        average(p.grad for p in parameters if p.grad is not None)


def mean(value: torch.Tensor) -> torch.Tensor:
    """The mean of a scalar over the processes, detached."""
    value = value.detach()
    if world_size() > 1:
        value = value.clone()
        average([value])
    return value


def share_buffers(module: torch.nn.Module) -> None:
    """Copy the first process's buffers to all: each kept running statistics of its own part of the batches."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
