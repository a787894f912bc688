from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tiny_exams import write_exams

from scripts import BUNDLE_ROOT
from scripts.train.tracking import CurveWriter


def curves(folder):
    """Steps and values by tag, as TensorBoard shows them."""
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no TensorBoard")
    events = module.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, round(e.value, 5)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_resumed_run_overwrites_repeated_steps(tmp_path):
    """Killed after its third step, resumed from its second."""
    for steps in ((1, 2, 3), (3, 4)):
        writer = CurveWriter(tmp_path)
        for step in steps:
            writer.add_scalar("loss", step / 2 + len(steps), step)
        writer.flush()
        writer.close()
    assert curves(tmp_path) == {"loss": [(1, 3.5), (2, 4.0), (3, 3.5), (4, 4.0)]}


def test_the_numbers_of_an_entry_are_written_by_their_names(tmp_path):
    writer = CurveWriter(tmp_path)
    writer.add_entry({"weight_loss": 0.5, "objective": None, "entropy": {"beta": 0.25, "expanding": 1}}, 7)
    writer.close()
    assert curves(tmp_path) == {"weight_loss": [(7, 0.5)], "entropy/beta": [(7, 0.25)], "entropy/expanding": [(7, 1)]}


def test_without_tensorboard_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    writer = CurveWriter(tmp_path / "none")
    writer.add_entry({"loss": 1.0}, 1)
    writer.close()
    assert not (tmp_path / "none").exists()


def test_a_writer_without_values_writes_no_file(tmp_path):
    CurveWriter(tmp_path / "none").close()
    assert not (tmp_path / "none").exists()


@pytest.mark.filterwarnings("ignore")  # warnings of MLflow's own packages, which are not pinned
def test_monai_s_switch_tracks_training_and_evaluation_in_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: --tracking mlflow was not tried")
    write_exams(tmp_path)
    configs = BUNDLE_ROOT / "configs"
    shared = {"datalist": "exams.json", "work_dir": "work", "tracking": "mlflow", "experiment_name": "mine"}
    shared |= {"patch_size": "[16,16,3]", "train_epochs": 2, "val_interval": 1}
    for step, names in (("train", ["train"]), ("evaluate", ["train", "evaluate"])):
        files = [str(configs / f"{name}.json") for name in [*names, "baseline_unet_3d_d3_16"]]
        arguments = {**shared, "network_def#deployment_size": "[16,16,3]"}
        if step == "evaluate":
            arguments["backend"] = "eager"
        command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", step, "--config_file", str(files)]
        command += [str(part) for key, value in arguments.items() for part in (f"--{key}", value)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in (tmp_path / "work" / "tracking").iterdir()} <= {"mlruns", "mlruns.db"}
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/work/tracking/mlruns.db")
    (experiment,) = (found for found in client.search_experiments() if found.name == "mine")
    evaluated, trained = client.search_runs([experiment.experiment_id])  # newest first
    assert [run.info.status for run in (trained, evaluated)] == ["FINISHED", "FINISHED"]
    losses = client.get_metric_history(trained.info.run_id, "train_loss")
    history = json.loads((tmp_path / "work" / "train" / "history.json").read_text())
    means = [sum(loss.value for loss in losses[i : i + 2]) / 2 for i in (0, 2)]  # two steps per epoch
    assert means == pytest.approx([entry["loss"] for entry in history], rel=1e-5)
    assert trained.data.metrics["val_mean_dice"] == pytest.approx(history[-1]["val_dice"], abs=1e-6)
    dice = json.loads((tmp_path / "work" / "metrics.json").read_text())["dice"]["mean"]["mean"]
    assert evaluated.data.metrics["dice_mean"] == pytest.approx(dice, abs=1e-6)
