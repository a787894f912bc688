"""The first call of every step: refuse mistyped keys, and turn bad input into a message and an exit code."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from monai.bundle import ConfigParser

from scripts import BUNDLE_ROOT
from scripts.files import CineError

BAD_INPUT = 2
# arguments of `monai.bundle run` itself
_RUN_ARGUMENTS = {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"}


def start() -> None:
    """Check the run's overrides and overlays, and install the handler that reports bad input."""
    sys.excepthook = report
    run = _bundle_run(sys._getframe())
    if run is not None:
        check_keys(run["config_file"], run["override"], run["args_file"])


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Exception hook: a CineError, also one wrapped by MONAI, becomes its message and exit code 2."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CineError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(f"\nError: {cause}\n")
    raise SystemExit(BAD_INPUT)


def check_keys(config_file: Any, override: dict[str, Any], args_file: Any = None) -> None:
    """Hold every override against the configuration's keys, and every key of an overlay against all configs'.

    Raises:
        CineError: a key is unknown; names the nearest one. MONAI itself would accept it in silence.
    """
    if args_file is not None:
        arguments = ConfigParser.load_config_file(args_file) if isinstance(args_file, str) else dict(args_file)
        config_file = config_file if config_file is not None else arguments.get("config_file")
        override = {**{k: v for k, v in arguments.items() if k not in _RUN_ARGUMENTS}, **override}
    files = [config_file] if isinstance(config_file, (str, Path)) else list(config_file or [])
    base, *overlays = files
    known = _keys(ConfigParser.load_config_files(base))
    everywhere = set(known)
    for shipped in (BUNDLE_ROOT / "configs").glob("*.json"):
        everywhere |= _keys(ConfigParser.load_config_file(shipped))
    for overlay in overlays:
        content = ConfigParser.load_config_file(overlay)
        _refuse_unknown(content, everywhere, overlay)
        known |= _keys(content)
    _refuse_unknown(override, known, base)


def _refuse_unknown(keys: Any, known: set[str], where: Any) -> None:
    for key in keys:
        key = key.replace("::", "#").lstrip("+")
        if key not in known and not key.startswith("_"):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "see the file for its keys."
            raise CineError(where, f"the key {key}", "a key of the configuration", hint.capitalize())


def _keys(content: Any, prefix: str = "") -> set[str]:
    """All ids of a configuration, nested ones joined by #."""
    items: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(content, dict):
        items = iter(content.items())
    elif isinstance(content, list):
        items = iter(enumerate(content))
    keys = set()
    for key, value in items:
        name = f"{prefix}{key}".replace("::", "#")
        keys |= {name} | _keys(value, f"{name}#")
    return keys


def _bundle_run(frame: FrameType | None) -> dict[str, Any] | None:
    """The arguments of the `monai.bundle run` that evaluates us; MONAI hands expressions no other way to them."""
    while frame is not None:
        if frame.f_code.co_name == "run" and frame.f_globals.get("__name__") == "monai.bundle.scripts":
            return frame.f_locals
        frame = frame.f_back
    return None
