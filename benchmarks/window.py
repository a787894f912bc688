"""The live window that fits the heart: how often it is used, how far its masks differ, and how much time it saves.

ED and ES of each patient are blended to a beat. Two Segmenters take each volume in turn: one always uses the deployment
size. The masks and times are compared for the volumes that the other one segmented in its smaller window.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import shared
from tqdm import tqdm

from scripts.cine.reader import read_volume
from scripts.exams.load import Exam, load_exams
from scripts.live.fitted_window import CALM, least_dice
from scripts.live.orientation import Orientation
from scripts.live.segmenter import Segmenter
from scripts.runtime.autotune import choose_runtime


def beat(exams: list[Exam], volumes: int) -> tuple[Iterator[np.ndarray], tuple[float, ...]]:
    """Volumes H W D of a heart that beats once a second at 22 volumes a second, and their spacing (mm)."""
    (ed, header), (es, _) = (read_volume(exam["image"]) for exam in exams)
    orientation = Orientation(header.affine, header.shape)
    ed_HWD, es_HWD = (np.ascontiguousarray(orientation.to_working(one[0])) for one in (ed, es))
    weights = (1 - np.cos(2 * np.pi * np.arange(volumes) / 22)) / 2
    return (ed_HWD + weight * (es_HWD - ed_HWD) for weight in weights), orientation.spacing_mm


def main() -> None:
    options = shared.parser(__doc__ or "")
    options.add_argument("--dataset_dir", required=True, help="ACDC's folder training")
    options.add_argument("--model_dir", required=True, help="folder with architecture.json and model.pt")
    options.add_argument("--patients", type=int, default=20, help="evenly spread over the folder")
    arguments = options.parse_args()
    runtime = choose_runtime(arguments.device, arguments.precision, arguments.backend)
    patients = [list(group) for _, group in groupby(load_exams(arguments.dataset_dir), lambda exam: exam["patient"])]
    patients = patients[:: max(1, len(patients) // arguments.patients)]
    rows = []
    for exams in tqdm(patients, unit="patient"):
        volumes, spacing_mm = beat(exams, CALM + 22)
        fixed, fitted = (Segmenter(arguments.model_dir, runtime, fit_window=fit) for fit in (False, True))
        dice, fixed_ms, fitted_ms = [], [], []
        for volume_HWD in volumes:
            (mask, status), (other, of_fitted) = (one.segment(volume_HWD, spacing_mm) for one in (fixed, fitted))
            if of_fitted.fitted_window:
                dice.append(least_dice(mask, other))
                fixed_ms.append(status.network_ms)
                fitted_ms.append(of_fitted.network_ms)
        if dice:
            times = statistics.median(fixed_ms), statistics.median(fitted_ms)
            rows.append((exams[0]["patient"], len(dice), min(dice), statistics.mean(dice), *times, times[1] / times[0]))
    header = ["patient", "volumes", "worst Dice", "mean Dice", "fixed ms", "fitted ms", "ratio"]
    shared.table(header, [[one if isinstance(one, str) else f"{one:.3g}" for one in row] for row in rows])
    worst, ratios = [row[2] for row in rows], [row[-1] for row in rows]
    figures = {
        "patients": len(patients),
        "patients_with_smaller_window": len(rows),
        "worst_dice": min(worst),
        "worst_dice_median": statistics.median(worst),
        "network_ms_ratio_median": statistics.median(ratios),
    }
    shared.finish(figures, arguments.json, runtime)


if __name__ == "__main__":
    main()
