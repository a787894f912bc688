"""``eval_metrics`` of metadata.json, from an evaluation of the very weights that are shipped, and from nothing else.

``python -m release.eval_metrics WORK_DIR`` reads what the step evaluate left there, also with evaluate_variants.json.
Without a shipped network there is nothing to claim, and ``eval_metrics`` is empty.
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
ACTION_VARIANTS = "Run it with evaluate_variants.json too."
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
    """Put the figures of an evaluation into metadata.json, with the patients that they are of, and return them.

    Latency stays out: it belongs to a device, not to the weights.

    Raises:
        CineError: metrics.json is missing, is not what the step evaluate wrote, or is of other weights.
    """
    work_dir = Path(work_dir)
    metrics = read_json(work_dir / "metrics.json", SCHEMA, ACTION)
    exams = _exams(work_dir, "metrics.json", bundle / "models" / "model.pt")
    variants = read_json(work_dir / "variants" / "variants.json", VARIANTS, ACTION_VARIANTS)["dice"]
    if _exams(work_dir / "variants", "variants.json", bundle / "models" / "model.pt") != exams:
        raise CineError(work_dir / "variants", "other exams", f"those of {work_dir}", ACTION_VARIANTS)
    figures: dict[str, Any] = {"patients": metrics["patients"], "exams": ", ".join(exams)}
    for metric in ("dice", "hd95_mm"):
        figures[f"mean_{metric}"] = round(metrics[metric]["mean"]["mean"], 4)
        figures |= {f"{metric}_{name}": round(metrics[metric][name]["all"]["mean"], 4) for name in STRUCTURES}
    orders = {name: variants[name]["mean"]["mean"] for name in ORDERS}
    figures["mean_dice_worst_storage_order"] = round(min(orders.values()), 4)
    figures["mean_dice_turned_45"] = round(variants[TURNED]["mean"]["mean"], 4)
    path = bundle / "configs" / "metadata.json"
    metadata = {**json.loads(path.read_text(encoding="utf-8")), "eval_metrics": figures}
    with replacing(path) as temporary:  # indented as every config is
        temporary.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    return figures


def _exams(work_dir: Path, file: str, model: Path) -> list[str]:
    """The patients that a file of metrics is of; run.json names them, and by SHA-256 the weights."""
    if not model.exists():
        raise CineError(model, "no such file", "the weights that are shipped", "Ship a model before its figures.")
    evaluation = read_json(work_dir / "run.json", run_log.SCHEMA, ACTION)["steps"].get("evaluate")
    if evaluation is None:
        raise CineError(work_dir / "run.json", "no step evaluate", "its record", ACTION)
    if evaluation["outputs"].get(file) != sha256(work_dir / file):
        raise CineError(work_dir / file, "another file than recorded", "what evaluate wrote", ACTION)
    if sha256(model) not in evaluation["inputs"].values():
        raise CineError(work_dir / file, "an evaluation of other weights", f"one of {model}", ACTION)
    return evaluation["patients"]["test"]


if __name__ == "__main__":
    sys.excepthook = report
    sys.stdout.write(f"{json.dumps(write(sys.argv[1]), indent=2)}\n")
