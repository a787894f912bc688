"""Malformed files in the step infer: each must quickly give a correct result or a CineError.

The inputs are every case in the reader's rules, and seeded mutations of a real volume. The volume is a crop of one of
ACDC's if ACDC_DIR is set, otherwise of the phantom's. They go through MONAI's own entry point in one process, with a
small network of random weights. Some mutations also go through the command, whose exit code is checked.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import shared
import torch
from malformed import mutation, named_cases, nifti
from monai.bundle import run

from scripts import BUNDLE_ROOT
from scripts.cine import STRUCTURES
from scripts.cine.reader import read_volume
from scripts.core.errors import CineError
from scripts.core.json_files import write_json
from scripts.exams.load import cached_phantom, load_exams
from scripts.space.architecture import Architecture
from scripts.space.network import CineNet
from scripts.space.space import Space

CONFIG = str(BUNDLE_ROOT / "configs" / "inference.json")
CROP = (48, 48, 6)
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


def small_model(folder: Path) -> None:
    """A network of random weights that predicts all four classes somewhere."""
    torch.manual_seed(4)
    cell = ((0, "conv_3x3x3"), (1, "max_pool_3x3x3"))
    space = Space(layers=2, scales=2, nodes=2, channels=4, stem_stride=2, deployment_size=(32, 32, 6))
    architecture = Architecture(
        space, {"contracting": cell, "expanding": cell, "non_scaling": cell}, ((0, 1, 0), (0, 0, 0))
    )
    architecture.save(folder / "architecture.json")
    network = CineNet(Architecture.load(folder / "architecture.json")).eval()
    head = network.get_submodule("heads.0.conv")
    assert isinstance(head, torch.nn.Conv3d) and head.bias is not None
    torch.nn.init.normal_(head.weight, std=10.0)
    with torch.no_grad():  # logits around 0, so that no class wins everywhere
        head.bias -= network(torch.randn(1, 1, *CROP)).mean(dim=(0, 2, 3, 4))
    torch.save(network.state_dict(), folder / "model.pt")


def real_volume() -> np.ndarray:
    """H W D, non-negative int16, from the middle of an exam."""
    exam = load_exams(os.environ.get("ACDC_DIR") or cached_phantom())[0]
    voxels_HWD = read_volume(exam["image"])[0][0]
    corner = [(n - size) // 2 for n, size in zip(voxels_HWD.shape, CROP, strict=True)]
    cropped = voxels_HWD[tuple(slice(at, at + size) for at, size in zip(corner, CROP, strict=True))]
    return (cropped - cropped.min()).astype(np.int16)


class Judge:
    """Runs files through infer and records how each ended.

    Attributes:
        counts: right, refused, escaped.
        escapes: the failures, with the traceback.
        slowest_s: the time of the slowest file.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.counts = dict.fromkeys(("right", "refused", "escaped"), 0)
        self.escapes: list[dict[str, Any]] = []
        self.slowest_s = 0.0

    def __call__(self, name: str, content: bytes, accepted: bool | None = None) -> str:
        """Returns right, refused or escaped; ``accepted`` is the expected one of the first two, if known."""
        path, out = self.folder / f"case{_ending(name)}", self.folder / "out"
        path.write_bytes(content)
        shutil.rmtree(out, ignore_errors=True)
        begin = time.perf_counter()
        error = self._infer(path, out)
        self.slowest_s = max(self.slowest_s, time.perf_counter() - begin)
        if error is None:
            verdict = "right"
            try:
                check(path, out)
            except Exception:
                verdict = self.escape(name, "accepted, but the result is wrong", traceback.format_exc())
        elif isinstance(error, CineError):
            verdict = "refused"
            if [*out.glob("case*"), *out.glob(".partial*")]:
                verdict = self.escape(name, "refused, but a file was written", str(error))
        else:
            verdict = self.escape(name, "an error that is not a CineError", "".join(traceback.format_exception(error)))
        if accepted is not None and verdict == ("refused" if accepted else "right"):
            verdict = self.escape(name, f"{verdict}, but the opposite was expected", str(error))
        self.counts[verdict] += 1
        return verdict

    def escape(self, name: str, what: str, details: str) -> str:
        self.escapes.append({"name": name, "what": what, "details": details})
        return "escaped"

    def _infer(self, path: Path, out: Path) -> BaseException | None:
        """Run the step; returns its error, or the CineError that caused it."""
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            try:
                run("infer", config_file=CONFIG, input=str(path), work_dir=str(self.folder), output_dir=str(out))
            except (Exception, SystemExit) as error:
                cause: BaseException | None = error
                while cause is not None and not isinstance(cause, CineError):
                    cause = cause.__cause__ or cause.__context__
                return cause or error
        return None


