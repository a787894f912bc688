from __future__ import annotations

import pytest
from monai.bundle import ConfigParser

from scripts import BUNDLE_ROOT
from scripts.core.errors import CineError
from scripts.run.config_schema import SCHEMA, check_values

CONFIGS = BUNDLE_ROOT / "configs"


OTHERS = ("hw_nas", "ms_nas", "hypersegnas", "hypersegnas_memory", "correlate", "front", "hypersegnas_demo")


@pytest.mark.parametrize("overlay", [None, "demo", "paper", "quick", "cpu", "gpu"])
def test_the_shipped_values_pass_and_every_key_is_in_a_config(overlay):
    known = set()
    for name in ("profile", "search", "derive", "train", "inference", "stream", "serve", "verify", "compare", *OTHERS):
        files = [str(CONFIGS / f"{file}.json") for file in (name, overlay) if file]
        config = ConfigParser.load_config_files(files)
        check_values(config)
        known |= config.keys()
    assert SCHEMA["properties"].keys() <= known


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gumbel_temperature", [1.0]),
        ("gumbel_temperature", [1.0, 0.0]),
        ("assistance", "some"),
        ("candidates", 0),
        ("memory_mib", -1.0),
        ("enforced", 1),
        ("spacing_mm", [1.5, 1.5, 1.5]),
        ("spacing_mm", [0.0, 1.5]),
        ("spacing_mm", [0.0001, 1.5]),
        ("spacing_mm", ["a", "b"]),
        ("train_epochs", 0),
        ("batch_size", 0),
        ("learning_rate", -0.1),
        ("learning_rate", float("inf")),
        ("val_interval", 0),
        ("num_workers", -1),
        ("patch_size", [-1, 32, 4]),
        ("patch_size", [32, 32]),
        ("cache_rate", -1.0),
        ("seed", 99999999999999999999),
        ("seed", -1),
        ("pool_size", -3),
        ("search_channels", 0),
        ("network_reading", "foo"),
        ("budget_ms", -1),
        ("budget_ms", float("inf")),
        ("volumes_per_second", 0),
        ("paths", 0),
        ("overlays", "quick"),
        ("overrides", ["train_epochs"]),
        ("searches#0", [{"overlays": []}]),
        ("networks#0#random", [{"name": "a", "system": "s", "search": "rt", "random": -1}]),
        ("networks#0", [{"name": "a", "system": "s", "pear": "unet"}]),
        ("networks", []),
    ],
)
def test_errors_for_unusable_values_name_their_key(key, value):
    with pytest.raises(CineError, match=f"the configuration, field {key}"):
        check_values({key.split("#")[0]: value})


def test_warm_up_must_leave_epochs_and_devices_must_exist():
    with pytest.raises(
        CineError, match="warm_up_epochs: found 4; expected 0 to 3, since the 4 search_epochs include this phase"
    ):
        check_values({"search_epochs": 4, "warm_up_epochs": 4, "searcher": {"warm_up_epochs": "@warm_up_epochs"}})
    check_values({"search_epochs": 4, "warm_up_epochs": 4, "searcher": {"annealing_epochs": 1}})  # HyperSegNAS has none
    with pytest.raises(CineError, match="annealing_epochs: found 9; expected 1 to 3, since the 4"):
        check_values({"search_epochs": 4, "annealing_epochs": 9, "searcher": {"annealing_epochs": "@annealing_epochs"}})
    with pytest.raises(
        CineError, match="search_epochs: found 1; expected at least 2, since annealing_epochs is at least 1"
    ):
        check_values({"search_epochs": 1, "annealing_epochs": 1, "searcher": {"annealing_epochs": "@annealing_epochs"}})
    with pytest.raises(CineError, match=r"^device: found 'foo'.*--device cpu"):
        check_values({"device": "foo"})
    check_values({"device": "cpu"})


def test_expressions_are_not_checked_here():
    check_values({"device": "$torch.device('cpu')", "seed": "@other", "search_epochs": "$2 * 3"})
