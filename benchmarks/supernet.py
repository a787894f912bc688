"""A search step (one of the weights, one of the architecture): ours, the obvious loop and MONAI's DiNTS, side by side.

Each network's peak memory is measured in a separate process. --curves shows how time and memory grow with layers, width
and patch.
"""

from __future__ import annotations

import multiprocessing
import re
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import shared
import torch
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss
from monai.networks.nets import DiNTS, TopologySearch
from torch import nn

from scripts.core.json_files import write_json
from scripts.runtime.device import describe_device, keep_memory
from scripts.runtime.precision import autocast
from scripts.search.memory import step_memory
from scripts.search.relaxation import JointSoftmax
from scripts.space.space import Space
from scripts.space.supernet import Supernet

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reference_supernet import ReferenceSupernet

CHANNELS_LAST: Any = torch.channels_last_3d
CLASSES = 4
PLAIN = "default"  # search.json without an overlay
SIZES = ("demo", "quick", PLAIN, "paper")


@dataclass(frozen=True)
class Size:
    """The size of a search in a configuration."""

    name: str
    space: Space
    channels: int
    partial: int
    batch: int
    patch: tuple[int, ...]

    @classmethod
    def of(cls, name: str) -> Size:
        """The size of search.json under an overlay, or without one."""
        files = ["search"] if name == PLAIN else ["search", name]
        parser = ConfigParser()
        parser.read_config(shared.config_files(*files))
        space = Space(**{key: value for key, value in parser["space"].items() if key != "_target_"})
        channels, partial = parser["search_channels"], parser["partial_channels"]
        return cls(name, space, channels, partial, parser["search_batch_size"], tuple(parser["search_patch_size"]))

    @property
    def triples(self) -> int:
        """Evaluated (cell, input, operation) triples."""
        inputs = self.space.nodes * (self.space.nodes + 1) // 2
        return len(self.space.trellis.cells) * inputs * len(self.space.operations)