def check(path: Path, out: Path) -> None:
    """Compare results with the file as nibabel reads it; AssertionError if they differ."""
    source: Any = nib.load(path)
    mask: Any = nib.load(out / "case_seg.nii.gz")
    assert mask.shape == source.shape, f"shape {mask.shape} of {source.shape}"
    assert np.array_equal(mask.affine, source.affine), f"affine {mask.affine} of {source.affine}"
    assert mask.header["pixdim"].tobytes() == source.header["pixdim"].tobytes(), "pixdim"
    assert mask.header["xyzt_units"] == source.header["xyzt_units"], "units"
    labels = np.asarray(mask.dataobj)
    assert labels.dtype == np.uint8 and labels.max(initial=0) <= 3, "labels"
    with np.errstate(all="ignore"):
        seen = np.asarray(source.get_fdata()).reshape(
            (*source.shape, 1, 1)[:4] if len(source.shape) < 4 else source.shape[:4]
        )
    ours = np.moveaxis(read_volume(path)[0], 0, -1)
    finite = np.isfinite(seen.astype(np.float32))
    assert np.allclose(ours[finite], seen[finite], rtol=1e-6), "voxels"
    function = json.loads((out / "case_function.json").read_text())
    assert (out / "case_overlay.png").stat().st_size > 1000, "overlay"
    if len(source.shape) > 2:
        unit_mm = MILLIMETRES[int(source.header["xyzt_units"]) & 7]
        pixdim, columns = source.header["pixdim"][1:4].astype(np.float64), np.linalg.norm(source.affine[:3, :3], axis=0)
        for structure, label in STRUCTURES.items():
            volumes = function["volumes_ml"][structure]
            if None in volumes:
                assert set(volumes) == {None} and function["reasons"]["volumes_ml"], "volumes without a reason"
                continue
            # one of them may be a dummy, replaced by the other
            expected = [np.sum(labels == label) * np.prod(np.abs(mm) * unit_mm) / 1000 for mm in (pixdim, columns)]
            assert np.isclose(sum(volumes), expected, rtol=1e-5).any(), "volumes"


def through_the_command(judge: Judge, name: str, content: bytes, verdict: str) -> bool:
    """Whether the command ends like the same file in this process: exit code 0, or 2 without a traceback."""
    path, out = judge.folder / f"case{_ending(name)}", judge.folder / "command"
    path.write_bytes(content)
    shutil.rmtree(out, ignore_errors=True)
    arguments = {"config_file": CONFIG, "input": path, "work_dir": judge.folder, "output_dir": out}
    command = [sys.executable, "-m", "monai.bundle", "run", "infer"]
    command += [str(word) for key, value in arguments.items() for word in (f"--{key}", value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=judge.folder)
    expected = {"right": 0, "refused": 2}.get(verdict)
    agreed = done.returncode == expected and "Traceback" not in done.stderr
    if not agreed:
        judge.escape(f"{name} by the command", f"exit code {done.returncode}, expected {expected}", done.stderr[-3000:])
        judge.counts["escaped"] += 1
    return agreed


def pairs_that_disagree(judge: Judge, voxels_HWD: np.ndarray) -> dict[str, str]:
    """Training exams whose image and label differ in shape or grid: case -> verdict."""
    (judge.folder / "image.nii").write_bytes(nifti(voxels_HWD))
    labels = (voxels_HWD % 4).astype(np.uint8)
    verdicts = {}
    for name, content in {
        "label of another shape": nifti(labels[1:]),
        "label of another spacing": nifti(labels, pixdim=[1, 1.4, 1.5, 8, 0, 0, 0, 0]),
        "label at another position": nifti(labels, srow_x=[-1.5, 0, 0, 10]),
        "label with a reversed axis": nifti(labels, srow_x=[1.5, 0, 0, 7]),
    }.items():
        (judge.folder / "label.nii").write_bytes(content)
        item = {"image": "image.nii", "label": "label.nii", "patient": "1"}
        (judge.folder / "list.json").write_text(json.dumps({"training": [item]}))
        try:
            load_exams(datalist=judge.folder / "list.json")
            verdicts[name] = judge.escape(name, "accepted", "")
        except CineError:
            verdicts[name] = "refused"
        judge.counts[verdicts[name]] += 1
    return verdicts


def _ending(name: str) -> str:
    return ".nii.gz" if name.endswith(".gz") else ".nii"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", metavar="FILE", help="write the same figures here")
    options.add_argument("--mutations", type=int, default=1000)
    options.add_argument("--commands", type=int, default=50, help="how many of these also go through the command")
    options.add_argument("--seed", type=int, default=0, help="of the first mutation; the others count on")
    arguments = options.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()  # thousands of lines
    with tempfile.TemporaryDirectory() as temporary:
        judge = Judge(Path(temporary))
        small_model(judge.folder)
        voxels_HWD = real_volume()
        named = pairs_that_disagree(judge, voxels_HWD)
        named |= {name: judge(name, content, accepted) for name, content, accepted in named_cases(voxels_HWD)}
        shared.show(f"{len(named)} named cases: {judge.counts}")
        originals = [nifti(voxels_HWD), nifti(np.stack([voxels_HWD[:32], voxels_HWD[16:]], axis=-1))]
        mutations = {f"seed {seed}: {name}": content for seed, (name, content) in _mutations(originals, arguments)}
        verdicts = {name: judge(name, content) for name, content in mutations.items()}
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        shared.show(f"with {len(mutations)} mutations: {judge.counts}, slowest {judge.slowest_s:.2f} s")
        names = list(mutations)
        chosen = [names[at] for at in np.linspace(0, len(names) - 1, arguments.commands).astype(int)]
        agreed = sum(through_the_command(judge, name, mutations[name], verdicts[name]) for name in chosen)
        shared.show(f"{agreed} of {len(chosen)} commands ended with the expected exit code")
    for escape in judge.escapes:
        shared.show(f"\nESCAPED {escape['name']}: {escape['what']}\n{escape['details']}")
    figures = {**judge.counts, "slowest_s": judge.slowest_s, "peak_mib": peak_mib}
    shared.table(list(figures), [[f"{value:.4g}" for value in figures.values()]])
    figures |= {"mutations": len(mutations), "seed": arguments.seed, "commands": len(chosen), "commands_agreed": agreed}
    if arguments.json:
        write_json(arguments.json, {**figures, "named": named, "escapes": judge.escapes})


def _mutations(originals: list[bytes], arguments: argparse.Namespace) -> Iterator[tuple[int, tuple[str, bytes]]]:
    for seed in range(arguments.seed, arguments.seed + arguments.mutations):
        yield seed, mutation(originals, seed)


if __name__ == "__main__":
    main()
