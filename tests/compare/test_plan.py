from __future__ import annotations

import json
from random import Random

import pytest
from comparing import HISTORY
from monai.bundle import ConfigParser

from scripts.compare.entries import read_networks, read_searches
from scripts.compare.plan import CONFIGS, UNBOUND
from scripts.core.errors import CineError
from scripts.run.config_schema import check_values
from scripts.space.network import CineNet
from scripts.space.sampling import random_architecture


def names(step):
    return [file.rsplit("/", 1)[-1] for file in step.files]


def test_each_network_runs_the_steps_for_its_origin(make_plan):
    plan = make_plan(overlays=["quick"])
    assert [(step.owner, step.step) for step in plan.steps] == [
        ("rt", "search"),
        *(("genetic", step) for step in ("derive", "train", "evaluate")),
        *(("auto", step) for step in ("derive", "train", "evaluate")),
        *(("plain", step) for step in ("train", "evaluate")),
        *(("chance", step) for step in ("train", "evaluate")),
    ]
    search, derive, train, evaluate = plan.steps[:4]
    assert names(search) == ["search.json", "quick.json"]
    assert names(derive) == ["derive.json", "quick.json"]
    assert names(train) == ["train.json", "quick.json"]
    assert names(evaluate) == ["train.json", "evaluate.json", "quick.json"]  # an overlay applies to both
    for step in plan.steps:
        assert json.loads((step.folder / f"settings_{step.step}.json").read_text()) == step.settings
        assert step.settings["work_dir"] == str(step.folder)
        assert step.settings["fold"] == 0


def test_auto_paths_must_meet_the_budget_but_a_given_number_need_not(make_plan):
    _, fixed, _, _, auto, *_ = make_plan().steps
    assert {key: fixed.settings[key] for key in UNBOUND} == UNBOUND
    assert (fixed.settings["paths"], fixed.settings["method"]) == (3, "genetic")
    assert auto.settings["budget_ms"] == 50.0


def test_overrides_of_a_search_take_precedence_over_common_ones(make_plan):
    searches = [{"name": "rt", "overrides": {"search_epochs": 3, "budget_ms": 9.0}}]
    search = make_plan(searches=searches, overrides={"search_epochs": 2, "pool_size": 5}).steps[0]
    assert (search.settings["search_epochs"], search.settings["pool_size"]) == (3, 5)
    assert search.settings["budget_ms"] == 9.0


def test_an_override_reaches_only_steps_with_that_key(make_plan):
    """Another number of training epochs must not repeat a search, and another search must not repeat a baseline."""
    overrides = {"search_epochs": 2, "train_epochs": 5, "space#layers": 4}
    reached = {
        step.step: sorted(set(overrides) & step.settings.keys()) for step in make_plan(overrides=overrides).steps
    }
    assert reached == {
        **{"search": ["search_epochs", "space#layers"], "derive": ["space#layers"]},
        **{"train": ["train_epochs"], "evaluate": ["train_epochs"]},
    }


def test_searches_of_one_space_share_their_latency_table(make_plan):
    searches = [{"name": "rt"}, {"name": "again"}, {"name": "paper", "configs": ["paper"]}]
    plan = make_plan([{"name": n["name"], "system": "s", "search": n["name"]} for n in searches], searches)
    files = [step.settings["latency_file"] for step in plan.steps if step.step == "search"]
    assert files[0] == files[1] != files[2]


def test_only_searches_with_networks_are_run(make_plan):
    plan = make_plan([{"name": "chance", "system": "random", "search": "rt", "random": 7}])
    assert [step.step for step in plan.steps] == ["train", "evaluate"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"overlays": ["quik"]}, "overlays: found 'quik'"),
        ({"overrides": {"train_epocs": 3}}, "Did you mean train_epochs"),
        ({"settings": {"budget_ms": None}}, "budget_ms: found None"),
        (
            {"searches": [{"name": "rt", "overrides": {"space#deployment_size": [64, 64, 6]}}]},
            r"search rt: found deployment_size \[64, 64, 6\]; expected \[128, 112, 20\]",
        ),
        ({"networks": [{"name": "a", "system": "s", "baseline": "nobody"}]}, "networks, a: found the baseline nobody"),
    ],
)
def test_unusable_settings_are_refused_before_any_step_runs(make_plan, options, found):
    with pytest.raises(CineError, match=found):
        _ = make_plan(**options).steps


