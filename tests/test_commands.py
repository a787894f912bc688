"""The shipped commands, end to end on a phantom of six patients, from a foreign working directory."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts import BUNDLE_ROOT
from scripts.exams.phantom import write_phantom
from scripts.report.variants import ROWS
from scripts.space.architecture import Architecture

TINY = {
    "space": {
        "_target_": "scripts.space.space.Space",
        "layers": 4,
        "scales": 3,
        "nodes": 2,
        "channels": 4,
        "stem_stride": 2,
        "operations": ["conv_3x3x3", "max_pool_3x3x3", "identity"],
        "deployment_size": [64, 64, 6],
    },
    "profile_seconds": 2,
    "backend": "eager",
    # generous limits, which a busy machine can meet
    "budget_ms": 5000.0,
    "volumes_per_second": 0.1,
    "max_rounds": 1,
    "paths": 3,
    "patch_size": [64, 64, 6],
    "search_patch_size": [32, 32, 4],
    "search_epochs": 2,
    "warm_up_epochs": 1,
    "search_channels": 4,
    "generations": 3,
    "train_epochs": 40,
    "val_interval": 20,
}
RESULTS = ("function.json", "overlay.png", "seg.nii.gz")


class Workplace:
    """A folder away from the bundle, in which the commands run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.data = folder / "acdc"
        write_phantom(self.data, patients=6)
        (folder / "tiny.json").write_text(json.dumps(TINY))

    def command(self, step: str, *configs: str, **overrides: object) -> list[str]:
        files = [str(BUNDLE_ROOT / "configs" / f"{name}.json") for name in configs] + [str(self.folder / "tiny.json")]
        command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", step, "--config_file", str(files)]
        for key, value in {"work_dir": "work", **overrides}.items():
            command += [f"--{key}", str(value)]
        return command

    def run(self, step: str, *configs: str, **overrides: object) -> subprocess.CompletedProcess[str]:
        command = self.command(step, *configs, **overrides)
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def must(self, *arguments: str, **overrides: object) -> str:
        done = self.run(*arguments, **overrides)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    """The results of search, train and evaluate: the steps depend on each other, so the tests share them."""
    place = Workplace(tmp_path_factory.mktemp("commands"))
    place.logs = {  # type: ignore[attr-defined]
        "profile": place.must("profile", "profile"),
        "search": place.must("search", "search", "discrete", dataset_dir=place.data),
        "train": place.must("train", "train", dataset_dir=place.data),
        "evaluate": place.must("evaluate", "train", "evaluate", dataset_dir=place.data),
    }
    return place


def test_profile_prints_the_table_sorted_by_cost(workplace):
    lines = workplace.logs["profile"].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("operation "))
    assert any(line.startswith("the table, for held-out networks") for line in lines)
    costs = [float(line.split()[2]) for line in lines[first + 1 : first + 6]]
    assert costs == sorted(costs, reverse=True)
    assert len(json.loads((workplace.folder / "work" / "latency.json").read_text())["entries"]) > 10


def test_a_discrete_search_writes_an_architecture_whose_measured_latency_meets_its_budget(workplace):
    architecture = Architecture.load(workplace.folder / "work" / "architecture.json")
    assert 1 <= len(architecture.paths) <= 3
    provenance = architecture.provenance
    assert 0 <= provenance.shared_dice <= 1 and 0 <= provenance.fine_tuned_dice <= 1
    assert provenance.measured_ms["p95_ms"] <= provenance.budget_ms == 5000.0
    assert "Accepted" in workplace.logs["search"]
    assert len(provenance.notes["uniform_pool"]) == len(provenance.notes["pool"])
    for name in ("trellis", "cells", "evolution", "curves", "latency"):
        assert (workplace.folder / "work" / "figures" / f"{name}.png").stat().st_size > 5000


