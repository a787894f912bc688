from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from tiny_exams import write_exams

from scripts import BUNDLE_ROOT
from scripts.run.config_schema import check_values

CONFIGS = BUNDLE_ROOT / "configs"
STEPS = {
    "profile": ["profile"],
    "search": ["search"],
    "derive": ["derive"],
    "train": ["train"],
    "evaluate": ["train", "evaluate"],
    "infer": ["inference"],
    "verify": ["verify"],
    "stream": ["stream"],
    "serve": ["serve"],
    "compare": ["compare"],
    "export": ["export"],
}


def read(*names: str) -> dict:
    return ConfigParser.load_config_files([str(CONFIGS / f"{name}.json") for name in names])


def test_preprocessing_is_the_same_in_all_steps():
    train, search = (read(name)["preprocessing"] for name in ("train", "search"))
    assert train == search
    assert {read(name)["spacing_mm"][0] for name in ("train", "search", "inference")} == {1.5}


@pytest.mark.parametrize("name", ["evaluate", "inference"])
def test_the_image_is_treated_the_same_if_the_label_stays_on_its_grid(name):
    shared, other = (
        json.loads((CONFIGS / f"{config}.json").read_text())["preprocessing"]["transforms"]
        for config in ("train", name)
    )
    # the additional needs of MONAI Label
    own = {
        "scripts.cine.transforms.SpacingBesideTextd": "Spacingd",
        "scripts.cine.frames.LoadFramed": "scripts.cine.reader.LoadExamd",
        "LoadImaged": "scripts.cine.reader.LoadExamd",
    }
    other = [t | {"_target_": own.get(t["_target_"], t["_target_"])} for t in other]
    other = [t for t in other if t["_target_"] != "scripts.quality.image_check.CheckedImaged"]
    assert [t["_target_"] for t in shared] == [t["_target_"] for t in other]
    for ours, theirs in zip(shared[1:], other[1:], strict=True):
        assert theirs["keys"] == "image"
        settings = {k: v for k, v in ours.items() if k not in ("keys", "mode", "allow_missing_keys")}
        assert settings == {k: v for k, v in theirs.items() if k not in ("keys", "mode")}
        assert theirs.get("mode", "bilinear") == "bilinear"


def test_a_degradation_comes_first_and_changes_nothing_else():
    plain, degraded = (ConfigParser(read("train", "evaluate", *more)) for more in ([], ["evaluate_degraded"]))
    for parser in (plain, degraded):
        parser.parse()
    transforms = degraded["preprocessing#transforms"]
    first, ordering = transforms[1]["transforms"]
    assert first["_target_"] == "scripts.exams.degradation.Degraded" and first["keys"] == ["image", "label"]
    assert [transforms[0], ordering, *transforms[2:]] == plain["preprocessing#transforms"]
    folder, seen = degraded.get_parsed_content("results_dir"), degraded.get_parsed_content("preprocessing").flatten()
    assert folder == "runs/rtdnas/degraded/noise-0.5"
    assert [type(t).__name__ for t in seen.transforms][:3] == ["LoadExamd", "Degraded", "ShortAxisOrderd"]
    context = degraded["validate#handlers#2"]
    assert context == {
        "_target_": "scripts.report.metrics.ExamMetrics",
        "folder": "@results_dir",
        "context": {"degradation": {"kind": "@degradation", "severity": "@severity"}},
        "label_map": "@label_map",
    }


@pytest.mark.parametrize(("step", "files"), STEPS.items())
def test_every_step_answers_to_its_name_and_to_run(step, files):
    parser = ConfigParser(read(*files))
    parser.parse()
    start = {"_target_": "scripts.run.start.start"}
    # steps that write into work_dir lock it; the others may write elsewhere
    run = "train#run" if step == "train" else "run"  # there it is a reference, so that no step occurs twice
    assert parser[f"{run}#0"] == (
        start if step in ("infer", "stream", "serve", "verify", "export") else {**start, "work_dir": "@work_dir"}
    )
    if step == "train":
        assert parser["run"].replace("::", "#") == "@train#run"
    else:
        assert json.dumps(parser[step]).replace("::", "#") == json.dumps(parser["run"]).replace("::", "#")


SYSTEMS = ["hw_nas", "ms_nas", "hypersegnas", "hw_nas_demo", "ms_nas_demo", "hypersegnas_demo", "hypersegnas_memory"]


@pytest.mark.parametrize("overlay", ["demo", "paper", "quick", "discrete", *SYSTEMS])
@pytest.mark.parametrize("files", STEPS.values())
def test_every_overlay_fits_every_step(overlay, files):
    parser = ConfigParser(read(*files, overlay))
    parser.parse()
    for key, value in read(overlay).items():
        assert json.dumps(parser[key]).replace("::", "#") == json.dumps(value)


@pytest.mark.parametrize("system", ["hw_nas", "ms_nas", "hypersegnas"])
def test_quick_leaves_epochs_for_all_phases_of_another_system(system):
    """The order of `compare --overlays "['quick']"`."""
    parser = ConfigParser(read("search", system, "quick"))
    check_values(parser.config)
    phase = "annealing_epochs" if system == "hypersegnas" else "warm_up_epochs"
    assert 1 <= parser.get_parsed_content(phase) < parser.get_parsed_content("search_epochs")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("baseline_*.json")), ids=lambda path: path.stem)
