from __future__ import annotations

import subprocess
import sys

import pytest

from scripts import BUNDLE_ROOT
from scripts.core.errors import CineError
from scripts.run import start
from scripts.run.start import check_keys

CONFIGS = BUNDLE_ROOT / "configs"


def test_an_error_for_a_mistyped_override_names_the_nearest_key():
    with pytest.raises(CineError, match="the key serach_epochs") as caught:
        check_keys(str(CONFIGS / "search.json"), {"serach_epochs": 3})
    assert "Did you mean search_epochs?" in str(caught.value)


@pytest.mark.parametrize("key", ["train#trainer#max_epoch", "train::trainer::max_epoch"])
def test_nested_keys_are_checked(key):
    with pytest.raises(CineError, match="Did you mean train#trainer#max_epochs"):
        check_keys(str(CONFIGS / "train.json"), {key: 3})


def test_existing_keys_pass():
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


def test_a_section_is_not_replaced_by_one_key():
    with pytest.raises(CineError, match="all of the section train"):
        check_keys(str(CONFIGS / "train.json"), {"train": {"trainer": {"max_epochs": 1}}})


def test_a_component_of_another_class_adds_its_own_keys():
    check_keys([str(CONFIGS / "search.json"), str(CONFIGS / "paper.json")], {})


def test_an_overlay_does_not_make_a_key_known_to_the_step():
    with pytest.raises(CineError, match="the key search_epochs"):
        check_keys([str(CONFIGS / "train.json"), str(CONFIGS / "quick.json")], {"search_epochs": 3})
    check_keys([str(CONFIGS / "train.json"), str(CONFIGS / "evaluate.json")], {"runtime#dtype": "float32"})


def test_a_component_of_an_overlay_adds_its_keys_to_those_that_may_be_overridden():
    files = [str(CONFIGS / f"{name}.json") for name in ("train", "baseline_unet_2d_d3_16")]
    check_keys(files, {"network_def#deployment_size": [64, 64, 6]})
    with pytest.raises(CineError, match="Did you mean network_def#deployment_size"):
        check_keys(files, {"network_def#deploymentsize": [64, 64, 6]})


def test_files_joined_by_a_comma_are_all_checked(tmp_path):
    (tmp_path / "mine.json").write_text('{"patch_sise": 3}')
    with pytest.raises(CineError, match="patch_sise"):
        check_keys(f"{CONFIGS / 'train.json'},{tmp_path / 'mine.json'}", {})


def test_arguments_from_a_file_are_also_checked():
    with pytest.raises(CineError, match="train_epoch"):
        check_keys(None, {}, {"config_file": str(CONFIGS / "train.json"), "train_epoch": 3, "run_id": "train"})


def test_settings_of_experiment_trackers_may_be_overridden():
    check_keys(str(CONFIGS / "train.json"), {"experiment_name": "mine", "output_dir": "elsewhere"}, None, "mlflow")
    with pytest.raises(CineError, match="Did you mean experiment_name"):
        check_keys(str(CONFIGS / "train.json"), {"experiment_nam": "mine"}, None, "mlflow")
    with pytest.raises(CineError, match="the key experiment_name"):
        check_keys(str(CONFIGS / "train.json"), {"experiment_name": "mine"})


def run(*arguments: str, cwd) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_bad_input_ends_in_its_message_and_exit_code_2(tmp_path):
    """With MONAI's own command, from another folder: an error that MONAI wraps, and one for a mistyped key.

    The folder contains a package with the same name as ours, as in many projects.
    """
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("")
    derive = run("derive", "--config_file", str(CONFIGS / "derive.json"), "--work_dir", "w", cwd=tmp_path)
    typo = run("derive", "--config_file", str(CONFIGS / "derive.json"), "--work_dri", "w", cwd=tmp_path)
    assert (derive.returncode, typo.returncode) == (2, 2)
    assert "Traceback" not in derive.stderr + typo.stderr
    assert "Did you mean work_dir?" in typo.stderr


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("weight_lr", "high", "'high'; expected a number, such as 0.025"),
        ("search_epochs", [3], "expected a number"),
        ("search_patch_size", 96, r"96; expected a list, such as \[128, 112, 20\]"),
        ("searcher#amp", "no", "expected true or false"),
        ("work_dir", 5, "5; expected a path. Write it as text, in quotes"),
        ("work_dir", None, "None; expected a path"),
        ("work_dir", "", "no value; expected a path. Write it after the key"),
        ("seed", None, "None, which MONAI leaves out; expected a value, such as 0"),
        ("dataset_dir", 5, "5; expected a path"),
    ],
)
def test_values_of_another_type_are_refused(key, value, says):
    with pytest.raises(CineError, match=f"key {key}.*{says}"):
        check_keys(str(CONFIGS / "search.json"), {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("weight_lr", 1), ("weight_lr", "$1 / 3"), ("paths", 4), ("dataset_dir", None), ("budget_ms", "auto")],
)
def test_values_of_the_right_type_pass(key, value):
    check_keys(str(CONFIGS / "search.json"), {key: value})


def test_signals_and_faults_have_their_exit_codes():
    """Bad input is tested by commands; this tests errors that no command should cause."""
    start = "import signal, sys; sys.path.insert(0, 'bundle'); from scripts.run.start import as_command; as_command(); "
    start += "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's background processes ignore it
    endings = {
        "signal.raise_signal(signal.SIGINT)": (130, "Interrupted."),
        "signal.raise_signal(signal.SIGTERM)": (130, "Interrupted."),
        "1 / 0": (1, "ZeroDivisionError"),
    }
    for ending, (code, says) in endings.items():
        done = subprocess.run(
            [sys.executable, "-c", start + ending], cwd=BUNDLE_ROOT.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert says in done.stderr and ("Traceback" in done.stderr) == (code == 1)


def test_a_tracker_that_is_not_installed_is_reported(monkeypatch):
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CineError, match=r"tracking: found mlflow, which is not installed; .* pip install mlflow"):
        start._check_tracking("mlflow")
    start._check_tracking(None)
    start._check_tracking("settings.json")
