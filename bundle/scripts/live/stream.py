"""The stream: volumes arrive and are segmented, in time or late, and everything is reported."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.cine.formats import stem
from scripts.cine.reader import Header, read_volume
from scripts.cine.writer import check_writable, write_mask
from scripts.core.errors import CineError
from scripts.core.json_files import write_json
from scripts.exams.phantom import is_phantom
from scripts.latency.visits import QUANTILE, SLOW
from scripts.live.orientation import Orientation
from scripts.live.segmenter import Segmenter, Status
from scripts.live.volume_queue import Late, Replay, VolumeQueue
from scripts.quality.direction import DOUBTFUL, is_doubtful
from scripts.quality.flags import image_flags, log_flags

logger = logging.getLogger(__name__)
FORMAT = "rtdnas-stream-1"


@dataclass(frozen=True)
class Record:
    """One volume of a stream: its number, arrival and mask (s after the first arrival), and its status."""

    number: int
    arrived_s: float
    done_s: float
    status: Status

    @property
    def latency_ms(self) -> float:
        """Time from arrival to mask."""
        return 1000 * (self.done_s - self.arrived_s)


def consume(inbox: VolumeQueue, segmenter: Segmenter, spacing_mm: Sequence[float], total: int | None = None):
    """Segment the volumes of an inbox until it closes.

    Yields:
        (Record, mask uint8 H W D) of every volume that was not dropped.
    """
    first = None
    with tqdm(total=total, desc="stream", unit="volume") as bar:
        while (arrival := inbox.get()) is not None:
            arrived = time.perf_counter() if arrival.at is None else arrival.at
            first = arrived if first is None else first
            mask, status = segmenter.segment(arrival.volume_HWD, spacing_mm)
            record = Record(arrival.number, arrived - first, time.perf_counter() - first, status)
            bar.update(arrival.number + 1 - bar.n)
            yield record, mask


def summarise(records: Sequence[Record], dropped: Sequence[int], deadline_ms: float) -> dict[str, Any]:
    """The figures of a stream; the first volume, over the whole field, is reported separately."""
    first, rest = records[0], records[1:]
    latencies = [record.latency_ms for record in rest] or [first.latency_ms]
    network_ms = [record.status.network_ms for record in rest or [first]]
    window_ms = np.array([record.status.network_ms for record in rest if not record.status.whole_field] or network_ms)
    duration = records[-1].done_s - first.done_s
    return {
        "volumes": len(records) + len(dropped),
        "segmented": len(records),
        "dropped": len(dropped),
        "deadline_ms": deadline_ms,
        "missed": sum(record.latency_ms > deadline_ms for record in rest),
        "per_second": len(rest) / duration if rest else None,
        "first_ms": first.latency_ms,
        **_percentiles("", latencies),
        **_percentiles("segmenter_", [record.status.milliseconds for record in rest or [first]]),
        **_percentiles("network_", network_ms),
        "network_slow_share": float(np.mean(window_ms > SLOW * np.quantile(window_ms, QUANTILE))),
        "whole_field": sum(record.status.whole_field for record in rest),
        "flags": dict(Counter(flag for record in records for flag in record.status.flags)),
    }


def _percentiles(prefix: str, ms: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(ms, (50, 95, 99))
    names = ("p50_ms", "p95_ms", "p99_ms", "max_ms", "mean_ms")
    values = (p50, p95, p99, max(ms), np.mean(ms))
    return {prefix + name: float(value) for name, value in zip(names, values, strict=True)}


def stream_cine(
    input: str,
    segmenter: Segmenter,
    output_dir: str,
    per_second: float | None = 22.0,
    seconds: float | None = None,
    deadline_ms: float = 50.0,
    queue_size: int = 1,
    late: Late = "newest",
    existing: str = "error",
) -> dict[str, Any]:
    """Replay a cine at a scanner's rate, segment it live, and write masks and figures.

    Args:
        input: a 4D NIfTI.
        segmenter: segments its volumes.
        output_dir: the folder for ``NAME_seg.nii.gz`` (the last mask of every frame; empty for frames that were always
            dropped) and ``NAME_stream.json``.
        per_second: the scanner's rate; 0 or None: as fast as the segmenter takes volumes, without drops.
        seconds: how long to replay the cine repeatedly; None: only once.
        deadline_ms: a mask that comes later than this after its volume's arrival is a miss.
        queue_size, late: see ``VolumeQueue``.
        existing: "error" or "overwrite", if results exist.

    Returns:
        The content of the JSON, with the path of the results without their endings.
    """
    per_second = per_second or None
    frames_THWD, header = read_volume(input)
    output = Path(output_dir) / stem(header.path)
    _check(header, output, per_second, seconds, deadline_ms, existing)
    doubts = image_flags(frames_THWD, header)
    orientation = Orientation(header.affine, header.shape)
    frames_THWD, spacing_mm = np.ascontiguousarray(orientation.to_working(frames_THWD)), orientation.spacing_mm
    segmenter.prepare(frames_THWD.shape[1:], spacing_mm)
    volumes = len(frames_THWD) if seconds is None else max(1, round(seconds * per_second)) if per_second else None
    inbox = VolumeQueue(queue_size, late if per_second else "wait")
    Replay(inbox, frames_THWD, volumes, per_second, seconds).start()
    masks_THWD = np.zeros(frames_THWD.shape, np.uint8)
    records: list[Record] = []
    interrupted: KeyboardInterrupt | None = None
    try:
        for record, mask in consume(inbox, segmenter, spacing_mm, volumes):
            masks_THWD[record.number % len(masks_THWD)] = mask
            records.append(record)
    except KeyboardInterrupt as error:
        if not records:
            raise
        interrupted = error  # the results so far are written first
    finally:
        inbox.close()
    seen = {record.number % len(masks_THWD) for record in records}
    masks_THWD = orientation.to_source(masks_THWD)
    summary = summarise(records, inbox.dropped, deadline_ms)
    doubts += [DOUBTFUL] if is_doubtful(masks_THWD, header.affine) else []
    summary["doubts"] = doubts
    result = {
        "format": FORMAT,
        "input": header.path.name,
        "phantom": is_phantom(header.path),
        "rate": per_second,
        "late": inbox.late,
        "runtime": segmenter.runtime.describe(),
        "summary": summary,
        "frames_without_mask": [frame + 1 for frame in range(len(masks_THWD)) if frame not in seen],
        "records": [{**asdict(record), "latency_ms": record.latency_ms} for record in records],
    }
    write_mask(f"{output}_seg.nii.gz", masks_THWD, like=input)
    write_json(f"{output}_stream.json", result)
    _log(summary, output)
    log_flags([{"flag": flag} for flag in doubts], header.path)
    if interrupted is not None:
        raise interrupted
    return {**result, "output": str(output)}


def _check(
    header: Header, output: Path, per_second: float | None, seconds: float | None, deadline_ms: float, existing: str
) -> None:
    for name, value in (("per_second", per_second), ("seconds", seconds), ("deadline_ms", deadline_ms)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (value is None and name != "deadline_ms") and not (number and 0 < value < float("inf")):  # type: ignore[operator]
            raise CineError(name, repr(value), "a number above 0", "Change the key.")
    if not header.is_cine:
        found = f"{len(header.file_shape)} dimensions"
        raise CineError(header.path, found, "a cine of 4 dimensions, H W D T", "Use the step infer for single volumes.")
    if existing not in ("error", "overwrite"):
        raise CineError("existing", repr(existing), "error or overwrite", "Change the key.")
    check_writable(output.parent)
    suffixes = ("_seg.nii.gz", "_stream.json", "_stream.png")
    begun = [path for suffix in suffixes if (path := Path(f"{output}{suffix}")).exists()]
    if begun and existing == "error":
        action = "Set existing to overwrite, or choose another output_dir."
        raise CineError(begun[0], "an existing result", "none", action)


def _log(summary: dict[str, Any], output: Path) -> None:
    per_second = summary["per_second"]
    logger.info(
        "%d of %d volumes segmented, %d dropped, %d later than %g ms (first volume separately: %.1f ms)\n"
        "arrival to mask p50 %.1f, p95 %.1f, p99 %.1f, max %.1f ms; network p50 %.1f, p95 %.1f ms; %s a second\n"
        "the device was in a slower state during %.0f %% of the volumes, as the network's ms show\n"
        "flags: %s; results in %s",
        *(summary[name] for name in ("segmented", "volumes", "dropped", "missed", "deadline_ms", "first_ms")),
        *(summary[name] for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms", "network_p50_ms", "network_p95_ms")),
        "-" if per_second is None else f"{per_second:.1f}",
        100 * summary["network_slow_share"],
        *(summary["flags"] or "none", output.parent),
    )
