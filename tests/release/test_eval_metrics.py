from __future__ import annotations

import json
import shutil

import pytest

from release.eval_metrics import write
from scripts import BUNDLE_ROOT
from scripts.core.errors import CineError
from scripts.core.files import sha256
from scripts.exams.variants import ORDERS, TURNED
from scripts.report.metrics import LEVEL_COLUMNS, summarise


@pytest.fixture
def bundle(tmp_path):
    for folder in ("configs", "models"):
        (tmp_path / "bundle" / folder).mkdir(parents=True)
    shutil.copy(BUNDLE_ROOT / "configs" / "metadata.json", tmp_path / "bundle" / "configs")
    (tmp_path / "bundle" / "models" / "model.pt").write_text("weights")
    return tmp_path / "bundle"


@pytest.fixture
def evaluated(bundle, tmp_path):
    """The results of the step evaluate for two exams; mean Dice .8, .7 and .6."""
    dice = {"RV": (0.9, 0.7), "MYO": (0.8, 0.6), "LV": (0.5, 0.7)}
    rows = [
        {
            **{"patient": f"p{i}", "group": "NOR", "phase": "ED", "structure": name, "dice": values[i]},
            **{"hd95_mm": 2.0 + i, "volume_ml": 50.0, "reference_ml": 50.0},
            **{**dict.fromkeys(LEVEL_COLUMNS.values(), values[i]), "scored_slices": 9, "slices": 9},
        }
        for name, values in dice.items()
        for i in range(2)
    ]
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({**summarise(rows), "latency": {"median_ms": 20.0}}))
    (folder / "variants").mkdir()
    means = dict(zip(ORDERS, (0.7, 0.69, 0.71, 0.68, 0.7, 0.7, 0.7, 0.69), strict=True)) | {TURNED: 0.66}
    dice = {name: {"mean": {"mean": mean}} for name, mean in means.items()}
    (folder / "variants" / "variants.json").write_text(json.dumps({"dice": dice}))
    for path in (folder / "metrics.json", folder / "variants" / "variants.json"):
        record(path, bundle / "models" / "model.pt")
    return folder


def record(path, model):
    step = {"inputs": {str(model): sha256(model)}, "outputs": {path.name: sha256(path)}}
    step["patients"] = {"train": ["p2", "p3"], "test": ["p0", "p1"]}
    (path.parent / "run.json").write_text(json.dumps({"format": "rtdnas-run-1", "steps": {"evaluate": step}}))


def test_figures_equal_the_evaluation_and_nothing_else_changes(evaluated, bundle):
    path = bundle / "configs" / "metadata.json"
    before = json.loads(path.read_text())
    write(evaluated, bundle)
    after = json.loads(path.read_text())
    assert after.pop("eval_metrics") == {
        "patients": 2,
        "exams": "p0, p1",
        **{"mean_dice": 0.7, "dice_RV": 0.8, "dice_MYO": 0.7, "dice_LV": 0.6},
        **{"mean_hd95_mm": 2.5, "hd95_mm_RV": 2.5, "hd95_mm_MYO": 2.5, "hd95_mm_LV": 2.5},
        **{"mean_dice_worst_storage_order": 0.68, "mean_dice_turned_45": 0.66},
    }
    assert list(after.items()) == [(key, value) for key, value in before.items() if key != "eval_metrics"]


def test_written_metadata_keeps_its_layout(evaluated, bundle):
    """So that a new evaluation changes only its own lines."""
    path = bundle / "configs" / "metadata.json"
    first = path.read_text()
    write(evaluated, bundle)
    earlier, later = (
        f'"eval_metrics": {json.dumps(json.loads(text)["eval_metrics"], indent=4)}'.replace("\n", "\n    ")
        for text in (first, path.read_text())
    )
    assert earlier != later
    assert path.read_text() == first.replace(earlier, later)


def test_figures_of_other_weights_are_refused(evaluated, bundle):
    (bundle / "models" / "model.pt").write_text("other weights")
    with pytest.raises(CineError, match="an evaluation of other weights"):
        write(evaluated, bundle)


def test_changed_figures_are_refused(evaluated, bundle):
    path = evaluated / "metrics.json"
    path.write_text(path.read_text().replace('"patients": 2', '"patients": 20'))
    with pytest.raises(CineError, match="a file that differs from its record"):
        write(evaluated, bundle)
    (evaluated / "run.json").write_text(json.dumps({"format": "rtdnas-run-1", "steps": {}}))
    with pytest.raises(CineError, match="no entry of the step evaluate"):
        write(evaluated, bundle)


@pytest.mark.parametrize("missing", [True, False])
def test_storage_orders_must_also_be_scored_with_the_same_weights(evaluated, bundle, tmp_path, missing):
    if missing:
        (evaluated / "variants" / "variants.json").unlink()
    else:
        (tmp_path / "other.pt").write_text("other weights")
        record(evaluated / "variants" / "variants.json", tmp_path / "other.pt")
    with pytest.raises(CineError, match="evaluate_variants" if missing else "an evaluation of other weights"):
        write(evaluated, bundle)


def test_without_a_model_there_are_no_figures(evaluated, bundle):
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(CineError, match="Ship a model before its figures"):
        write(evaluated, bundle)
