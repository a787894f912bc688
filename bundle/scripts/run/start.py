"""The first call of every step: refuse mistyped keys, and turn bad input into a message and an exit code."""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
import signal
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import ignite.distributed as idist
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from scripts import BUNDLE_ROOT
from scripts.core.distributed import join, on_main
from scripts.core.errors import CineError, cine_error_of
from scripts.run.config_schema import check_values
from scripts.run.lock import hold, release
from scripts.run.monai_label import in_monai_label
from scripts.run.paths import check_path, is_path
from scripts.run.workflow import bundle_run, is_command, note_start, raise_reasons, running_workflow
from scripts.runtime.precision import bfloat16_pays

BAD_INPUT, INTERRUPTED = 2, 130
# arguments of `monai.bundle run` itself
_RUN_ARGUMENTS = {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"}


# types of the shipped values, and what may take their place
_KINDS: dict[tuple[type, ...], str] = {(int, float): "a number", (bool,): "true or false", (list, tuple): "a list"}

_FREE = {"label_map", "overrides"}  # their keys are the user's label values, and keys of the steps that compare runs


def start(work_dir: str | None = None, several: bool = False) -> None:
    """Check the run's overrides, overlays and values, and report what ends it.

    A command reports by ``as_command``. In a program, such as a notebook, a CineError is raised as it is; signals and
    exception hook stay the program's. MONAI Label reports errors, ends, and lets one training run at a time by itself.

    Args:
        work_dir: held for this run alone, where given.
        several: whether processes that torchrun started share the step.
    """
    alone, command, workflow = not in_monai_label(), is_command(), running_workflow()
    if alone and command:
        as_command()
    if workflow is not None:
        note_start(workflow)
    refusal = None
    try:
        _prepare(work_dir if alone else None, several)
    except CineError as error:
        if command or not alone or workflow is None:
            raise
        refusal = error
    if alone and command:
        as_command()  # torch put its own hook around it, which loses what is said before an exit
    elif alone and workflow is not None:
        raise_reasons(workflow, refusal, lambda: None if work_dir is None else release(work_dir))


def as_command() -> None:
    """Let ``report`` end this process, also on SIGTERM."""
    sys.excepthook = report
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is open closes, as on Ctrl-C


def _prepare(work_dir: str | None, several: bool) -> None:
    join(several)
    if several:
        bfloat16_pays(str(idist.device()))  # one precision for all, measured while they still do the same
    run, workflow = bundle_run(), running_workflow()
    if run is not None:
        _check_tracking(run["tracking"])
        check_keys(run["config_file"], run["override"], run["args_file"], run["tracking"])
    if workflow is not None:
        check_values(workflow.parser.config)
    if work_dir is not None:
        on_main(hold)(work_dir, " ".join(sys.argv[1:3]))


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Exception hook: a CineError, also one wrapped by MONAI, becomes its message and exit code 2.

    An interruption becomes exit code 130. Anything else is a fault of ours: traceback and exit code 1.
    """
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write(f"\nInterrupted. {error}\n")
        raise SystemExit(INTERRUPTED)
    cause = cine_error_of(error)
    if cause is None:
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(f"\nError: {cause}\n")
    raise SystemExit(BAD_INPUT)


def _check_tracking(tracking: Any) -> None:
    """What MONAI's switch knows by name, before a handler fails to import it."""
    if tracking in DEFAULT_EXP_MGMT_SETTINGS and importlib.util.find_spec(tracking) is None:
        action = f"pip install {tracking}, or leave --tracking out."
        raise CineError("tracking", f"{tracking}, which is not installed", "the package", action)


def check_keys(config_file: Any, override: dict[str, Any], args_file: Any = None, tracking: Any = None) -> None:
    """Hold every override against the configuration's keys, and every key of an overlay against all configs'.

    The settings that MONAI's ``tracking`` brings into the configuration may be overridden too.

    Raises:
        CineError: a key is unknown; names the nearest one. MONAI itself would accept it in silence.
    """
    arguments = _arguments(args_file)
    tracking = tracking if tracking is not None else arguments.get("tracking")
    files, override = _files_and_overrides(config_file, override, arguments)
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
        # what an overlay brings: the keys that it reads itself, and those of a component in place of the step's own
        read = {name.split("#")[0] for name in re.findall(r"@([\w#]+)", json.dumps(content))}
        brought = {k: v for k, v in content.items() if k in read or (k in known and isinstance(v, dict))}
        known = {**_flatten(brought), **known}
    if tracking is not None:
        settings: Any = DEFAULT_EXP_MGMT_SETTINGS.get(tracking) or ConfigParser.load_config_files(tracking)
        known = {**dict.fromkeys(settings["configs"]), **known}
    _refuse_unknown(override, known, files[0])
    _refuse_other_types(override, known, files[0])


def files_and_settings() -> tuple[list[str], dict[str, Any]]:
    """The configuration files of the run that evaluates us, and the sections that its overrides changed."""
    run, workflow = bundle_run(), running_workflow()
    assert run is not None and workflow is not None, "runs within a step"
    files, override = _files_and_overrides(run["config_file"], run["override"], _arguments(run["args_file"]))
    changed = {key.replace("::", "#").lstrip("+").split("#")[0] for key in override}
    return files, {key: workflow.parser.config[key] for key in changed}


def _arguments(args_file: Any) -> dict[str, Any]:
    """What stands in the file of arguments, where there is one."""
    if args_file is None:
        return {}
    return ConfigParser.load_config_file(args_file) if isinstance(args_file, str) else dict(args_file)


def _files_and_overrides(
    config_file: Any, override: dict[str, Any], arguments: dict[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    config_file = config_file if config_file is not None else arguments.get("config_file")
    override = {**{key: value for key, value in arguments.items() if key not in _RUN_ARGUMENTS}, **override}
    files = config_file.split(",") if isinstance(config_file, str) else [str(file) for file in config_file or []]
    return files, override


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


def _refuse_other_types(override: dict[str, Any], known: dict[str, Any], where: str) -> None:
    """Numbers stay numbers, lists lists, paths as they were typed, and nothing stays nothing, which MONAI leaves out.

    What is evaluated, referred to or "auto" is judged where it is used.
    """
    for key, value in override.items():
        key = key.replace("::", "#").lstrip("+")
        default, place = known.get(key), f"{where}, key {key}"
        if is_path(key):
            check_path(key, value, place, optional=default is None)
            continue
        if isinstance(value, str) and (value[:1] in ("$", "@", "%") or value == "auto"):
            continue
        if value is None and default is not None:
            raise CineError(place, "None, which MONAI leaves out", f"a value, such as {default!r}", "Correct it.")
        kinds = next((kinds for kinds in _KINDS if type(default) in kinds), None)
        if kinds is not None and type(value) not in kinds:
            raise CineError(place, repr(value), f"{_KINDS[kinds]}, such as {default!r}", "Correct it.")


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
