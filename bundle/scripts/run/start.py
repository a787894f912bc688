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
from scripts.run.busy import warn_if_busy
from scripts.run.config_schema import check_values
from scripts.run.lock import hold, release
from scripts.run.monai_label import in_monai_label
from scripts.run.paths import check_path, is_path
from scripts.run.workflow import bundle_run, is_command, note_start, raise_reasons, running_workflow
from scripts.runtime.precision import bfloat16_pays

BAD_INPUT, INTERRUPTED = 2, 130
# the arguments of `monai.bundle run` itself
_RUN_ARGUMENTS = {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"}


# the types of the shipped values, and how a message names the types that may replace them
_KINDS: dict[tuple[type, ...], str] = {(int, float): "a number", (bool,): "true or false", (list, tuple): "a list"}

_FREE = {"label_map", "overrides"}  # with the user's own keys: label values, or keys of the steps that `compare` runs


def start(work_dir: str | None = None, several: bool = False) -> None:
    """Check the run's overrides, overlays and values, and prepare how errors are reported.

    A command reports errors by ``as_command``. In a program, such as a notebook, a CineError is raised as it is, and
    the program keeps its own signal handlers and exception hook. MONAI Label handles errors, ends and locks by itself.

    Args:
        work_dir: the folder to lock for this run, if given.
        several: whether processes that torchrun started share the step.
    """
    as_host, command, workflow = in_monai_label(), is_command(), running_workflow()
    if command and not as_host:
        as_command()
    if workflow is not None:
        note_start(workflow)
    refusal = None
    try:
        _prepare(None if as_host else work_dir, several)
    except CineError as error:
        if command or as_host or workflow is None:
            raise
        refusal = error
    if as_host:
        return
    if command:
        as_command()  # again: torch has wrapped the hook, and its wrapper loses messages before an exit
    elif workflow is not None:
        raise_reasons(workflow, refusal, lambda: None if work_dir is None else release(work_dir))


def as_command() -> None:
    """Let ``report`` handle the error that ends this process; SIGTERM then works like Ctrl-C."""
    sys.excepthook = report
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that open files are closed


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
    if is_command() and not several:  # the processes of one run would take each other for other programs
        warn_if_busy()


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Exception hook: write the message of a CineError, also of one that MONAI wrapped, and exit with code 2.

    An interruption exits with code 130. Any other error is a fault of this code: traceback and exit code 1.
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
    """Refuse a tracker that MONAI supports but that is not installed, before a handler fails to import it."""
    if tracking in DEFAULT_EXP_MGMT_SETTINGS and importlib.util.find_spec(tracking) is None:
        action = f"pip install {tracking}, or leave out --tracking."
        raise CineError("tracking", f"{tracking}, which is not installed", "the package", action)


def check_keys(config_file: Any, override: dict[str, Any], args_file: Any = None, tracking: Any = None) -> None:
    """Check that the configuration has every overridden key, and that some shipped config has every key of an overlay.

    The settings that MONAI's ``tracking`` adds to the configuration may be overridden too.

    Raises:
        CineError: a key is unknown; the message names the nearest one. MONAI itself would accept such a key silently.
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
        if "run" in content:  # more than an overlay: a step, such as evaluate.json over train.json
            known |= _flatten(content)
        # what an overlay adds: the keys that it reads itself, and those of a component that it replaces
        read = {name.split("#")[0] for name in re.findall(r"@([\w#]+)", json.dumps(content))}
        brought = {k: v for k, v in content.items() if k in read or (k in known and isinstance(v, dict))}
        known = {**_flatten(brought), **known}
    if tracking is not None:
        settings: Any = DEFAULT_EXP_MGMT_SETTINGS.get(tracking) or ConfigParser.load_config_files(tracking)
        known = {**dict.fromkeys(settings["configs"]), **known}
    _refuse_unknown(override, known, files[0])
    _refuse_other_types(override, known, files[0])


def files_and_settings() -> tuple[list[str], dict[str, Any]]:
    """The configuration files of the run that runs this code, and the sections that its overrides changed."""
    run, workflow = bundle_run(), running_workflow()
    assert run is not None and workflow is not None, "this must run within a step"
    files, override = _files_and_overrides(run["config_file"], run["override"], _arguments(run["args_file"]))
    changed = {key.replace("::", "#").lstrip("+").split("#")[0] for key in override}
    return files, {key: workflow.parser.config[key] for key in changed}


def _arguments(args_file: Any) -> dict[str, Any]:
    """The contents of the file of arguments, if there is one."""
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
    """Refuse an override of another type: of a number, a list or a path, or None, which MONAI would ignore.

    Expressions, references and "auto" are checked where they are used.
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