def test_a_baseline_names_its_source_and_defines_only_a_network(path):
    overlay = json.loads(path.read_text())
    assert list(overlay) == ["network_def"]
    assert overlay["network_def"]["_desc_"]
    assert overlay["network_def"]["deployment_size"] == read("profile")["space"]["deployment_size"]
    for files in (["train"], ["train", "evaluate"], ["inference"], ["stream"], ["serve"]):
        parser = ConfigParser(read(*files, path.stem))
        parser.parse()
        assert parser["network_def"] == overlay["network_def"]


def test_the_paper_overlay_has_the_paper_s_settings():
    paper = read("paper")
    assert [paper["space"][key] for key in ("layers", "scales", "nodes", "channels")] == [10, 4, 3, 16]
    assert paper["space"]["operations"] == [
        "conv_3x3x3", "dilated_conv_3x3x3", "separable_conv_3x3x3", "max_pool_3x3x3", "identity",
    ]  # fmt: skip
    assert (paper["search_epochs"], paper["pool_size"], paper["budget_ms"], paper["volumes_per_second"]) == (
        40,
        10,
        50,
        22,
    )
    optimizer = paper["architecture_optimizer"]
    assert (optimizer["_target_"], optimizer["lr"], optimizer["momentum"], optimizer["weight_decay"]) == (
        "torch.optim.SGD", "@architecture_lr", 0.9, 0.0003,
    )  # fmt: skip
    assert paper["architecture_lr"] == 0.01
    assert paper["final_lr"] * paper["architecture_lr"] == pytest.approx(0.001)
    assert (paper["network_reading"], paper["method"], paper["partial_channels"]) == ("paths", "genetic", 4)


def test_the_other_systems_have_their_papers_settings():
    hw, ms, hs = read("hw_nas"), read("ms_nas"), read("hypersegnas")
    for system in (hw, ms):
        space = system["space"]
        assert (space["layers"], space["scales"], space["nodes"]) == (8, 4, 3)
        assert (space["skip"], space["scaling"], space["operations"][-1]) == (True, "before", "zero")
        assert (system["method"], system["decoding"], system["enforced"]) == ("dijkstra", "edge_first", False)
    assert (hw["search_epochs"], hw["warm_up_epochs"], hw["partial_channels"]) == (60, 30, 4)
    assert (hw["score"], hw["penalty_weight"], hw["network_reading"]) == ("product", 1e-4, "n_best")
    assert hw["relaxation"]["gumbel"]
    assert (ms["search_epochs"], ms["warm_up_epochs"], ms["architecture_lr"]) == (40, 10, 3e-3)
    assert (ms["score"], ms["paths"], ms["objective"]["weight"]) == ("sum", 4, 0.0)
    assert ms["weight_lr"] * ms["final_lr"] == pytest.approx(0.001)
    space = hs["space"]
    assert (space["layers"], space["scales"], space["nodes"], space["channels"]) == (12, 4, 1, 32)
    assert space["operations"] == ["identity", "conv_3x3x3"]
    assert (space["start"], space["end"], space["join"], space["share_cells"]) == ("any", "any", "mean", False)
    assert (hs["candidates"], hs["fine_tuned"], hs["assistance"]) == (2000, 10, "annealed")
    annealing = ConfigParser(hs).get_parsed_content("annealing_epochs")
    assert (hs["search_epochs"] - annealing) / annealing == 160 / 20


def test_labels_are_rv_myo_lv():
    channels = read("metadata")["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert channels == {"0": "background", "1": "RV", "2": "MYO", "3": "LV"}


@pytest.mark.parametrize("step", ["train", "search"])
def test_labels_are_rounded_before_they_are_mapped(step):
    parser = ConfigParser(read(step))
    parser["label_map"] = {"5": 3, "2": 2}
    mapping = parser.get_parsed_content("label_mapping")
    label = mapping({"label": torch.tensor([[0.0, 4.9995, 5.0001, 2.000001]])})["label"]
    assert label.tolist() == [[0, 3, 3, 2]]


@pytest.mark.parametrize(
    ("files", "datasets"),
    [
        (["train"], ["train#dataset", "validate#dataset"]),
        (["train", "evaluate"], ["validate#dataset"]),
        (["search"], ["weight_dataset", "architecture_dataset"]),
    ],
    ids=["train", "evaluate", "search"],
)
def test_every_step_reads_the_labelled_frames_of_cines(tmp_path, files, datasets):
    """Voxels are the frame's number, and 50 times the label; the other frames are empty."""
    parser = ConfigParser(read(*files))
    parser["datalist"], parser["spacing_mm"] = str(write_exams(tmp_path, frames=6)), [1.5, 1.5]
    parser["preprocessing#transforms"] = parser["preprocessing#transforms"][:3]  # without normalisation
    count = 0
    for name in datasets:
        for item in parser.get_parsed_content(name):
            image, label = (np.asarray(item[key]) for key in ("image", "label"))
            assert image.shape == label.shape == (1, 16, 16, 3) and item["frame"] in (1, 5)
            np.testing.assert_allclose(image, item["frame"] + 50 * label + 0.25, atol=1e-3)
            count += 1
    assert count == {"train": 10, "evaluate": 2, "search": 8}[files[-1]]
