"""The latency of an operation outside a network: the difference that it makes in a short chain.

Timed directly, an operation would include the transfer of its input into the engine and of its output back. This does
not happen inside a network. So a chain with the operation and a chain without it are timed in turn.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from tqdm import tqdm

from scripts.latency.counts import CHAINED, REPEATED, Key, keys_of, operation_of
from scripts.latency.timer import Timing
from scripts.latency.visits import Call, Visit, Visitor
from scripts.runtime.deploy import Runtime
from scripts.space.network import Head, Stem
from scripts.space.operations import Scaling, build_operation
from scripts.space.registry import OPERATIONS
from scripts.space.space import Space
from scripts.space.trellis import KINDS, Kind

logger = logging.getLogger(__name__)
ROUNDS = 3
REPEATS = 4  # an operation that preserves the shape is repeated, so that it dominates the chain


class _Scale(nn.Module):
    """A cell without operations: every node is its input, or its input scaled."""

    def __init__(self, kind: Kind, space: Space, source: int, target: int):
        super().__init__()
        self.nodes, self.scales_first = space.nodes, space.scaling == "before"
        self.scaling = Scaling(kind, space.nodes * space.width(source), space.width(target))

    def forward(self, x_BCHWD: torch.Tensor) -> torch.Tensor:
        if self.scales_first:
            return torch.cat([self.scaling([x_BCHWD])] * self.nodes, dim=1)
        return self.scaling([x_BCHWD] * self.nodes)


class _Merge(nn.Module):
    """The sum of two cells' outputs."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = (nn.Conv3d(channels, channels, 1) for _ in range(2))

    def forward(self, x_BCHWD: torch.Tensor) -> torch.Tensor:
        return self.first(x_BCHWD) + self.second(x_BCHWD)


class _Repeated(nn.Module):
    """An operation applied to a tensor twice, or once."""

    def __init__(self, name: str, channels: int, count: int):
        super().__init__()
        self.operations = nn.ModuleList(build_operation(name, channels) for _ in range(count))

    def forward(self, x_BCHWD: torch.Tensor) -> torch.Tensor:
        return sum((operation(x_BCHWD) for operation in self.operations), start=x_BCHWD)


@dataclass(frozen=True)
class Chains:
    """A longer chain and a shorter one; their difference is the latency of ``count`` operations."""

    calls: tuple[Call, ...]
    count: int = 1

    def visit(self, visitor: Visitor, seconds: float) -> Visit:
        """A visit whose times are those of a single operation."""
        longer, shorter = visitor.visit(*self.calls, seconds=seconds)
        return replace(longer, times_ms=(longer.times_ms - shorter.times_ms).clip(min=0) / self.count)


def build_chains(key: Key, space: Space, runtime: Runtime) -> Chains:
    """The two chains for one entry of the latency table, at the deployment size."""
    name, scale = key
    into = out = space.tile_width(scale)
    size = space.size(scale)
    longer: list[nn.Module]
    shorter: list[nn.Module] = []
    if name == "stem":
        longer, into, size = [Stem(1, space, scale=scale)], 1, space.deployment_size
    elif name == "head":
        longer, out = [Head(space, 4, scale)], 4
    elif operation_of(name) in OPERATIONS:
        into = out = space.width(scale)
        if name.endswith(REPEATED):
            longer = [_Repeated(operation_of(name), into, 2) for _ in range(REPEATS)]
            shorter = [_Repeated(operation_of(name), into, 1) for _ in range(REPEATS)]
        else:
            longer = [build_operation(name, into) for _ in range(REPEATS)]
    elif name == "merge":
        longer = [_Merge(into) for _ in range(REPEATS)]
        shorter = [nn.Conv3d(into, into, 1) for _ in range(REPEATS)]
    else:
        kind: Kind = next(kind for kind in KINDS if name == f"scaling_{kind}")
        target = scale + 1 - KINDS.index(kind)
        count, out = (REPEATS, into) if target == scale else (1, space.tile_width(target))
        longer = [_Scale(kind, space, scale, target) for _ in range(count)]
    x_BCHWD = torch.randn(1, into, *size, device=runtime.device)
    # 1x1x1 convolutions at both ends make engines use a network's layout; one output channel keeps the copy small
    calls = tuple(
        partial(runtime.deploy(nn.Sequential(nn.Conv3d(into, into, 1), *chain, nn.Conv3d(channels, 1, 1))), x_BCHWD)
        for chain, channels in ((longer, out), (shorter, into))
    )
    return Chains(calls, len(longer))


def time_operations(space: Space, runtime: Runtime, seconds: float, visitor: Visitor) -> dict[Key, Timing]:
    """The isolated timing of every entry, from visits in the fast state; rounds over all entries spread the visits."""
    keys = sorted(key for key in keys_of(space) if not key[0].endswith(CHAINED))
    chains = {}
    visits: dict[Key, list[Visit]] = {key: [] for key in keys}
    start = time.perf_counter()
    for key in tqdm(keys, desc="operations, compiled", unit="operation"):
        chains[key] = build_chains(key, space, runtime)
        chains[key].visit(visitor, 0.0)
    left = max(0.0, seconds - (time.perf_counter() - start))
    each = max(0.0, left / (ROUNDS * len(keys)) - visitor.overhead_s)
    for key in tqdm(keys * ROUNDS, desc="operations, timed", unit="visit"):
        visits[key].append(chains[key].visit(visitor, each))
    for _ in range(ROUNDS):
        for key in [key for key in keys if not any(map(visitor.is_fast, visits[key]))]:
            visits[key].append(chains[key].visit(visitor, each))
    if slow := [key for key in keys if not any(map(visitor.is_fast, visits[key]))]:
        logger.warning("Isolated operations that were never timed in the fast state: %s", slow)
    timings = {key: visitor.summarise(of_key).timing for key, of_key in visits.items()}
    return {(name, scale): timings[name.removesuffix(CHAINED), scale] for name, scale in keys_of(space)}
