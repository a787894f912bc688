from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
from filelock import FileLock, Timeout

from scripts import BUNDLE_ROOT
from scripts.core.errors import CineError
from scripts.run.lock import hold, release


def _hold_and_wait(folder, held):
    hold(folder, "search")
    held.set()
    signal.pause()


@pytest.fixture
def other(tmp_path):
    """Another process that has locked the folder."""
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=_hold_and_wait, args=(tmp_path, held))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_second_run_is_refused_while_the_first_one_is_alive(other, tmp_path):
    with pytest.raises(CineError, match=f"search, process {other.pid} on ") as caught:
        hold(tmp_path, "train")
    assert "choose another work_dir" in str(caught.value)
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    hold(tmp_path, "train")
    assert (tmp_path / ".holder").read_text().startswith(f"train, process {os.getpid()} on ")


def test_a_run_may_lock_its_folder_again_and_other_folders(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
        hold(folder, "search")


def test_a_released_folder_is_free_for_others(tmp_path):
    hold(tmp_path, "search")
    with pytest.raises(Timeout):
        FileLock(tmp_path / ".lock").acquire(blocking=False)
    release(tmp_path)
    with FileLock(tmp_path / ".lock").acquire(blocking=False):
        pass


WITHOUT = "import sys; sys.modules.update(fcntl=None, resource=None); "
"""Python on Windows has neither of these modules."""


@pytest.mark.parametrize(("wrote", "system"), [(False, ""), (True, ""), (True, WITHOUT)])
def test_a_folder_with_only_a_lock_is_removed(tmp_path, wrote, system):
    folder = tmp_path / "mistyped"
    script = f"{system}import sys; sys.path.insert(0, {str(BUNDLE_ROOT)!r})"
    script += "; from scripts.run.lock import hold; hold(sys.argv[1], 'x')"
    if wrote:
        script += "; open(sys.argv[1] + '/result', 'w').close()"
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)
    assert folder.exists() == wrote