def test_an_auto_budget_is_that_of_the_first_search(make_plan):
    plan = make_plan(settings={"budget_ms": "auto"})
    assert plan.resolved_constraint() is None
    (search,) = plan.used_searches
    search.history_file.parent.mkdir(parents=True)
    search.history_file.write_text(json.dumps(HISTORY))
    assert plan.resolved_constraint().budget_ms == 7.5


def test_an_auto_budget_of_a_search_without_mixing_weights_is_in_its_architecture(make_plan, architecture):
    plan = make_plan(settings={"budget_ms": "auto"})
    architecture.with_provenance(budget_ms=8.5).save(plan.used_searches[0].architecture_file)
    assert plan.resolved_constraint().budget_ms == 8.5


def test_a_given_budget_is_kept(make_plan):
    assert make_plan().resolved_constraint().budget_ms == 50.0


def test_networks_are_built_as_train_builds_them(make_plan):
    plan = make_plan(overlays=["demo"])
    assert (plan.deployment_size, plan.train_epochs) == ((96, 96, 8), 75)
    network = plan.entries[-1]
    found = random_architecture(plan.space_of(network.search), Random(7))
    found.save(network.architecture_file)
    built = plan.build(network)
    assert isinstance(built, CineNet) and built.architecture.digest == found.digest


@pytest.mark.parametrize("overlay", [None, "compare_demo", "compare_paper"])
def test_the_shipped_entries_can_be_read(overlay, make_plan):
    files = [str(CONFIGS / f"{name}.json") for name in ("compare", overlay) if name]
    config = ConfigParser.load_config_files(files)
    check_values(config)
    networks = read_networks("w", config["networks"], read_searches("w", config["searches"]))
    derived = [network for network in networks if network.derive]
    assert {network.derive["method"] for network in derived if network.system == "RT-DNAS"} == {"genetic", "dijkstra"}
    assert any(network.random is not None for network in networks)
    assert {network.system for network in networks} >= {"RT-DNAS", "HW-NAS", "MS-NAS", "HyperSegNAS", "U-Net", "random"}
    plan = make_plan(config["networks"], config["searches"], overlays=config["overlays"])
    steps = plan.steps  # every key of every step is known
    assert len(steps) == len(plan.used_searches) + len(derived) + 2 * len(networks)
    spaces = {search.name: plan.space_of(search) for search in plan.used_searches}
    assert spaces["hw_nas"] == spaces["ms_nas"] != spaces["rt_dnas"]
    assert spaces["hw_nas"].scaling == "before" and not spaces["hypersegnas"].share_cells


def test_the_papers_scale_leaves_each_system_its_own_search(make_plan):
    config = ConfigParser.load_config_files([str(CONFIGS / f"{name}.json") for name in ("compare", "compare_paper")])
    plan = make_plan(config["networks"], config["searches"], overlays=config["overlays"])
    keys = ("search_epochs", "warm_up_epochs", "architecture_lr", "search_batch_size", "network_reading")
    found = {}
    for step in plan.steps:
        if step.step == "search":
            settings = ConfigParser.load_config_files(list(step.files))
            space = plan.space_of(next(search for search in plan.used_searches if search.name == step.owner))
            found[step.owner] = [space.layers, *(settings[key] for key in keys)]
    assert found["rt_dnas"] == [10, 40, 0, 0.01, 8, "paths"]
    assert found["hw_nas"] == [8, 60, 30, 0.02, 8, "n_best"]
    assert found["ms_nas"] == [8, 40, 10, 0.003, 8, "derived"]
    assert found["hypersegnas"][:2] == [12, 450]
    rt_dnas = {(n.derive["paths"], n.derive["method"]) for n in plan.entries if n.derive and n.system == "RT-DNAS"}
    assert rt_dnas == {(paths, method) for paths in range(3, 9) for method in ("genetic", "dijkstra")}
