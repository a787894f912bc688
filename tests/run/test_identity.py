"""Which keys of a configuration a resumed run must share."""

from __future__ import annotations

import copy

import pytest
from monai.bundle import ConfigParser

from scripts import BUNDLE_ROOT
from scripts.run.identity import identity_of

CONFIG = {
    "rate": 0.1,
    "steps": 5,
    "device": "cpu",
    "unused": 1,
    "plan": {"_target_": "builtins.dict", "steps": "$@steps + 1", "device": "@device"},
    "parts": {"first": {"_target_": "builtins.dict", "rate": "@rate", "num_workers": 3}, "other": {"rate": 7}},
    "trainer": {"_target_": "builtins.dict", "plan": "@plan", "first": "@parts#first", "data": "@unused"},
    "identity": {"_target_": "scripts.run.identity.identity_of", "roots": ["trainer"], "also": {"exams": ["a"]}},
}


def found(**changes):
    parser = ConfigParser(copy.deepcopy(CONFIG))
    for key, value in changes.items():
        parser[key] = value
    return parser.get_parsed_content("identity")


def test_all_keys_that_a_section_depends_on_are_found_and_no_others():
    identity = found()
    assert set(identity) == {"trainer", "plan", "steps", "parts#first", "rate", "exams"}
    assert identity["rate"] == 0.1 and identity["exams"] == ["a"]
    assert identity["plan"] == {"_target_": "builtins.dict", "steps": "$@steps + 1"}


@pytest.mark.parametrize(
    ("key", "value"), [("rate", 0.2), ("steps", 6), ("parts#first#new", 1), ("trainer#_target_", "builtins.list")]
)
def test_a_change_of_any_of_them_changes_the_identity(key, value):
    assert found(**{key: value}) != found()


@pytest.mark.parametrize(
    ("key", "value"), [("device", "cuda"), ("unused", 2), ("parts#first#num_workers", 9), ("parts#other#rate", 8)]
)
def test_a_change_of_another_key_does_not(key, value):
    assert found(**{key: value}) == found()


def test_outside_of_a_configuration_there_is_no_identity():
    with pytest.raises(LookupError, match="no configuration"):
        identity_of(["trainer"], {})


@pytest.mark.parametrize(
    ("files", "at", "matter", "do_not"),
    [
        (
            ["search", "cpu"],
            "searcher#identity",
            {"search_patch_size", "search_channels", "partial_channels", "weight_lr", "architecture_lr", "final_lr"}
            | {"weight_final_lr", "relaxation", "objective", "network_reading", "spacing_mm", "percentiles"}
            | {"augmentation", "label_map", "search_epochs", "warm_up_epochs", "discrete"},
            {"device", "work_dir", "exams", "deriver", "judge", "table", "runtime", "figures"},
        ),
        (
            ["train"],
            "train#handlers#0#identity",
            {"batch_size", "patch_size", "learning_rate", "train_epochs", "spacing_mm", "percentiles", "augmentation"}
            | {"label_map", "loss", "optimizer", "scheduler", "train#inferer"},
            {"device", "work_dir", "exams", "cache_rate", "num_workers", "val_interval", "train#handlers"},
        ),
    ],
)
def test_searches_and_trainings_depend_on_what_their_results_depend_on(files, at, matter, do_not):
    parser = ConfigParser(ConfigParser.load_config_files([str(BUNDLE_ROOT / "configs" / f"{f}.json") for f in files]))
    parser[f"{at}#also"] = {}
    identity = parser.get_parsed_content(at)
    assert matter <= set(identity)
    assert not do_not & set(identity)
    assert not [key for key in identity if key.startswith(("exams", "split", "halves", "dataset_dir", "datalist"))]
