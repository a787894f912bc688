"""The stream under load: a cine replayed for a minute at a scanner's rate, in several runs with separate Segmenters."""

from __future__ import annotations

import tempfile
from typing import Any

import nibabel as nib
import numpy as np
import shared

from scripts.cine.reader import read_volume
from scripts.exams.load import sample_cine
from scripts.live.segmenter import Segmenter
from scripts.live.stream import stream_cine
from scripts.runtime.autotune import choose_runtime

LATENCIES = ("p50_ms", "p95_ms", "p99_ms", "max_ms", "mean_ms", "network_p50_ms", "network_p95_ms")
KEYS = (*LATENCIES, "per_second", "missed", "dropped", "first_ms")


def resized(cine: str, size: tuple[int, int, int], folder: str, spacing_mm: float = 1.5) -> str:
    """The cine in a field of a given size in voxels at the network's spacing, slices repeated; only for latency."""
    frames_THWD, header = read_volume(cine)
    height, width, depth = size
    zoom = [header.spacing_mm[axis] / spacing_mm for axis in range(2)]
    picked = []
    for n, ratio, length in zip((height, width), zoom, header.shape[:2], strict=True):
        centred = (np.arange(n) - n / 2) / ratio + length / 2
        picked.append(np.clip(np.round(centred), 0, length - 1).astype(int))
    slices = np.linspace(0, header.shape[2] - 1, depth).round().astype(int)
    frames = frames_THWD[:, picked[0]][:, :, picked[1]][..., slices]
    image = nib.Nifti1Image(np.moveaxis(frames, 0, -1), np.diag([spacing_mm, spacing_mm, header.spacing_mm[2], 1.0]))
    image.header.set_zooms((spacing_mm, spacing_mm, header.spacing_mm[2], 0.03))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, f"{folder}/resized.nii.gz")
    return f"{folder}/resized.nii.gz"


def main() -> None:
    options = shared.parser(__doc__ or "")
    options.add_argument("--model_dir", required=True, help="folder with architecture.json and model.pt")
    options.add_argument("--input", help="a 4D NIfTI; default: the phantom's")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--per_second", type=float, default=22.0, help="0: as fast as the segmenter takes volumes")
    options.add_argument("--runs", type=int, default=1)
    windows = ("fixed", "fitted")
    options.add_argument("--windows", nargs="+", choices=windows, default=["fixed"], help="in turn, in each run")
    options.add_argument(
        "--size", type=int, nargs=3, metavar=("H", "W", "D"), help="first put the cine into a field of this size"
    )
    arguments = options.parse_args()
    runtime = choose_runtime(arguments.device, arguments.precision, arguments.backend)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        cine = arguments.input or str(sample_cine())
        cine = resized(cine, tuple(arguments.size), folder) if arguments.size else cine
        for run in range(arguments.runs):
            for window in arguments.windows:
                segmenter = Segmenter(arguments.model_dir, runtime, fit_window=window == "fitted")
                output = f"{folder}/{run}_{window}"
                result = stream_cine(cine, segmenter, output, arguments.per_second, arguments.seconds)
                runs.append({"run": run + 1, "window": window, **result["summary"]})
    rows = [[run["run"], run["window"], *(f"{run[key]:.1f}" for key in KEYS)] for run in runs]
    shared.table(["run", "window", *KEYS], rows)
    worst = max(runs, key=lambda run: run["p95_ms"])
    shared.finish({**worst, "runs": runs}, arguments.json, runtime)


if __name__ == "__main__":
    main()