def test_derive_finds_another_network_without_searching(workplace):
    folder = workplace.folder / "work"
    kept = (folder / "architecture.json").read_bytes()
    workplace.must("derive", "derive", paths=4, method="exhaustive")
    architecture = Architecture.load(folder / "architecture.json")
    assert (len(architecture.paths), architecture.provenance.method) == (4, "exhaustive")
    stale = workplace.run("infer", "inference", output_dir="stale")  # model.pt belongs to the other network
    assert stale.returncode == 2
    assert "run train again" in stale.stderr
    (folder / "architecture.json").write_bytes(kept)


def test_an_infeasible_budget_names_the_fastest_network(workplace):
    done = workplace.run("derive", "derive", budget_ms=0.001)
    assert done.returncode == 2
    assert "the fastest network of this search is the single path" in done.stderr
    assert "Traceback" not in done.stderr


def test_evaluation_covers_each_exam_phase_and_structure(workplace):
    with open(workplace.folder / "work" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    patients = {row["patient"] for row in rows}
    assert len(rows) == len(patients) * 2 * 3
    for row in rows:  # the reference volume is computed on the label's own grid
        info = (workplace.data / row["patient"] / "Info.cfg").read_text()
        frame = int(next(line for line in info.splitlines() if line.startswith(row["phase"])).split(":")[1])
        label = nib.load(workplace.data / row["patient"] / f"{row['patient']}_frame{frame:02d}_gt.nii.gz")
        voxels = np.count_nonzero(np.asarray(label.dataobj) == {"RV": 1, "MYO": 2, "LV": 3}[row["structure"]])
        ml = voxels * float(np.prod(label.header.get_zooms()[:3])) / 1000
        assert float(row["reference_ml"]) == pytest.approx(ml, rel=1e-4)
    metrics = json.loads((workplace.folder / "work" / "metrics.json").read_text())
    assert metrics["latency"]["median_ms"] > 0
    assert metrics["read_by_search"] == 0
    # it finds some of the heart; how much depends on the network, which this machine's latency chose
    assert metrics["dice"]["mean"]["mean"] > 0.01
    for name in ("dice", "groups", "agreement", "exams"):
        assert (workplace.folder / "work" / "figures" / f"{name}.png").stat().st_size > 10_000
    functions = {entry["patient"]: entry for entry in metrics["function"]["patients"]}
    assert functions.keys() == patients
    volumes = {(row["patient"], row["phase"], row["structure"]): float(row["reference_ml"]) for row in rows}
    for patient, function in functions.items():
        edv, esv = (volumes[patient, phase, "LV"] for phase in ("ED", "ES"))
        assert function["reference"]["LV_ef_percent"] == pytest.approx(100 * (edv - esv) / edv)
    assert {row["group"] for row in rows} == metrics["dice_by_group"].keys()
    log = " ".join(workplace.logs["evaluate"].split())
    assert "level apex" in log and "LV EF (%)" in log


def test_integers_are_scored_as_they_run(workplace):
    """With rounding, masks change slightly; without it, they would not change at all."""
    found = {}
    for precision in ("float32", "int8"):
        where = {"dataset_dir": workplace.data, "results_dir": f"as_{precision}"}
        workplace.must("evaluate", "train", "evaluate", precision=precision, **where)
        found[precision] = json.loads((workplace.folder / f"as_{precision}" / "metrics.json").read_text())
    dice = {precision: metrics["dice"]["mean"]["mean"] for precision, metrics in found.items()}
    assert found["int8"]["latency"]["runtime"]["dtype"] == "int8"
    assert 0 < abs(dice["int8"] - dice["float32"]) < 0.03
    card = json.loads((workplace.folder / "work" / "model.json").read_text())
    assert len(card["activations"]) > 0
    assert all(least <= 0 < greatest for least, greatest in card["activations"].values())


def test_a_degraded_evaluation_leaves_the_plain_one_as_it_was(workplace):
    """Half the slices in image and label: the strongest change of an exam by a degradation."""
    kept = (workplace.folder / "work" / "metrics.json").read_bytes()
    files = "train", "evaluate", "evaluate_degraded"
    workplace.must("evaluate", *files, dataset_dir=workplace.data, degradation="half_slices")
    assert (workplace.folder / "work" / "metrics.json").read_bytes() == kept
    folder = workplace.folder / "work" / "degraded" / "half_slices-1"
    metrics, plain = json.loads((folder / "metrics.json").read_text()), json.loads(kept)
    assert metrics["degradation"] == {"kind": "half_slices", "severity": 1}
    assert "latency" not in metrics
    assert metrics["dice"]["mean"]["count"] == plain["dice"]["mean"]["count"]
    assert metrics["dice"]["mean"]["mean"] > 0.005
    with open(folder / "metrics.csv") as file:
        row = next(csv.DictReader(file))
    info = (workplace.data / row["patient"] / "Info.cfg").read_text()
    frame = int(next(line for line in info.splitlines() if line.startswith(row["phase"])).split(":")[1])
    label = nib.load(workplace.data / row["patient"] / f"{row['patient']}_frame{frame:02d}_gt.nii.gz")
    voxels = np.count_nonzero(np.asarray(label.dataobj)[..., ::2] == 1)
    ml = voxels * 2 * float(np.prod(label.header.get_zooms()[:3])) / 1000
    assert float(row["reference_ml"]) == pytest.approx(ml, rel=1e-4)
    assert (folder / "figures" / "exams.png").stat().st_size > 10_000
    steps = json.loads((folder / "run.json").read_text())["steps"]
    assert list(steps) == ["evaluate"] and "metrics.json" in steps["evaluate"]["outputs"]
    refused = workplace.run(
        "evaluate", "train", "evaluate", "evaluate_degraded", dataset_dir=workplace.data, degradation="motion"
    )
    assert refused.returncode == 2
    assert "one of noise, undersampling, half_slices" in refused.stderr


def test_one_command_scores_every_storage_order_and_few_slices(workplace):
    kept = (workplace.folder / "work" / "metrics.json").read_bytes()
    log = workplace.must("evaluate", "train", "evaluate", "evaluate_variants", dataset_dir=workplace.data)
    assert (workplace.folder / "work" / "metrics.json").read_bytes() == kept
    folder = workplace.folder / "work" / "variants"
    dice = json.loads((folder / "variants.json").read_text())["dice"]
    assert list(dice) == list(ROWS)
    plain = json.loads(kept)["dice"]
    assert dice["as stored"]["mean"]["count"] == plain["mean"]["count"]
    assert dice["as stored"]["LV"]["mean"] == pytest.approx(plain["LV"]["all"]["mean"], abs=0.02)  # another precision
    for row in ROWS:
        assert f"| {row} |" in log
    assert "variants.json" in json.loads((folder / "run.json").read_text())["steps"]["evaluate"]["outputs"]


def test_every_exam_of_a_datalist_is_scored_where_it_is_labelled(workplace):
    """Exams as from another scanner: one patient, LV cavity only at ES, no RV at ED."""
    patient = workplace.data / "patient006"
    items = []
    info = dict(line.split(": ") for line in (patient / "Info.cfg").read_text().splitlines())
    for phase, structures in (("ED", (2, 3)), ("ES", (3,))):
        stem = f"patient006_frame{int(info[phase]):02d}"
        label = nib.load(patient / f"{stem}_gt.nii.gz")
        voxels = np.asarray(label.dataobj)
        partial = nib.Nifti1Image(np.where(np.isin(voxels, structures), voxels, 0), None, label.header)
        nib.save(partial, workplace.folder / f"{stem}_partial.nii.gz")
        items.append({"image": str(patient / f"{stem}.nii.gz"), "label": f"{stem}_partial.nii.gz"})
        items[-1].update(patient="another scanner's", phase=phase)
    (workplace.folder / "others.json").write_text(json.dumps({"training": items}))
    log = workplace.must("evaluate", "train", "evaluate", "evaluate_all", datalist="others.json")
    metrics = json.loads((workplace.folder / "work" / "all" / "metrics.json").read_text())
    assert metrics["patients"] == 1 and metrics["not_labelled"] == {"RV": 2, "MYO": 1, "LV": 0}
    assert metrics["dice"]["RV"]["all"]["count"] == 0 and metrics["dice"]["LV"]["all"]["count"] == 2
    assert metrics["partly_labelled"] == 1 and len(metrics["function"]["patients"]) == 1  # of ED
    assert "None of these exams has a label of RV" in log and "Exams that are partly labelled: 1" in log
    record = json.loads((workplace.folder / "work" / "all" / "run.json").read_text())["steps"]["evaluate"]
    assert record["split"] == "every exam is scored"


def test_training_writes_its_curves_and_resumes_where_it_ended(workplace):
    folder = workplace.folder / "work" / "train"
    history = json.loads((folder / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == list(range(1, 41))
    assert [entry["epoch"] for entry in history if "val_dice" in entry] == [20, 40]
    assert history[-1]["loss"] < history[0]["loss"]
    model = torch.load(workplace.folder / "work" / "model.pt", weights_only=True)
    assert "Resumed after epoch 40" in workplace.must("train", "train", dataset_dir=workplace.data)
    assert json.loads((folder / "history.json").read_text()) == history
    again = torch.load(workplace.folder / "work" / "model.pt", weights_only=True)
    assert all(torch.equal(value, again[name]) for name, value in model.items())
    other = workplace.run("train", "train", dataset_dir=workplace.data, learning_rate=0.1)
    assert other.returncode == 2
    assert "a checkpoint with learning_rate = 0.004; expected 0.1" in other.stderr


def test_exams_that_the_model_was_trained_on_are_not_scored(workplace):
    done = workplace.run("evaluate", "train", "evaluate", dataset_dir=workplace.data, fold=1)
    assert done.returncode == 2
    assert "a model that was trained on" in done.stderr


def test_infer_writes_mask_function_and_picture_of_a_cine_and_a_volume(workplace):
    patient = workplace.data / "patient002"
    cine = patient / "patient002_4d.nii.gz"
    volume = sorted(path for path in patient.glob("*_frame*.nii.gz") if "_gt" not in path.name)[0]
    (workplace.folder / "list.txt").write_text(f"{cine}\n{volume}\n")
    workplace.must("infer", "inference", input="list.txt", output_dir="out")
    for path in (cine, volume):
        name = path.name.removesuffix(".nii.gz")
        image, mask = nib.load(path), nib.load(workplace.folder / "out" / f"{name}_seg.nii.gz")
        assert mask.shape == image.shape
        assert mask.get_data_dtype() == np.uint8
        for field in ("srow_x", "srow_y", "srow_z", "qform_code", "sform_code", "quatern_b", "qoffset_x", "xyzt_units"):
            assert np.array_equal(mask.header[field], image.header[field]), field
        assert mask.header["pixdim"].tobytes() == image.header["pixdim"].tobytes()
        function = json.loads((workplace.folder / "out" / f"{name}_function.json").read_text())
        voxels = np.count_nonzero(np.asarray(mask.dataobj) == 3)
        total = voxels * float(np.prod(image.header.get_zooms()[:3])) / 1000
        assert sum(function["volumes_ml"]["LV"]) == pytest.approx(total, rel=1e-4)
        assert (workplace.folder / "out" / f"{name}_overlay.png").stat().st_size > 10_000

    again = workplace.run("infer", "inference", input="list.txt", output_dir="out")
    assert again.returncode == 2
    assert "existing" in again.stderr
    before = os.stat(workplace.folder / "out" / "patient002_4d_seg.nii.gz").st_mtime_ns
    workplace.must("infer", "inference", input="list.txt", output_dir="out", existing="skip")
    assert os.stat(workplace.folder / "out" / "patient002_4d_seg.nii.gz").st_mtime_ns == before
    workplace.must("infer", "inference", input="list.txt", output_dir="out", existing="overwrite")
    assert os.stat(workplace.folder / "out" / "patient002_4d_seg.nii.gz").st_mtime_ns > before


def test_a_baseline_replaces_the_derived_network(workplace):
    """Trained, evaluated, and run on files and as a stream with one overlay, without an architecture of ours."""
    baseline, here = "baseline_unet_2d_d3_16", {"work_dir": "baseline"}
    data, size = {"dataset_dir": workplace.data}, {"network_def#deployment_size": [32, 32, 4]}
    workplace.must("train", "train", baseline, train_epochs=2, val_interval=2, **here, **data)
    workplace.must("evaluate", "train", "evaluate", baseline, **here, **data, **size)
    latency = json.loads((workplace.folder / "baseline" / "metrics.json").read_text())["latency"]
    assert latency["deployment_size"] == [32, 32, 4]
    assert latency["median_ms"] > 0 and latency["budget_ms"] is None
    cine = workplace.data / "patient003" / "patient003_4d.nii.gz"
    workplace.must("infer", "inference", baseline, input=cine, **here)
    workplace.must("stream", "stream", baseline, input=cine, per_second=0, **here)
    for step in ("infer", "stream"):
        mask = nib.load(workplace.folder / "baseline" / step / "patient003_4d_seg.nii.gz")
        assert mask.shape == nib.load(cine).shape
    steps = json.loads((workplace.folder / "baseline" / "run.json").read_text())["steps"]
    assert not any("architecture.json" in path for step in steps.values() for path in step["inputs"])
    other = workplace.run("evaluate", "train", "evaluate", "baseline_unet_3d_d3_16", **here, **data, **size)
    assert other.returncode == 2
    assert "Then name its overlay, baseline_NAME.json" in other.stderr


def test_good_files_are_processed_before_a_bad_file_is_reported(workplace):
    folder = workplace.folder / "mixed"
    folder.mkdir()
    for patient in ("patient001", "patient002"):
        volume = sorted(path for path in (workplace.data / patient).glob("*_frame*.nii.gz") if "_gt" not in path.name)[
            0
        ]
        shutil.copy(volume, folder / f"{patient}.nii.gz")
    cut = folder / "patient0015.nii.gz"
    cut.write_bytes((folder / "patient002.nii.gz").read_bytes()[:-1000])
    done = workplace.run("infer", "inference", input="mixed", output_dir="mixed_out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "1 of 3 unusable files; expected valid files. The other 2 are done." in done.stderr
    assert f"- {Path('mixed') / cut.name}: found a file that cannot be read" in done.stderr
    results = {f"{name}_{end}" for name in ("patient001", "patient002") for end in RESULTS}
    assert {path.name for path in (workplace.folder / "mixed_out").iterdir()} == results


def test_stream_gives_the_mask_of_infer_for_the_same_field(workplace):
    cine = workplace.data / "patient003" / "patient003_4d.nii.gz"
    workplace.must("infer", "inference", input=cine, output_dir="whole")
    log = workplace.must("stream", "stream", input=cine, output_dir="live", per_second=0)
    assert "0 dropped" in log
    masks = [
        np.asarray(nib.load(workplace.folder / out / "patient003_4d_seg.nii.gz").dataobj) for out in ("whole", "live")
    ]
    first = [mask[..., 0] for mask in masks]  # the first volume is segmented over the whole field in both
    agreed = np.sum((first[0] == first[1]) & (first[0] > 0))
    assert 2 * agreed / (np.sum(first[0] > 0) + np.sum(first[1] > 0)) > 0.97
    assert masks[0].any()
    headers = [nib.load(workplace.folder / out / "patient003_4d_seg.nii.gz").header for out in ("whole", "live")]
    assert headers[0].binaryblock == headers[1].binaryblock
    report = json.loads((workplace.folder / "live" / "patient003_4d_stream.json").read_text())
    assert report["summary"]["segmented"] == masks[0].shape[-1]
    assert report["summary"]["p50_ms"] > 0
    assert (workplace.folder / "live" / "patient003_4d_stream.png").stat().st_size > 20_000


def test_a_foreign_table_gives_a_network_that_must_be_verified(workplace):
    """Searched here for another device, moved there (that is, here), verified, streamed."""
    folder = workplace.folder / "work"
    kept = {name: (folder / name).read_bytes() for name in ("architecture.json", "latency.json")}
    table = json.loads(kept["latency.json"])
    table["device"]["name"] = "the scanner's computer"
    (folder / "latency.json").write_text(json.dumps(table))
    refused = workplace.run("derive", "derive")
    assert refused.returncode == 2
    assert "--target foreign" in refused.stderr
    assert "ms, not measured" in workplace.must("derive", "derive", target="foreign")
    assert Architecture.load(folder / "architecture.json").provenance.measured_ms is None
    streamed = workplace.run("stream", "stream", output_dir="never")
    assert streamed.returncode == 2
    assert "Run the step verify" in streamed.stderr
    missed = workplace.run("verify", "verify", budget_ms=0.01)
    assert missed.returncode == 2
    assert "run profile and derive on this device" in missed.stderr
    assert "a second: met" in workplace.must("verify", "verify")
    assert Architecture.load(folder / "architecture.json").provenance.verdict == "measured"
    for name, content in kept.items():
        (folder / name).write_bytes(content)


def test_infer_uses_the_shipped_network_if_there_is_no_other_and_logs_it(workplace):
    done = workplace.run("infer", "inference", input=workplace.data / "patient001", work_dir="elsewhere")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{BUNDLE_ROOT / 'models' / 'model.pt'}, since elsewhere/model.pt does not exist" in done.stderr
    assert list((workplace.folder / "elsewhere" / "infer").glob("*_seg.nii.gz"))


def test_nothing_is_written_inside_the_bundle(workplace):
    written = [path for path in BUNDLE_ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    newest = max(path.stat().st_mtime for path in written)
    assert newest < (workplace.folder / "tiny.json").stat().st_mtime


def test_every_step_is_recorded(workplace):
    steps = json.loads((workplace.folder / "work" / "run.json").read_text())["steps"]
    assert {"profile", "search", "train", "evaluate"} <= steps.keys()
    search, train = steps["search"], steps["train"]
    assert search["config"]["search_epochs"] == 2 and search["seed"] == 0
    parts = [set(search["patients"][part]) for part in ("weights", "architecture", "test")]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 6
    assert (
        len(search["inputs"]) == 2 * 2 * (len(parts[0]) + len(parts[1])) + 1
    )  # image and label of ED and ES, the table
    model = workplace.folder / "work" / "model.pt"
    assert train["outputs"]["model.pt"] == hashlib.sha256(model.read_bytes()).hexdigest()


def test_ctrl_c_ends_with_130_and_leaves_a_checkpoint(workplace):
    folder = workplace.folder / "interrupted"
    folder.mkdir()
    shutil.copy(workplace.folder / "work" / "latency.json", folder)
    arguments = workplace.command("search", "search", work_dir=folder, search_epochs=500, dataset_dir=workplace.data)
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not (folder / "search" / "history.json").exists() and process.poll() is None:
        time.sleep(0.05)
    second = workplace.run("train", "train", work_dir=folder, dataset_dir=workplace.data)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 130, said[-3000:]
    assert "The same command continues from there" in said and "Traceback" not in said
    assert (folder / "search" / "checkpoint.pt").exists()
    assert second.returncode == 2
    assert f"another run in this folder: run search, process {process.pid}" in second.stderr
