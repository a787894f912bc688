"""The step serve under load: from a client's send to the receipt of the mask, and what the transport adds to that.

The service is the command, in a process of its own. A client sends a cine over loopback at a scanner's rate, again and
again. ``plain`` is OpenIGTLink on a blocking socket, ``pyigtl`` a user's client with polls of 10 ms, ``mrd`` sends each
volume slice by slice. What the transport adds is the time from send to mask without the segmenter's own time. It
includes any wait, so it says something about the transport only where no volume is dropped.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyigtl
import shared
from stream import resized

from scripts.cine.reader import read_volume
from scripts.exams.load import sample_cine
from scripts.runtime.autotune import choose_runtime
from scripts.serve import mrd_messages, openigtlink_messages

WAIT_S = 120.0
STAMP = slice(34, 42)


class Plain:
    """OpenIGTLink on a blocking socket; the timestamp holds the number of the volume."""

    def __init__(self, connection: socket.socket, frames_THWD: np.ndarray, affine: np.ndarray):
        self.connection = connection
        images = (pyigtl.ImageMessage(frame.transpose(2, 1, 0), affine, "ras") for frame in frames_THWD)
        self.messages = [bytearray(image.pack()) for image in images]

    def send(self, number: int) -> None:
        message = self.messages[number % len(self.messages)]
        message[STAMP] = struct.pack(">Q", number)
        self.connection.sendall(message)

    def receive(self) -> int:
        """The number of the next mask."""
        while True:
            header = openigtlink_messages.parse_header(self.read(58))
            self.read(header.size)
            if header.kind == "IMAGE":
                return int(struct.unpack(">Q", header.stamp)[0])

    def read(self, size: int) -> bytearray:
        content = bytearray(size)
        view = memoryview(content)
        while len(view):
            count = self.connection.recv_into(view)
            if not count:
                raise ConnectionError("the service ended")
            view = view[count:]
        return content


class Pyigtl:
    """A user's client; its timestamps are seconds."""

    def __init__(self, port: int, frames_THWD: np.ndarray, affine: np.ndarray):
        self.client = pyigtl.OpenIGTLinkClient("127.0.0.1", port)
        self.frames_THWD, self.affine = frames_THWD, affine

    def send(self, number: int) -> None:
        image = self.frames_THWD[number % len(self.frames_THWD)].transpose(2, 1, 0)
        self.client.send_message(pyigtl.ImageMessage(image, self.affine, "ras", timestamp=number), wait=False)

    def receive(self) -> int:
        """The number of the next mask."""
        message = self.client.wait_for_message("Heart", timeout=WAIT_S)
        if message is None:
            raise ConnectionError("the service ended")
        return round(message.timestamp)


class Mrd(Plain):
    """MRD on a blocking socket, slice by slice; the repetition holds the number of the volume, modulo 65536."""

    def __init__(self, connection: socket.socket, frames_THWD: np.ndarray, affine: np.ndarray):
        self.connection = connection
        self.depth = frames_THWD.shape[3]
        self.messages = [bytearray(_slices(frame_HWD, affine)) for frame_HWD in frames_THWD]
        limits = f"<slice><minimum>0</minimum><maximum>{self.depth - 1}</maximum></slice>"
        path = "ismrmrdHeader", "encoding", "encodingLimits"
        xml = "".join(f"<{name}>" for name in path) + limits + "".join(f"</{name}>" for name in reversed(path))
        connection.sendall(struct.pack("<HI", mrd_messages.HEADER, len(xml)) + xml.encode())

    def send(self, number: int) -> None:
        message = self.messages[number % len(self.messages)]
        length, place = len(message) // self.depth, 2 + mrd_messages.ismrmrd.ImageHeader.repetition.offset
        for k in range(self.depth):
            struct.pack_into("<H", message, k * length + place, number % 2**16)
        self.connection.sendall(message)

    def receive(self) -> int:
        """The number of the next mask, when its text is there."""
        number = -1
        while True:
            (kind,) = struct.unpack("<H", self.read(2))
            if kind != mrd_messages.IMAGE:
                mrd_messages.skip(kind, self.read)
                return number
            number = mrd_messages.read_image(self.read)().head.repetition


def _slices(frame_HWD: np.ndarray, affine: np.ndarray) -> bytes:
    lengths_mm = np.linalg.norm(affine[:3, :3], axis=0)
    lps = np.diag([-1.0, -1.0, 1.0])
    directions = (lps @ affine[:3, :3] / lengths_mm).T
    content = b""
    for k in range(frame_HWD.shape[2]):
        image = mrd_messages.ismrmrd.Image.from_array(np.ascontiguousarray(frame_HWD[:, :, k].T))
        head = image.getHead()
        head.field_of_view = tuple(lengths_mm * (*frame_HWD.shape[:2], 1))
        head.read_dir, head.phase_dir, head.slice_dir = (tuple(axis) for axis in directions)
        head.position, head.slice, head.image_type = tuple(lps @ affine[:3, 2] * k), k, 1
        image.setHead(head)
        content += struct.pack("<H", mrd_messages.IMAGE) + image.to_bytes()
    return content


