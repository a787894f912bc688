"""The time of a search step, ours and the obvious loop's: milliseconds and calls by kind of operation.

Each operation is timed separately on the CPU of a quiet machine. The rest is the time of Python and autograd between
them. The profiler of torch doubles the time of such small operations.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import shared
from supernet import SIZES, Search, Size, positive
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.core.json_files import write_json
from scripts.runtime.device import keep_memory

REST = "Python, autograd and the rest"
KINDS = {  # the first one with a part of the operation's name counts
    "norms": ("batch_norm",),
    "pooling and upsampling": ("pool", "upsample"),
    "copies": ("cat", "stack", "copy", "clone", "pad", "zeros", "fill"),
    "sums and products": ("add", "mul", "sub", "sum", "mean", "eq", "maximum", "relu", "threshold", "pow", "div", "mm"),
}


def kind_of(name: str, arguments: Any) -> str:
    """The row of the table for an operation."""
    if "convolution" in name:
        weight = arguments[2 if "backward" in name else 1]
        size = "1x1x1" if weight.shape[2:].numel() == 1 else "3x3"
        return f"{size} convolutions, {'backward' if 'backward' in name else 'forward'}"
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), REST)


class Timed(TorchDispatchMode):
    """Seconds and calls of every kind of operation."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        kind = kind_of(str(func), args)
        self.seconds[kind] += time.perf_counter() - start
        self.calls[kind] += 1
        return result


def profile(search: Search, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and calls by kind, in the fastest of some timed steps; last, the fastest untimed step."""
    untimed_s = min(search.step() for _ in range(rounds + 1))
    steps = []
    for _ in range(rounds):
        with Timed() as timed:
            steps.append((search.step(), timed))
    seconds, timed = min(steps, key=lambda step: step[0])
    timed.seconds[REST] += seconds - sum(timed.seconds.values())
    rows = {kind: {"ms": 1e3 * timed.seconds[kind], "calls": timed.calls[kind]} for kind in sorted(timed.seconds)}
    rows["a step, timed"] = {"ms": 1e3 * seconds, "calls": sum(timed.calls.values())}
    return {**rows, "a step": {"ms": 1e3 * untimed_s, "calls": sum(timed.calls.values())}}


def main() -> None:
    options = shared.parser(__doc__ or "", runtime=False)
    options.add_argument("--size", choices=SIZES, default="quick", help="of search.json, by its overlay")
    options.add_argument("--rounds", type=positive, default=3, help="steps of each network")
    arguments = options.parse_args()
    keep_memory()
    size = Size.of(arguments.size)
    found = {kind: profile(Search(kind, size, "cpu"), arguments.rounds) for kind in ("reference", "ours")}
    shared.table(
        ["", "the obvious loop, ms", "calls", "ours, ms", "calls"],
        [
            [
                kind,
                *(
                    text
                    for rows in found.values()
                    for row in [rows.get(kind, {"ms": 0, "calls": 0})]
                    for text in (f"{row['ms']:.0f}", f"{row['calls']}")
                ),
            ]
            for kind in found["reference"]
        ],
    )
    if arguments.json:
        write_json(arguments.json, found)


if __name__ == "__main__":
    main()
