"""Who runs the configurations: MONAI's command, or a program such as a notebook, which gets errors as exceptions."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from monai.bundle import BundleWorkflow, ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from scripts.core.errors import CineError, cine_error_of

_STARTS: WeakKeyDictionary[BundleWorkflow, float] = WeakKeyDictionary()
_IMPORTED = time.time()


def running_workflow() -> BundleWorkflow | None:
    """The workflow that runs this code; None outside of one."""
    return next((f.f_locals["self"] for f in _frames() if isinstance(f.f_locals.get("self"), BundleWorkflow)), None)


def running_parser() -> ConfigParser:
    """The parser of the running configuration; LookupError outside of one."""
    parsers = (f.f_locals["self"] for f in _frames() if isinstance(f.f_locals.get("self"), ConfigParser))
    found = next(parsers, None)
    if found is None:
        raise LookupError("no configuration is running")
    return found


def bundle_run() -> dict[str, Any] | None:
    """The arguments of the `monai.bundle run` that runs this code; MONAI gives expressions no other access to them."""
    for frame in _frames():
        if frame.f_code.co_name == "run" and frame.f_globals.get("__name__") == "monai.bundle.scripts":
            return frame.f_locals
    return None


def is_command() -> bool:
    """Whether `python -m monai.bundle` runs this code; then it may set the process's signal handlers and exit code."""
    modules = ((f.f_globals.get("__name__"), f.f_globals.get("__package__")) for f in _frames())
    return ("__main__", "monai.bundle") in modules


def note_start(workflow: BundleWorkflow) -> None:
    """Remember that a step of a workflow begins."""
    _STARTS[workflow] = time.time()


def started() -> float:
    """When the running step began (s since the epoch); outside of a step, when this module was imported."""
    workflow = running_workflow()
    return _IMPORTED if workflow is None else _STARTS.get(workflow, _IMPORTED)


def raise_reasons(workflow: Any, refusal: CineError | None, ended: Callable[[], None]) -> None:
    """For the rest of the running step, raise a CineError itself, instead of MONAI's error that wraps it.

    MONAI's message only names the expression that failed; a program would have to search it for the cause.

    Args:
        workflow: evaluates the list of its ``run_id``, item by item.
        refusal: an error that the next item must raise, since MONAI already wraps errors of the present item.
        ended: called once, after the last item or after an error.
    """
    parser = workflow.parser
    items, parse = parser[workflow.run_id], type(parser).get_parsed_content
    last = f"{workflow.run_id}{ID_SEP_KEY}{len(items) - 1}" if isinstance(items, list) else workflow.run_id

    def finish() -> None:
        vars(parser).pop("get_parsed_content", None)
        ended()

    def get_parsed_content(id: str = "", **keys: Any) -> Any:
        try:
            if refusal is not None:
                raise refusal
            content = parse(parser, id, **keys)
        except BaseException as error:
            finish()
            reason = cine_error_of(error) if isinstance(error, Exception) else None
            if reason is None or reason is error:
                raise
            raise reason from reason.__cause__
        if id == last:
            finish()
        return content

    parser.get_parsed_content = get_parsed_content


def _frames() -> Iterator[FrameType]:
    """The callers' frames, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