def measure(client: Any, per_second: float, seconds: float) -> dict[int, float]:
    """Send at a rate; number of a volume -> ms from its send to its mask. The first volume is not among them."""
    client.send(0)
    client.receive()
    volumes = max(1, round(seconds * per_second))
    sent: dict[int, float] = {}
    got: dict[int, float] = {}

    def send() -> None:
        start = time.perf_counter()
        for number in range(1, volumes + 1):
            time.sleep(max(0.0, start + (number - 1) / per_second - time.perf_counter()))
            sent[number] = time.perf_counter()
            client.send(number)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    while not got or max(got) < volumes:  # the newest wins, so the last one has a mask
        number = client.receive()
        got[number] = time.perf_counter()
    sender.join()
    return {number: 1000 * (got[number] - sent[number]) for number in got}


def run(arguments: Any, cine: str, folder: str) -> dict[str, Any]:
    """Start the service, measure, end it, and compare with what it says about the same volumes."""
    frames_THWD, header = read_volume(cine)
    frames_THWD = np.ascontiguousarray(frames_THWD, dtype=np.int16)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = {"protocol": "mrd" if arguments.client == "mrd" else "openigtlink", "port": port, "output_dir": folder}
    keys |= {"work_dir": arguments.work_dir, "precision": arguments.precision, "backend": arguments.backend}
    keys |= {"device": arguments.device, "once": True}
    keys = {name: value for name, value in keys.items() if not (name == "precision" and value == "auto")}
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "serve", "--config_file"]
    command += shared.config_files("serve") + [f"--{name}={value}" for name, value in keys.items()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as service:
        try:
            client, close = _connected(arguments.client, service, port, frames_THWD, header.affine)
            took_ms = measure(client, arguments.per_second, arguments.seconds)
            close()
            log = service.communicate(timeout=WAIT_S)[1]
        finally:
            service.kill()
    if service.returncode:
        raise SystemExit(log)
    (file,) = Path(folder).glob("*_stream.json")
    result = json.loads(file.read_text(encoding="utf-8"))
    segmenter_ms = {record["number"]: record["status"]["milliseconds"] for record in result["records"]}
    added_ms = [ms - segmenter_ms[number] for number, ms in took_ms.items() if number in segmenter_ms]
    return {
        **_percentiles("", list(took_ms.values())),
        **_percentiles("segmenter_", [segmenter_ms[number] for number in took_ms if number in segmenter_ms]),
        **_percentiles("added_", added_ms),
        "volumes": len(took_ms),
        "dropped": result["summary"]["dropped"],
    }


def _connected(
    kind: str, service: subprocess.Popen[str], port: int, frames_THWD: np.ndarray, affine: np.ndarray
) -> tuple[Any, Callable[[], object]]:
    """The client, and how to end it."""
    assert service.stderr is not None
    log = ""
    while "listening at" not in log:
        line = service.stderr.readline()
        log += line
        if not line:
            raise SystemExit(log)
    if kind == "pyigtl":
        client = Pyigtl(port, frames_THWD, affine)
        return client, client.client.stop
    connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return {"plain": Plain, "mrd": Mrd}[kind](connection, frames_THWD, affine), connection.close


def _percentiles(prefix: str, ms: list[float]) -> dict[str, float]:
    return {f"{prefix}p{q}_ms": float(np.percentile(ms, q)) for q in (50, 95, 99)}


def main() -> None:
    options = shared.parser(__doc__ or "")
    options.add_argument("--work_dir", default="runs/rtdnas", help="of a training; without one, the shipped network")
    options.add_argument("--input", help="a 4D NIfTI; default: the phantom's")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--per_second", type=float, default=22.0)
    options.add_argument("--client", choices=("plain", "pyigtl", "mrd"), default="plain")
    options.add_argument("--runs", type=int, default=1)
    options.add_argument(
        "--size", type=int, nargs=3, metavar=("H", "W", "D"), help="first put the cine into a field of this size"
    )
    arguments = options.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        cine = arguments.input or str(sample_cine())
        cine = resized(cine, tuple(arguments.size), folder) if arguments.size else cine
        for number in range(arguments.runs):
            runs.append(run(arguments, cine, f"{folder}/{number}"))
    shared.table(
        ["run", *runs[0]], [[i + 1, *(f"{value:.1f}" for value in run.values())] for i, run in enumerate(runs)]
    )
    runtime = choose_runtime(arguments.device, arguments.precision, arguments.backend)
    shared.finish(
        {"client": arguments.client, "per_second": arguments.per_second, "runs": runs}, arguments.json, runtime
    )


if __name__ == "__main__":
    main()
