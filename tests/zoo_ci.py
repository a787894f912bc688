"""What the model zoo's CI, and programs that load a bundle, do with a downloaded bundle; run in a separate process.

``python zoo_ci.py BUNDLE SETTINGS`` runs the checks like the zoo, from another folder, and writes the results to
``checks.json`` and ``logits.pt`` there. SETTINGS is a JSON file with the keys of ``main``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from monai.bundle import ckpt_export, create_workflow, load, verify_metadata, verify_net_in_out

BACKEND = {"backend": "eager"}  # autotuning would take longer than everything else


def main(bundle: Path, schema: str | None, datalist: str, cine: str) -> None:
    sys.path.insert(0, str(bundle))
    configs = {path.stem: str(path) for path in (bundle / "configs").iterdir()}
    shared = {
        "bundle_root": str(bundle),
        "meta_file": configs["metadata"],
        "logging_file": configs["logging"],
    }
    passed = []
    if schema:  # an existing file is not downloaded again
        verify_metadata(meta_file=configs["metadata"], filepath=schema)
        passed.append("metadata")
    verify_net_in_out(
        "network_def", meta_file=configs["metadata"], config_file=configs["inference"], bundle_root=str(bundle)
    )
    passed.append("net_in_out")
    ckpt_export(
        "network_def",
        filepath="model.ts",
        ckpt_file=str(bundle / "models" / "model.pt"),
        meta_file=configs["metadata"],
        config_file=configs["inference"],
        bundle_root=str(bundle),
    )

    def check(kind: str, files: list[str], **overrides: object) -> list[str]:
        workflow = create_workflow(workflow_type=kind, config_file=files, **shared, **overrides)
        return workflow.check_properties()

    exams = {"datalist": datalist, "patch_size": [16, 16, 3], "batch_size": 1, "cache_rate": 0.0}
    missing = {
        "train": check("train", [configs["train"]], **exams),
        "train+evaluate": check("train", [configs["train"], configs["evaluate"]], **exams, **BACKEND),
        "inference": check("inference", [configs["inference"]], input=cine),
    }
    network = load(
        bundle.name,
        bundle_dir=bundle.parent,
        net_override={"architecture": str(bundle / "models" / "architecture.json")},
    )
    code = sys.modules[type(network).__module__].__file__
    torch.save(network.eval()(torch.ones(1, 1, 16, 16, 3)).detach(), "logits.pt")
    Path("checks.json").write_text(json.dumps({"passed": passed, "missing": missing, "code": code}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), **json.loads(Path(sys.argv[2]).read_text()))
