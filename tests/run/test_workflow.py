"""MONAI's run() in a program such as a notebook: errors are exceptions, and the process is not changed."""

from __future__ import annotations

import json
import logging
import signal
import sys

import pytest
from filelock import FileLock
from monai.bundle import run

from scripts.core.errors import CineError
from scripts.run import lock
from scripts.run.start import as_command
from scripts.run.workflow import is_command, started

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")


def refuse():
    raise CineError("exam", "nothing", "voxels", "Export it again.") from OSError("disk")


@pytest.fixture
def step(tmp_path, monkeypatch):
    """Runs the step of a configuration whose second item is an expression; returns what was set in sys and signal."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)
    (tmp_path / "metadata.json").write_text("{}")

    def of(expression, **keys):
        start = {"_target_": "scripts.run.start.start", "work_dir": "@work_dir"}
        content = {
            "imports": ["$import rtdnas_first", "$import test_caller"],
            "work_dir": str(tmp_path / "work"),
            "fold": 0,
            "step": [start, expression, "$print('the last item')"],
        }
        (tmp_path / "config.json").write_text(json.dumps(content))
        before = sys.excepthook, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        try:
            run("step", config_file=str(tmp_path / "config.json"), **keys)
        finally:
            after = sys.excepthook, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
            assert after == before
            if (tmp_path / "work").exists():
                FileLock(tmp_path / "work" / lock.LOCK).acquire(blocking=False).lock.release(force=True)
            logging.getLogger("ignite").setLevel(logging.NOTSET)

    sys.modules.setdefault("test_caller", sys.modules[__name__])
    return of


def test_bad_input_is_raised_as_it_is(step):
    with pytest.raises(CineError, match=r"^exam: found nothing; expected voxels\. Export it again\.$") as caught:
        step("$test_caller.refuse()")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("keys", "message"), [({"fodl": 1}, "Did you mean fold"), ({"fold": -1}, "field fold: found -1")]
)
def test_a_key_refused_at_the_start_is_raised_as_it_is(step, keys, message):
    with pytest.raises(CineError, match=message):
        step("$print('never')", **keys)


def test_other_errors_keep_monai_s_wrapping_error(step):
    with pytest.raises(RuntimeError, match="Failed to evaluate") as caught:
        step("$1 / 0")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_passed_on(step, raised):
    with pytest.raises(raised):
        step(f"$(_ for _ in ()).throw({raised.__name__})")


def test_a_good_run_ends_and_can_be_repeated(step, capsys):
    for _ in range(2):
        step("$print('the work')")
    assert capsys.readouterr().out.split("\n").count("the last item") == 2


def test_a_program_is_not_a_command():
    assert not is_command()
    scope = {"__name__": "__main__", "__package__": "monai.bundle", "is_command": is_command}
    assert eval("is_command()", scope)


def test_a_command_reports_errors_and_ends_on_sigterm(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = signal.getsignal(signal.SIGTERM)
    try:
        as_command()
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        with pytest.raises(SystemExit) as ending:
            sys.excepthook(CineError, CineError("a", "b", "c", "d"), None)
        assert ending.value.code == 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_started_is_the_time_of_the_running_step(step, monkeypatch):
    begun = []
    monkeypatch.setattr(sys.modules["test_caller"], "note", lambda: begun.append(started()), raising=False)
    for _ in range(2):
        step("$test_caller.note()")
    assert started() < begun[0] < begun[1]
