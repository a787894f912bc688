"""What steps do not do in MONAI Label's processes, and the values they use there."""

from __future__ import annotations

import signal
import sys
from types import ModuleType

import pytest
from monai.bundle import ConfigParser

from scripts import BUNDLE_ROOT
from scripts.run import lock, start
from scripts.run.monai_label import by_host


@pytest.fixture
def monai_label(monkeypatch):
    monkeypatch.setitem(sys.modules, "monailabel", ModuleType("monailabel"))


@pytest.mark.parametrize("config", ["inference", "train"])
def test_a_step_works_where_it_is_run(config):
    parser = ConfigParser(ConfigParser.load_config_file(BUNDLE_ROOT / "configs" / f"{config}.json"))
    assert parser.get_parsed_content("work_dir") == "runs/rtdnas"


@pytest.mark.parametrize("config", ["inference", "train"])
def test_within_monai_label_it_works_in_the_folder_of_served_models(monai_label, config):
    parser = ConfigParser(ConfigParser.load_config_file(BUNDLE_ROOT / "configs" / f"{config}.json"))
    parser["bundle_root"] = "/served"
    assert parser.get_parsed_content("work_dir") == "/served/models"


def test_within_monai_label_no_exams_are_searched(monai_label):
    """It gives the exams; otherwise the phantom would be written and used."""
    parser = ConfigParser(ConfigParser.load_config_file(BUNDLE_ROOT / "configs" / "train.json"))
    assert parser.get_parsed_content("exams") is None and parser.get_parsed_content("split") is None
    assert parser.get_parsed_content("train#handlers#0#path") is None


def test_monai_label_keeps_its_exceptions_signals_and_folders(monai_label, tmp_path):
    before = sys.excepthook, signal.getsignal(signal.SIGTERM)
    start.start(str(tmp_path))
    assert (sys.excepthook, signal.getsignal(signal.SIGTERM)) == before
    assert not list(tmp_path.iterdir()) and not [path for path in lock._HELD if path.parent == tmp_path]


def test_a_value_by_host(monkeypatch):
    monkeypatch.delitem(sys.modules, "monailabel", raising=False)
    assert by_host("a", "b") == "a"
    monkeypatch.setitem(sys.modules, "monailabel", ModuleType("monailabel"))
    assert by_host("a", "b") == "b"
