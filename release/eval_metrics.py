"""``eval_metrics`` of metadata.json, only from an evaluation of exactly the shipped weights.

``python -m release.eval_metrics WORK_DIR`` reads the results of the step evaluate there, also with
evaluate_variants.json. Without a shipped network, ``eval_metrics`` is empty.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from scripts import BUNDLE_ROOT
from scripts.cine import STRUCTURES
from scripts.core.errors import CineError
from scripts.core.files import replacing, sha256
from scripts.core.json_files import read_json
from scripts.exams.variants import ORDERS, TURNED
from scripts.run import run_log
from scripts.run.start import report

ACTION = "Run the step evaluate with the shipped model as model_file, and name its work_dir."
ACTION_VARIANTS = "Run it also with evaluate_variants.json."
_NUMBER = {"type": "number", "minimum": 0}
_MEAN = {"type": "object", "required": ["mean"], "properties": {"mean": _NUMBER}}
_STRUCTURES = {
    "type": "object",
    "required": [*STRUCTURES, "mean"],
    "properties": {
        **{name: {"type": "object", "required": ["all"], "properties": {"all": _MEAN}} for name in STRUCTURES},
        "mean": _MEAN,
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["patients", "dice", "hd95_mm"],
    "properties": {"patients": {"type": "integer", "minimum": 1}, "dice": _STRUCTURES, "hd95_mm": _STRUCTURES},
}
VARIANTS: dict[str, Any] = {
    "type": "object",
    "required": ["dice"],
    "properties": {"dice": {"type": "object", "required": [*ORDERS, TURNED]}},
}


def write(work_dir: str | Path, bundle: Path = BUNDLE_ROOT) -> dict[str, Any]:
    """Put the figures of an evaluation and their patients into metadata.json, and return them.

    Latency is left out: it belongs to a device, not to the weights.

    Raises:
        CineError: metrics.json is missing, is not from the step evaluate, or is from other weights.
    """
    work_dir = Path(work_dir)
    metrics = read_json(work_dir / "metrics.json", SCHEMA, ACTION)
    exams = _exams(work_dir, "metrics.json", bundle / "models" / "model.pt")
    variants = read_json(work_dir / "variants" / "variants.json", VARIANTS, ACTION_VARIANTS)["dice"]
    if _exams(work_dir / "variants", "variants.json", bundle / "models" / "model.pt") != exams:
        raise CineError(work_dir / "variants", "other exams", f"the exams of {work_dir}", ACTION_VARIANTS)
    figures: dict[str, Any] = {"patients": metrics["patients"], "exams": ", ".join(exams)}
    for metric in ("dice", "hd95_mm"):
        figures[f"mean_{metric}"] = round(metrics[metric]["mean"]["mean"], 4)
        figures |= {f"{metric}_{name}": round(metrics[metric][name]["all"]["mean"], 4) for name in STRUCTURES}
    orders = {name: variants[name]["mean"]["mean"] for name in ORDERS}
    figures["mean_dice_worst_storage_order"] = round(min(orders.values()), 4)
    figures["mean_dice_turned_45"] = round(variants[TURNED]["mean"]["mean"], 4)
    path = bundle / "configs" / "metadata.json"
    metadata = {**json.loads(path.read_text(encoding="utf-8")), "eval_metrics": figures}
    with replacing(path) as temporary:  # indented like all configs
        temporary.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    return figures


def _exams(work_dir: Path, file: str, model: Path) -> list[str]:
    """The patients of a file of metrics; run.json has their names, and the SHA-256 of the weights."""
    if not model.exists():
        raise CineError(model, "no such file", "the shipped weights", "Ship a model before its figures.")
    evaluation = read_json(work_dir / "run.json", run_log.SCHEMA, ACTION)["steps"].get("evaluate")
    if evaluation is None:
        raise CineError(work_dir / "run.json", "no entry of the step evaluate", "this entry", ACTION)
    if evaluation["outputs"].get(file) != sha256(work_dir / file):
        raise CineError(work_dir / file, "a file that differs from its record", "the file of the step evaluate", ACTION)
    if sha256(model) not in evaluation["inputs"].values():
        raise CineError(work_dir / file, "an evaluation of other weights", f"an evaluation of {model}", ACTION)
    return evaluation["patients"]["test"]


if __name__ == "__main__":
    sys.excepthook = report
    sys.stdout.write(f"{json.dumps(write(sys.argv[1]), indent=2)}\n")