class Search:
    """A supernet with everything for a step."""

    def __init__(self, kind: str, size: Size, device: str):
        torch.manual_seed(0)
        self.device, self.size, self.kind = device, size, kind
        batch, patch = size.batch, size.patch
        if kind == "dints":
            multiple = 2 ** (size.space.scales + 1)
            patch = tuple(-(-length // multiple) * multiple for length in patch)
            space: Any = TopologySearch(
                size.channels / 32, num_blocks=size.space.layers, num_depths=size.space.scales, device=device
            )
            # DiNTS takes its width as a share of 32 at the finest scale
            self.network: nn.Module = DiNTS(space, 1, CLASSES)
            self.architecture = [space.log_alpha_a, space.log_alpha_c]
        else:
            network = Supernet if kind == "ours" else ReferenceSupernet
            self.network = network(size.space, size.channels, size.partial)
            self.relaxation = JointSoftmax(size.space).to(device)
            self.architecture = list(self.relaxation.parameters())
        self.network.to(device).to(memory_format=CHANNELS_LAST)  # type: ignore[call-overload]
        known = {id(parameter) for parameter in self.architecture}
        self.weights = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        self.optimizers = torch.optim.SGD(self.weights, 0.01, 0.9), torch.optim.Adam(self.architecture, 0.01)
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)
        self.image = torch.randn(batch, 1, *patch, device=device).to(memory_format=CHANNELS_LAST)
        self.label = torch.randint(CLASSES, (batch, 1, *patch), device=device)

    def step(self) -> float:
        """Seconds of one step of the weights and one of the architecture."""
        start = time.perf_counter()
        for optimizer, frozen in zip(self.optimizers, (self.architecture, self.weights), strict=True):
            for parameter in frozen:
                parameter.requires_grad_(False)
            with autocast(self.device):
                logits = self.network(self.image, *([] if self.kind == "dints" else [self.relaxation()]))
            self.loss(logits.float(), self.label).backward()
            optimizer.step()
            optimizer.zero_grad()
            for parameter in frozen:
                parameter.requires_grad_(True)
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


def peak_mib(kind: str, size: Size, device: str, recompute: bool = False) -> float:
    """MiB that two steps need, in addition to the process's earlier memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (kind, size, device, recompute))


def _peak(kind: str, size: Size, device: str, recompute: bool) -> float:
    keep_memory()
    before = psutil.Process().memory_info().rss
    search = Search(kind, size, device)
    search.network.recompute = recompute  # type: ignore[assignment]
    for _ in range(2):
        search.step()
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    # not getrusage's value, which a process inherits from its parent
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    return (int(peak[1]) * 1024 - before) / 2**20


def in_turn(searches: dict[str, Search], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each search's steps, in turn; the first round is a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in searches}
    for turn in range(rounds + 1):
        for name, search in searches.items():
            seconds = search.step()
            if turn:
                times[name].append(1e3 * seconds)
    return times


def compare(size: Size, device: str, rounds: int) -> dict[str, Any]:
    """Our step compared with those of the reference loop and DiNTS at one size."""
    # first, before this process uses memory itself
    peaks = {
        "peak_mib": peak_mib("ours", size, device),
        "recompute_peak_mib": peak_mib("ours", size, device, recompute=True),
        "reference_peak_mib": peak_mib("reference", size, device),
    }
    searches = {kind: Search(kind, size, device) for kind in ("ours", "reference", "dints")}
    times = in_turn(searches, rounds)
    ratios = [r / o for o, r in zip(times["ours"], times["reference"], strict=True)]
    ms = {kind: statistics.median(values) for kind, values in times.items()}
    voxels = size.batch * torch.Size(size.patch).numel()
    topology: Any = searches["dints"].network.dints_space  # type: ignore[union-attr]
    dints_triples = int(topology.arch_code_a.sum()) * topology.num_cell_ops
    del searches
    result = {
        "size": size.name,
        "layers": size.space.layers,
        "scales": size.space.scales,
        "channels": size.channels,
        "patch": [size.batch, *size.patch],
        "step_ms": ms["ours"],
        "reference_step_ms": ms["reference"],
        "speedup": statistics.median(ratios),
        "speedups": ratios,
        **peaks,
        "dints_step_ms": ms["dints"],
        "triples": size.triples,
        "dints_triples": dints_triples,
        "ns_per_voxel_and_triple": 1e6 * ms["ours"] / voxels / size.triples,
        "dints_ns_per_voxel_and_triple": 1e6 * ms["dints"] / voxels / dints_triples,
        "device": describe_device(device),
        "bfloat16": autocast(device)._enabled,
    }
    shared.table(
        ["", "ours", "reference", "DiNTS"],
        [
            [
                f"{size.name}, {'x'.join(map(str, result['patch']))}, L={size.space.layers}, S={size.space.scales}",
                "",
                "",
                "",
            ],
            ["step, ms", *(f"{ms[kind]:.0f}" for kind in ("ours", "reference", "dints"))],
            [
                "speedup over the reference (min and max)",
                f"{result['speedup']:.2f} ({min(ratios):.2f}, {max(ratios):.2f})",
                "1",
                "",
            ],
            [
                "peak, MiB (recomputing)",
                f"{result['peak_mib']:.0f} ({result['recompute_peak_mib']:.0f})",
                f"{result['reference_peak_mib']:.0f}",
                "",
            ],
            ["triples", size.triples, size.triples, dints_triples],
            [
                "ns per voxel and triple",
                f"{result['ns_per_voxel_and_triple']:.2f}",
                "",
                f"{result['dints_ns_per_voxel_and_triple']:.2f}",
            ],
        ],
    )
    return result


def curves(size: Size, device: str, rounds: int) -> list[dict[str, Any]]:
    """Step time and memory for varied layers, width and patch, one at a time, next to the search's own prediction."""
    height, width, depth = size.patch
    points = [("layers", layers, replace(size, space=replace(size.space, layers=layers))) for layers in (4, 6, 8, 10)]
    points += [("channels", channels, replace(size, channels=channels)) for channels in (8, 16, 32)]
    points += [("slices", depth * n, replace(size, patch=(height, width, depth * n))) for n in (1, 2, 4)]
    rows = []
    for axis, value, point in points:
        ms = statistics.median(in_turn({"ours": Search("ours", point, device)}, rounds)["ours"])
        for recompute in (False, True):
            network = Supernet(point.space, point.channels, point.partial)
            network.recompute = recompute
            predicted = step_memory(network, point.batch, point.patch, autocast(device)._enabled) / 2**20
            row = {"axis": axis, "value": value, "recompute": recompute, "step_ms": ms if not recompute else None}
            rows.append({**row, "peak_mib": peak_mib("ours", point, device, recompute), "predicted_mib": predicted})
    shared.table(
        ["axis", "value", "recompute", "step, ms", "peak, MiB", "predicted, MiB"],
        [
            [
                r["axis"],
                r["value"],
                r["recompute"],
                f"{r['step_ms']:.0f}" if r["step_ms"] else "",
                f"{r['peak_mib']:.0f}",
                f"{r['predicted_mib']:.0f}",
            ]
            for r in rows
        ],
    )
    return rows


def ours_only(size: Size, device: str, rounds: int) -> dict[str, Any]:
    """Our step and its memory, without comparison."""
    peaks = [peak_mib("ours", size, device, recompute) for recompute in (False, True)]
    ms = statistics.median(in_turn({"ours": Search("ours", size, device)}, rounds)["ours"])
    shared.show(f"{size.name}: {ms:.0f} ms per step, peak {peaks[0]:.0f} MiB, recomputing {peaks[1]:.0f}")
    return {"size": size.name, "step_ms": ms, "peak_mib": peaks[0], "recompute_peak_mib": peaks[1]}


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main() -> None:
    options = shared.parser(__doc__ or "", runtime=False)
    options.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda:0")
    options.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=SIZES[:3], help="sizes of search.json, by overlay"
    )
    options.add_argument("--rounds", type=positive, default=5, help="steps of each network")
    only = options.add_mutually_exclusive_group()
    only.add_argument("--only", choices=SIZES, help="only our step at this size, and its memory")
    only.add_argument("--curves", action="store_true", help="only how our step grows from quick's size")
    arguments = options.parse_args()
    keep_memory()
    device, rounds = arguments.device, arguments.rounds
    if arguments.curves:
        results = curves(Size.of("quick"), device, rounds)
    elif arguments.only:
        results = [ours_only(Size.of(arguments.only), device, rounds)]
    else:
        results = [compare(Size.of(name), device, rounds) for name in arguments.sizes]
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
