"""The stream: a cine is replayed as a scanner would send it, and segmented in time or late."""

from __future__ import annotations

import os
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
from scripts.live.orientation import Orientation
from scripts.live.records import Record, consume, content_of, log_summary, summarise
from scripts.live.segmenter import Segmenter, Status
from scripts.live.volume_queue import Arrival, Late, Replay, VolumeQueue
from scripts.quality.direction import DOUBTFUL, is_doubtful
from scripts.quality.flags import image_flags, log_flags


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

    def segment(arrival: Arrival) -> Status:
        mask, status = segmenter.segment(arrival.volume_HWD, spacing_mm)
        masks_THWD[arrival.number % len(masks_THWD)] = mask
        return status

    try:
        with tqdm(total=volumes, desc="stream", unit="volume") as bar:
            for record in consume(inbox, segment):
                bar.update(record.number + 1 - bar.n)
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
    result = content_of(
        header.path.name,
        summary,
        records,
        per_second,
        inbox.late,
        segmenter.runtime,
        is_phantom(header.path),
        [frame + 1 for frame in range(len(masks_THWD)) if frame not in seen],
    )
    write_mask(f"{output}_seg.nii.gz", masks_THWD, like=input)
    write_json(f"{output}_stream.json", result)
    log_summary(summary, output.parent)
    log_flags([{"flag": flag} for flag in doubts], header.path)
    if interrupted is not None:
        raise interrupted
    return {**result, "output": os.path.abspath(output)}


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
