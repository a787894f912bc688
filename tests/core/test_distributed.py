"""Two processes on one CPU, started by torchrun with gloo, compared with one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from identical import identical
from monai.bundle import ConfigParser
from monai.data import DistributedSampler
from small_search import small_loader, small_search, small_volumes
from test_commands import TINY
from tiny_exams import write_exams

from scripts import BUNDLE_ROOT
from scripts.core.distributed import any_process, gather, join, mean, on_main
from scripts.core.errors import CineError
from scripts.search.history import load_history
from scripts.search.searcher import Searcher
from scripts.space.architecture import Architecture

CONFIGS = BUNDLE_ROOT / "configs"
TESTS = Path(__file__).parents[1]


def environment() -> dict[str, str]:
    left_out = {"PYTHONPATH", "WORLD_SIZE", "RANK", "LOCAL_RANK"}
    kept = {key: value for key, value in os.environ.items() if key not in left_out}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def torchrun(*arguments: object, cwd: Path, **changes: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=2"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env={**environment(), **changes},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    try:
        said = process.communicate(timeout=240)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"still running: {process.communicate()[1][-4000:]}") from None
    assert process.returncode == code, said[-4000:]
    return said


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, list[dict[str, Any]]]:
    """The results of distributed_worker.py in each process."""
    folder = tmp_path_factory.mktemp("both")
    path = os.pathsep.join([str(TESTS), str(BUNDLE_ROOT)])
    ended(torchrun(TESTS / "distributed_worker.py", folder, cwd=folder, PYTHONPATH=path))
    return folder, [torch.load(folder / str(rank) / "results.pt", weights_only=True) for rank in (0, 1)]


def test_all_processes_have_the_same_state_after_a_search(both):
    _, (first, second) = both
    for name in ("plain", "whole", "discrete", "one_shot"):
        assert identical(first[name], second[name])
    assert first["history"] == second["history"]


class InParts(Searcher):
    """One process that reads whole batches and normalises each half separately, as two processes do."""

    def loss(self, loss, batch, forward):
        halves = [{key: value[i : i + 1] for key, value in batch.items()} for i in (0, 1)]
        return sum(super(InParts, self).loss(loss, half, forward) for half in halves) / 2


def test_a_search_with_two_processes_equals_one_process_with_the_same_batches(both, tmp_path):
    def loader(items):
        sampler = DistributedSampler(items, num_replicas=1, rank=0)
        return small_loader(items, noise=0.0, batch_size=2, shuffle=False, sampler=sampler)

    data = small_volumes()
    loaders = {"weights": {"loader": loader(data[:4])}, "architecture": {"loader": loader(data[2:])}}
    one = small_search(tmp_path, InParts, **loaders)
    one.run()
    found = both[1][0]
    for name in ("supernet", "relaxation"):
        for key, value in getattr(one, name).state_dict().items():
            torch.testing.assert_close(found["plain"][name][key], value, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(found["history"], one.history, strict=True):
        assert ours["weight_loss"] == pytest.approx(theirs["weight_loss"], rel=1e-5)
        assert ours["latency_ms"] == pytest.approx(theirs["latency_ms"], rel=1e-5)
    assert found["history"][-1]["entropy"]["non_scaling"] < 0.999  # the architecture moved


def test_a_signal_to_one_process_stops_all_at_the_same_step_and_the_search_resumes_exactly(both):
    folder, results = both
    for found in results:
        assert found["interrupted"].startswith("KeyboardInterrupt The state is saved in")
        assert found["steps"] == 1  # of the two steps of the third epoch
        assert identical(found["resumed"], found["whole"])
    assert load_history(folder / "0" / "broken") == load_history(folder / "0" / "whole")


def test_another_number_of_processes_does_not_resume(both):
    data = small_volumes()
    one = small_search(both[0] / "0" / "whole", weights={"loader": small_loader(data[:4])})
    with pytest.raises(CineError, match="a checkpoint with processes = 2; expected 1"):
        one.run()


def test_only_the_first_process_writes(both):
    folder, _ = both
    assert [path.name for path in (folder / "1").iterdir()] == ["results.pt"]
    assert (folder / "0" / "whole" / "search" / "checkpoint.pt").exists()
    assert (folder / "0" / "one_shot" / "architecture.json").exists()
    assert list((folder / "0" / "whole" / "search" / "tensorboard").rglob("events*"))


def test_an_error_in_one_process_ends_all(both):
    folder, results = both
    for found in results:
        assert found["nan"].startswith("CineError epoch 1, step 1: weight loss: found nan")
        assert found["missed"] == ("budget_ms: found 5; expected 6. Raise it.", 1.5)
    assert (folder / "0" / "main").exists()


def test_exams_are_distributed_and_each_process_augments_differently(both):
    _, (first, second) = both
    assert sorted(first["order"] + second["order"]) == list(range(6))
    assert all(ours != theirs for ours, theirs in zip(first["noise"], second["noise"], strict=True))
    assert first["running_mean"] == second["running_mean"] == 0.0


NETWORK = {
    "_target_": "scripts.baselines.baseline.Baseline",
    "build": {
        "_target_": "monai.networks.nets.DynUNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 4,
        "kernel_size": [3, 3, 3],
        "strides": [1, [2, 2, 1], [2, 2, 1]],
        "upsample_kernel_size": [[2, 2, 1], [2, 2, 1]],
        "filters": [4, 8, 8],
        "_mode_": "callable",
    },
    "multiple": 4,
    "deployment_size": [16, 16, 3],
}
# two processes equal one with separate normalisation of each exam, a loss that is a mean over exams, and no random
# augmentation. They also need float32, and an optimiser that does not enlarge rounding errors. Adam would enlarge them
# where a gradient is only rounding
COMPARABLE = {
    "patch_size": [16, 16, 3],
    **{"train_epochs": 40, "val_interval": 40, "train#inferer#amp": False, "validate#inferer#amp": False},
    "network_def": NETWORK,
    "loss": {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True, "batch": False},
    "optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": "@learning_rate"},
    **{
        f"augmentation#{key}": 0.0
        for key in (
            *("rotation", "scaling", "mirror", "flip", "few_slices", "gamma_probability", "brightness", "noise"),
            "bias_field",
            "low_resolution_probability",
        )
    },
}
ONE_PROCESS = {
    "batch_size": 4,
    "train#dataloader#sampler": {
        "_target_": "DistributedSampler",
        "dataset": "@train#dataset",
        "num_replicas": 1,
        "rank": 0,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    write_exams(folder, patients=10)
    for name, content in (("tiny", {**TINY, "profile_seconds": 1}), ("comparable", COMPARABLE), ("one", ONE_PROCESS)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def config_files(*names: str) -> list[str]:
    """Configs that are shipped, or that lie in the working directory."""
    shipped = [CONFIGS / f"{name}.json" for name in names]
    return [str(path if path.exists() else path.name) for path in shipped]


def command(step: str, *configs: str, **overrides: object) -> list[str]:
    files = str(config_files(*configs))
    arguments = ["-m", "monai.bundle", "run", step, "--config_file", files, "--datalist", "exams.json"]
    return arguments + [str(part) for key, value in overrides.items() for part in (f"--{key}", value)]


def test_a_training_with_two_processes_that_resumed_equals_one_process(folder, monkeypatch):
    monkeypatch.chdir(folder)
    parser = ConfigParser()
    parser.read_config(config_files("train", "comparable", "one"))
    parser.update({"datalist": "exams.json", "work_dir": "one"})
    parser.get_parsed_content("train#trainer").run()

    two = command("train", "train", "multi_gpu_train", "comparable", work_dir="two")
    process = torchrun(*two, cwd=folder)
    while not (folder / "two" / "train" / "history.json").exists() and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    said = process.communicate(timeout=120)[1]
    assert "The same command continues from there" in said and process.returncode == 1, said[-3000:]
    assert not (folder / "two" / "model.pt").exists()
    said = ended(torchrun(*two, cwd=folder))
    assert said.count("Resumed after epoch") == 1  # the other process does not log

    whole, found = (torch.load(folder / name / "model.pt", weights_only=True) for name in ("one", "two"))
    assert whole.keys() == found.keys()
    for key, value in whole.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)
    histories = [json.loads((folder / name / "train" / "history.json").read_text()) for name in ("one", "two")]
    for ours, theirs in list(zip(*histories, strict=True))[-10:]:  # epochs that were not interrupted
        assert [ours[key] for key in ("epoch", "lr")] == [theirs[key] for key in ("epoch", "lr")]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        # whole voxels: rounding decides between equally likely classes
        assert ours.get("val_dice") == pytest.approx(theirs.get("val_dice"), abs=1e-3)
    assert histories[0][-1]["loss"] < histories[0][0]["loss"] - 0.01
    assert json.loads((folder / "two" / "model.json").read_text())["processes"] == 2
    assert list((folder / "two" / "train" / "tensorboard" / "epochs").iterdir())


def test_the_search_runs_by_torchrun_and_measures_only_once(folder):
    arguments = command("search", "search", "multi_gpu_search", "tiny", work_dir="search", search_batch_size=1)
    said = ended(torchrun(*arguments, cwd=folder))
    assert said.count("Accepted") == said.count("saved as search/latency.json") == 1
    assert 1 <= len(Architecture.load(folder / "search" / "architecture.json").paths) <= 3
    assert {"search"} == json.loads((folder / "search" / "run.json").read_text())["steps"].keys()
    checkpoint = torch.load(folder / "search" / "search" / "checkpoint.pt", weights_only=True)
    assert checkpoint["identity"]["processes"] == 2


def test_a_step_that_is_not_shared_refuses_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CineError, match="torchrun: found 2 processes; expected one process, or an overlay"):
        join(False)
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(CineError, match="Start it by torchrun"):
        join(True)
    join(False)


def test_one_process_has_no_others():
    value = torch.tensor(2.0, requires_grad=True)
    assert (any_process(True), any_process(False), gather("a"), float(mean(value))) == (True, False, ["a"], 2.0)
    assert on_main(lambda x, y: x - y)(3, y=1) == 2
