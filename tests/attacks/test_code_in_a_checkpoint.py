"""A pickle that runs code when it is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from scripts import BUNDLE_ROOT
from scripts.core.errors import CineError
from scripts.train import checkpoint


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return exec, (f"open({str(self.trace)!r}, 'w')",)


def test_in_a_model(model_dir, opens, tmp_path):
    for content in (Payload(tmp_path / "trace"), {"stem.0.weight": Payload(tmp_path / "trace")}):
        torch.save(content, model_dir / "model.pt")
        with pytest.raises(CineError, match=r"a pickle that calls __builtin__\.exec"):
            opens(model_dir)
    assert not (tmp_path / "trace").exists()


def test_in_the_checkpoint_of_a_search_or_training(tmp_path):
    torch.save({"identity": {}, "parts": Payload(tmp_path / "trace")}, tmp_path / "checkpoint.pt")
    with pytest.raises(CineError, match=r"a pickle that calls __builtin__\.exec"):
        checkpoint.load(tmp_path / "checkpoint.pt", "cpu", {})
    assert not (tmp_path / "trace").exists()


def test_in_the_format_before_zip(model_dir, opens, tmp_path):
    """torch reads this format without an archive that could be checked first."""
    content = {"stem.0.weight": Payload(tmp_path / "trace")}
    torch.save(content, model_dir / "model.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CineError, match="BadZipFile"):
        opens(model_dir)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_in_another_protocol_of_pickle(model_dir, opens, tmp_path, protocol):
    torch.save(Payload(tmp_path / "trace"), model_dir / "model.pt", pickle_protocol=protocol)
    with pytest.raises(CineError, match="a pickle"):
        opens(model_dir)
    assert not (tmp_path / "trace").exists()


def test_ends_the_command_with_exit_code_2(model_dir, tmp_path):
    torch.save(Payload(tmp_path / "trace"), model_dir / "model.pt")
    config = BUNDLE_ROOT / "configs" / "stream.json"
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "stream", "--config_file", str(config)]
    arguments = ["--work_dir", str(model_dir), "--backend", "eager"]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "a pickle that calls __builtin__.exec" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "trace").exists()
