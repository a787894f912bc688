from __future__ import annotations

import subprocess
import sys

import pytest

from scripts import BUNDLE_ROOT
from scripts.entry import check_keys
from scripts.files import CineError

CONFIGS = BUNDLE_ROOT / "configs"


def test_a_mistyped_override_names_the_nearest_key():
    with pytest.raises(CineError, match="the key serach_epochs") as caught:
        check_keys(str(CONFIGS / "search.json"), {"serach_epochs": 3})
    assert "Did you mean search_epochs?" in str(caught.value)


@pytest.mark.parametrize("key", ["train#trainer#max_epoch", "train::trainer::max_epoch"])
def test_nested_keys_are_checked(key):
    with pytest.raises(CineError, match="Did you mean train#trainer#max_epochs"):
        check_keys(str(CONFIGS / "train.json"), {key: 3})


def test_keys_that_are_there_pass():
    check_keys(str(CONFIGS / "train.json"), {"train#trainer#max_epochs": 3, "train_epochs": 4, "+label_map": {}})
    check_keys([str(CONFIGS / "search.json"), str(CONFIGS / "demo.json")], {"budget_ms": 3})


def test_an_overlay_may_hold_keys_of_other_steps_but_no_unknown_one(tmp_path):
    check_keys([str(CONFIGS / "profile.json"), str(CONFIGS / "demo.json")], {})
    (tmp_path / "mine.json").write_text('{"patch_sise": [1, 1, 1]}')
    with pytest.raises(CineError, match="patch_sise") as caught:
        check_keys([str(CONFIGS / "train.json"), str(tmp_path / "mine.json")], {})
    assert str(tmp_path / "mine.json") in str(caught.value)


def test_nested_typos_in_overlays_and_overrides_are_refused(tmp_path):
    (tmp_path / "mine.json").write_text('{"space": {"layerz": 3}}')
    with pytest.raises(CineError, match="Did you mean space#layers"):
        check_keys([str(CONFIGS / "search.json"), str(tmp_path / "mine.json")], {})
    with pytest.raises(CineError, match="space#layerz"):
        check_keys(str(CONFIGS / "search.json"), {"space": {"layerz": 3}})


def test_a_whole_section_is_not_replaced_by_one_key():
    with pytest.raises(CineError, match="all of the section train"):
        check_keys(str(CONFIGS / "train.json"), {"train": {"trainer": {"max_epochs": 1}}})


def test_a_component_of_another_class_brings_its_own_keys():
    check_keys([str(CONFIGS / "search.json"), str(CONFIGS / "paper.json")], {})


def test_an_overlay_does_not_make_a_key_known_to_the_step():
    with pytest.raises(CineError, match="the key search_epochs"):
        check_keys([str(CONFIGS / "train.json"), str(CONFIGS / "quick.json")], {"search_epochs": 3})
    check_keys([str(CONFIGS / "train.json"), str(CONFIGS / "evaluate.json")], {"runtime#dtype": "float32"})


def test_files_joined_by_a_comma_are_all_checked(tmp_path):
    (tmp_path / "mine.json").write_text('{"patch_sise": 3}')
    with pytest.raises(CineError, match="patch_sise"):
        check_keys(f"{CONFIGS / 'train.json'},{tmp_path / 'mine.json'}", {})


def test_arguments_from_a_file_are_checked_too():
    with pytest.raises(CineError, match="train_epoch"):
        check_keys(None, {}, {"config_file": str(CONFIGS / "train.json"), "train_epoch": 3, "run_id": "train"})


def run(*arguments: str, cwd) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_bad_input_ends_in_its_message_and_exit_code_2(tmp_path):
    """Through MONAI's own command, from another folder: an error that MONAI wraps, and one of a mistyped key."""
    derive = run("derive", "--config_file", str(CONFIGS / "derive.json"), "--work_dir", "w", cwd=tmp_path)
    typo = run("derive", "--config_file", str(CONFIGS / "derive.json"), "--work_dri", "w", cwd=tmp_path)
    assert (derive.returncode, typo.returncode) == (2, 2)
    assert "Traceback" not in derive.stderr + typo.stderr
    assert "Did you mean work_dir?" in typo.stderr
