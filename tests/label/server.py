"""A MONAI Label server on loopback, in its own folder: every wait has a limit, and the server is always stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

STARTUP = Path(__file__).with_name("startup")
UP_S, ANSWER_S, DOWN_S, LOG_S, INFER_S = 90, 240, 15, 5, 150
TAIL = 60


class Server:
    """Context manager: the server runs inside.

    Args:
        folder: its subfolders ``app`` (with the bundle in ``app/model``) and ``studies`` are served. The log, home and
            working directory of the server are also there.
        model: the bundle's name.
    """

    def __init__(self, folder: Path, model: str):
        self.folder, self.model = folder, model
        self.log = folder / "server.log"
        self.place, self.home = folder / "place", folder / "home"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        for made in (self.place, self.home):
            made.mkdir(exist_ok=True)
        conf = {"models": self.model, "zoo_source": "local", "sam2": "false"}  # local: nothing is downloaded
        command = [
            sys.executable,
            "-m",
            "monailabel.main",
            "start_server",
            "--app",
            "../app",
            "--studies",
            "../studies",
        ]
        command += [part for pair in conf.items() for part in ("--conf", *pair)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.place, env=environment(self.home), stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):  # the session: also processes that it started
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(DOWN_S)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue

    def ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        with requests.Session() as session:  # one per request: the server closes the connection after an error
            session.trust_env = False  # no proxy
            return session.request(method, f"{self.url}/{path}", timeout=ANSWER_S, **arguments)

    def logs(self, text: str) -> None:
        """Wait for a text in the log, which is written after the answer."""
        end = time.monotonic() + LOG_S
        while text not in self.log.read_text(errors="replace"):
            assert time.monotonic() < end, f"nothing in the log of {text!r}"
            time.sleep(0.1)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL:])

    def _wait(self) -> None:
        end = time.monotonic() + UP_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with code {self.process.returncode}")
            try:
                if self.ask("GET", "info/").ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.3)
        raise RuntimeError(f"the server gave no answer within {UP_S} s")


def environment(home: Path) -> dict[str, str]:
    """The environment: only loopback, and none of the caller's folders."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    kept.pop("XDG_CACHE_HOME", None)
    return {**kept, "HOME": str(home), "PYTHONPATH": str(STARTUP), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def app(folder: Path) -> Path:
    """A copy of MONAI Label's own app for bundles, as from ``monailabel apps --download``."""
    return Path(shutil.copytree(Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle", folder / "app"))


def infer(bundle: Path, home: Path, **overrides: object) -> None:
    """Run the step infer of a bundle as a command, with the home of the server and in its working directory.

    The faster precision, which also determines the rounding of logits, is measured once per home.
    """
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "infer"]
    command += ["--config_file", str(bundle / "configs" / "inference.json")]
    command += [part for key, value in overrides.items() for part in (f"--{key}", str(value))]
    home.mkdir()
    done = subprocess.run(
        command, cwd=home, env=environment(home), capture_output=True, text=True, timeout=INFER_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"infer ended with code {done.returncode}:\n{done.stderr[-3000:]}")
