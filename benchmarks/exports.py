"""All export formats of a network: size of the file, largest difference from eager, ms, in one run.

The difference is a share of the largest logit. TensorRT needs a GPU and is not among them.
"""

from __future__ import annotations

import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import shared
import torch
from monai.bundle import ckpt_export

from scripts import BUNDLE_ROOT
from scripts.latency.timer import Timing, time_in_turn
from scripts.runtime.backends import Call
from scripts.runtime.deploy import Runtime
from scripts.runtime.exports import FORMATS, SLICES, export_network, largest_difference, padded
from scripts.space.network import CineNet
from scripts.train.checkpoint import initialise, save
from scripts.train.weights import load_model

ROUNDS, SECONDS = 3, 0.5


def torchscript(folder: str, path: Path, size: tuple[int, ...]) -> Call:
    """The export of a folder with architecture.json and model.pt by MONAI's own command."""
    configs = shared.config_files("inference", "deploy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ckpt_export(
            config_file=configs,
            meta_file=str(BUNDLE_ROOT / "configs" / "metadata.json"),
            ckpt_file=f"{folder}/model.pt",
            filepath=str(path),
            use_trace=True,
            input_shape=[1, 1, *size],
            work_dir=folder,
        )
        return torch.jit.load(path).eval()


def main() -> None:
    options = shared.parser(__doc__ or "", runtime=False)
    options.add_argument("--work_dir", help="of a training; without it, a hand-drawn network with random weights")
    arguments = options.parse_args()
    runtime = Runtime("cpu", "float32", "eager")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work_dir or temporary
        if not arguments.work_dir:
            drawn = CineNet(shared.hand_drawn(shared.configured_space()))
            initialise(drawn, 0)
            drawn.architecture.save(f"{folder}/architecture.json")
            save(f"{folder}/model.pt", drawn.state_dict())
        network = CineNet(f"{folder}/architecture.json").eval()
        load_model(f"{folder}/model.pt", network)
        made = export_network(network, temporary)
        deployment = padded(network.deployment_size, network.multiple)
        calls: dict[str, Call] = {"eager": runtime.deploy(network)}
        calls |= {name: load(Path(temporary) / name) for name, (_, load) in FORMATS.items()}
        calls["model.ts"] = torchscript(folder, Path(temporary) / "model.ts", deployment)
        sizes = [(*deployment[:2], slices) for slices in (*SLICES, deployment[2])]
        bytes_of = {name: (Path(temporary) / name).stat().st_size for name in calls if name != "eager"}
        differences = {name: largest_difference(network, call, sizes) for name, call in calls.items()}
    timings = time_all(calls, deployment)
    result: dict[str, Any] = {"size": deployment, "slices": [size[2] for size in sizes], "exports": made, "formats": {}}
    rows = []
    for name, timing in timings.items():
        row = {
            "bytes": bytes_of.get(name),
            "difference": differences[name],
            "ms": timing.median_ms,
            "p95_ms": timing.p95_ms,
        }
        result["formats"][name] = row
        mib = f"{row['bytes'] / 2**20:.2f}" if row["bytes"] else "-"
        rows.append([name, mib, f"{row['difference']:.1e}", f"{timing.median_ms:.1f}", f"{timing.p95_ms:.1f}"])
    shared.table(["format", "MiB", "largest difference", "ms", "p95"], rows)
    shared.finish(result, arguments.json, runtime)


def time_all(calls: dict[str, Call], size: tuple[int, int, int]) -> dict[str, Timing]:
    """Timings for batch 1, from the fastest of some rounds over all."""
    image_BCHWD = torch.randn(1, 1, *size)
    timings: dict[str, Timing] = {}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for name, call in calls.items():
                timing = Timing.of(time_in_turn([partial(call, image_BCHWD)], "cpu", SECONDS)[:, 0])
                if name not in timings or timing.median_ms < timings[name].median_ms:
                    timings[name] = timing
    return timings


if __name__ == "__main__":
    main()
