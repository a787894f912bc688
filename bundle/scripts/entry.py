"""The first call of every step: refuse mistyped keys, and turn bad input into a message and an exit code."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any

from monai.bundle import ConfigParser

from scripts import BUNDLE_ROOT
from scripts.files import CineError

BAD_INPUT = 2
# arguments of `monai.bundle run` itself
_RUN_ARGUMENTS = {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"}


_FREE = {"label_map"}  # its keys are the user's label values


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
    files = config_file.split(",") if isinstance(config_file, str) else [str(file) for file in config_file or []]
    base = ConfigParser.load_config_files(files[:1])
    known = _flatten(base)
    everywhere = dict(known)
    for shipped in (BUNDLE_ROOT / "configs").glob("*.json"):
        everywhere = {**_flatten(ConfigParser.load_config_file(shipped)), **everywhere}
    for overlay in files[1:]:
        content = ConfigParser.load_config_file(overlay)
        _refuse_unknown(content, everywhere, overlay)
        if "run" in content:  # no mere overlay: a step of its own, such as evaluate.json over train.json
            known |= _flatten(content)
    _refuse_unknown(override, known, files[0])


def _refuse_unknown(content: dict[str, Any], known: dict[str, Any], where: str) -> None:
    for key, value in content.items():
        key = key.replace("::", "#").lstrip("+")
        if key.startswith("_") or key in _FREE:
            continue
        if key not in known:
            raise _unknown(key, known, where)
        section = known[key]
        if not (isinstance(value, dict) and isinstance(section, dict)):
            continue
        if "_target_" not in section:
            expected = "single keys, such as " + next(name for name in known if name.startswith(f"{key}#"))
            raise CineError(where, f"all of the section {key}", expected, "Join nested keys by # to keep the rest.")
        if value.get("_target_", section["_target_"]) == section["_target_"]:
            for child in value:
                if f"{key}#{child}" not in known and not child.startswith("_"):
                    raise _unknown(f"{key}#{child}", known, where)


def _unknown(key: str, known: dict[str, Any], where: str) -> CineError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    action = f"Did you mean {near[0]}?" if near else "See the file for its keys."
    return CineError(where, f"the key {key}", "a key of this step's configuration", action)


def _flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    """Every id of a configuration, nested ones joined by #, with its value."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    ids: dict[str, Any] = {}
    for key, value in items:
        name = f"{prefix}{key}".replace("::", "#")
        ids |= {name: value, **_flatten(value, f"{name}#")}
    return ids


def _bundle_run(frame: FrameType | None) -> dict[str, Any] | None:
    """The arguments of the `monai.bundle run` that evaluates us; MONAI hands expressions no other way to them."""
    while frame is not None:
        if frame.f_code.co_name == "run" and frame.f_globals.get("__name__") == "monai.bundle.scripts":
            return frame.f_locals
        frame = frame.f_back
    return None
