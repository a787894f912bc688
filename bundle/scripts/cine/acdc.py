"""Exams on disk -> MONAI data dicts, and their parts: folds and halves by patient."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.cine.header import read_header
from scripts.cine.phantom import cached_phantom
from scripts.cine.reader import read_volume
from scripts.files import CineError, read_json

logger = logging.getLogger(__name__)
Exam = dict[str, str]
"""image, label (paths), patient, group, phase"""

PHASES = ("ED", "ES")
GRID_TOLERANCE_MM = 1e-3

_TEXT = {"type": "string", "minLength": 1}
_DATALIST = {
    "type": "object",
    "required": ["training"],
    "properties": {
        "training": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["image", "label", "patient"],
                "properties": {
                    "image": _TEXT,
                    "label": _TEXT,
                    "patient": {"type": ["string", "integer"], "minLength": 1},
                    "group": _TEXT,
                    "phase": {"enum": list(PHASES)},
                },
            },
        }
    },
}


def load_exams(
    dataset_dir: str | Path | None = None,
    datalist: str | Path | None = None,
    label_map: Mapping[int | str, int] | None = None,
    phases: Sequence[str] = PHASES,
) -> list[Exam]:
    """List the labelled volumes, checked: files there, image and label on one grid, no unexpected label.

    Args:
        dataset_dir: an ACDC folder (patientNNN/Info.cfg, patientNNN_frameFF.nii.gz, patientNNN_frameFF_gt.nii.gz).
        datalist: a MONAI datalist JSON; its items may lack ``group`` and ``phase`` ("unknown" then), relative
            paths start at its folder. Without either argument: the phantom.
        label_map: value in the files -> 1 RV, 2 MYO, 3 LV (or 0); 0 need not be named. Default: ACDC's own.
        phases: which of ED and ES to list.

    Returns:
        Dicts with image, label (paths), patient, group and phase, sorted by patient, then phase.

    Raises:
        CineError: names the file or field at fault.
    """
    if dataset_dir is not None and datalist is not None:
        raise CineError("dataset_dir and datalist", "both", "one of them", "Leave the other one out.")
    if not phases or set(phases) - set(PHASES):
        raise CineError("phases", repr(list(phases)), "ED, ES or both", "Correct phases.")
    allowed = _allowed_labels(label_map)
    if datalist is not None:
        exams = _from_datalist(Path(datalist), phases)
    else:
        exams = _from_acdc(Path(dataset_dir) if dataset_dir is not None else cached_phantom(), phases)
    for exam in exams:
        _check_pair(exam, allowed)
    return sorted(exams, key=lambda exam: (exam["patient"], exam["phase"], exam["image"]))


def complete(
    items: Sequence[Mapping[str, str]], label_map: Mapping[int | str, int] | None = None, least: int = 0
) -> list[Exam]:
    """Exams from items that name an image and its label alone, as MONAI Label's do; exams of ``load_exams`` stay.

    Each such volume is taken for a patient of its own, called after its file.

    Raises:
        CineError: fewer exams than ``least``; image and label are not on one grid (a cine with the label of one frame,
            say); or an unexpected label.
    """
    if len(items) < least:
        raise CineError("exams", f"{len(items)} labelled", f"at least {least}", "Label some, then train.")
    exams = []
    for item in items:
        if "patient" in item:
            exams.append(dict(item))
            continue
        image, label = Path(item["image"]), Path(item["label"])
        exams.append(_exam(image, label, image.name.split(".")[0], "unknown", "unknown"))
        _check_pair(exams[-1], _allowed_labels(label_map))
    return exams


def split_exams(exams: Sequence[Exam], fold: int = 0, folds: int = 5, seed: int = 0) -> tuple[list[Exam], list[Exam]]:
    """Training and test part of a cross-validation by patient, stratified by group.

    Raises:
        CineError: fewer patients than folds, or no such fold.
    """
    if type(fold) is not int or type(folds) is not int or folds < 2 or not 0 <= fold < folds:
        raise CineError(
            "fold", f"fold {fold} of {folds}", "at least 2 folds, fold from 0 to folds - 1", "Correct them."
        )
    part_of = _deal(exams, folds, seed)
    train = [exam for exam in exams if part_of[exam["patient"]] != fold]
    return train, [exam for exam in exams if part_of[exam["patient"]] == fold]


def exam_names(exams: Sequence[Exam]) -> list[str]:
    """What tells exams apart wherever their folder lies: patient, phase and file name."""
    return [f"{exam['patient']} {exam['phase']} {Path(exam['image']).name}" for exam in exams]


def patients_apart(parts: Mapping[str, Sequence[Exam]]) -> dict[str, list[str]]:
    """The patients of each part of the exams; CineError where a patient, or a file, is in two of them."""
    seen: dict[str, str] = {}
    for name, exams in parts.items():
        for thing in dict.fromkeys(exam[key] for key in ("patient", "image", "label") for exam in exams):
            if thing in seen:
                found = f"{thing} in the parts {seen[thing]} and {name}"
                action = "Give each patient one name in the datalist, and each exam one file."
                raise CineError("exams", found, "every patient in one part", action)
            seen[thing] = name
    return {name: sorted({exam["patient"] for exam in exams}) for name, exams in parts.items()}


def halve(exams: Sequence[Exam], seed: int = 0) -> tuple[list[Exam], list[Exam]]:
    """Two halves by patient, stratified by group as far as that goes.

    Raises:
        CineError: fewer than two patients.
    """
    second, first = split_exams(exams, fold=0, folds=2, seed=seed)
    return first, second


def exams_to_search(
    split: tuple[Sequence[Exam], Sequence[Exam]], all_exams: bool = False
) -> tuple[list[Exam], list[Exam]]:
    """The exams that a search reads, and those that it never does.

    Args:
        split: training and test part of the fold.
        all_exams: whether it reads the test part too, as RT-DNAS and its relatives do.
    """
    training, test = map(list, split)
    if not all_exams:
        return training, test
    logger.warning("The search reads the %d test exams too: a Dice on them will not be one of unseen exams", len(test))
    return training + test, []


def _deal(exams: Sequence[Exam], parts: int, seed: int) -> dict[str, int]:
    """Patient -> part. Dealing the patients in turn, group after group, spreads each group and all of them evenly."""
    group_of = {exam["patient"]: exam["group"] for exam in exams}
    if len(group_of) < parts:
        raise CineError(
            "exams", f"{len(group_of)} patients", f"at least {parts}, one a part", "Add exams or use fewer folds."
        )
    patients = sorted(group_of)
    random.Random(seed).shuffle(patients)
    patients.sort(key=group_of.__getitem__)
    return {patient: index % parts for index, patient in enumerate(patients)}


def _from_acdc(folder: Path, phases: Sequence[str]) -> list[Exam]:
    found = sorted(folder.glob("patient*")) if folder.is_dir() else []
    patients = [entry for entry in found if re.fullmatch(r"patient\d+", entry.name) and entry.is_dir()]
    if not patients:
        raise CineError(folder, "no patients", "folders patientNNN, as in ACDC", "Check dataset_dir.")
    exams = []
    for entry in patients:
        info = _read_info(entry / "Info.cfg")
        for phase in phases:
            stem = f"{entry.name}_frame{int(info[phase]):02d}"
            image, label = entry / f"{stem}.nii.gz", entry / f"{stem}_gt.nii.gz"
            for path in (image, label):
                if not path.is_file():
                    expected = f"the {phase} frame that Info.cfg names"
                    raise CineError(path, "no such file", expected, "Restore the file, or remove the patient's folder.")
            exams.append(_exam(image, label, entry.name, info["Group"], phase))
    return exams


def _read_info(path: Path) -> dict[str, str]:
    """ACDC's Info.cfg, ``Key: value`` a line; ED and ES count from 1."""
    action = "Restore Info.cfg from the data set."
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise CineError(path, "no such file", "ACDC's Info.cfg", action) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CineError(path, f"a file that cannot be read ({error})", "ACDC's Info.cfg", action) from None
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    for key in (*PHASES, "Group"):
        if not info.get(key):
            raise CineError(f"{path}, field {key}", "nothing", f"a line '{key}: value'", action)
    if info["ED"] == info["ES"]:
        raise CineError(f"{path}, field ES", f"frame {info['ES']}, which is ED too", "another frame than ED", action)
    last = info.get("NbFrame", "")
    if last.isdecimal() and int(last) < len(PHASES):
        raise CineError(f"{path}, field NbFrame", last, "at least 2 frames, ED and ES", action)
    for key in PHASES:
        frame = info[key]
        if not frame.isdecimal() or int(frame) < 1 or (last.isdecimal() and int(frame) > int(last)):
            expected = f"a frame from 1 to {last if last.isdecimal() else 'the last'}"
            raise CineError(f"{path}, field {key}", repr(frame), expected, action)
    return info


def _from_datalist(path: Path, phases: Sequence[str]) -> list[Exam]:
    content = read_json(path, _DATALIST, "Write it as MONAI's datalists are.", most_mib=256)
    items: list[dict[str, Any]] = content["training"]
    exams = []
    for index, item in enumerate(items):
        image, label = (path.parent / item[key] for key in ("image", "label"))
        for key, file in (("image", image), ("label", label)):
            if not file.is_file():
                raise CineError(
                    f"{path}, field training#{index}#{key}", f"{file}, which is no file", "a file", "Correct it."
                )
        phase = item.get("phase", "unknown")
        if phase in (*phases, "unknown"):
            exams.append(_exam(image, label, str(item["patient"]), item.get("group", "unknown"), phase))
    if not exams:
        raise CineError(path, "no exam", f"items of the phases {', '.join(phases)}", "Correct phases or the datalist.")
    return exams


def _exam(image: Path, label: Path, patient: str, group: str, phase: str) -> Exam:
    return {"image": str(image), "label": str(label), "patient": patient, "group": group, "phase": phase}


def _allowed_labels(label_map: Mapping[int | str, int] | None) -> set[int]:
    """The values that a label file may hold."""
    mapping = {1: 1, 2: 2, 3: 3} if label_map is None else label_map
    try:
        keys, targets = {int(key) for key in mapping}, set(mapping.values())
    except (TypeError, ValueError, AttributeError):
        keys, targets = set(), set()
    if not keys or not targets <= {0, 1, 2, 3}:
        expected = "numbers mapped to 1 RV, 2 MYO, 3 LV or 0"
        raise CineError("label_map", repr(label_map), expected, 'Write it as {"500": 3, "200": 2, "600": 1}.')
    return keys | {0}


def _check_pair(exam: Exam, allowed: set[int]) -> None:
    image, label = read_header(exam["image"]), read_header(exam["label"])
    action = "Label the image's own grid, or resample the label to it."
    if label.file_shape != image.file_shape:
        raise CineError(label.path, f"shape {label.file_shape}", f"{image.file_shape}, as {image.path.name}", action)
    if not np.allclose(label.spacing_mm, image.spacing_mm, rtol=0, atol=GRID_TOLERANCE_MM):
        expected = f"{image.spacing_mm} mm, as {image.path.name}"
        raise CineError(label.path, f"spacing {label.spacing_mm} mm", expected, action)
    if not np.allclose(label.affine, image.affine, rtol=0, atol=GRID_TOLERANCE_MM):
        expected = f"{image.affine[:3].tolist()}, as {image.path.name}"
        raise CineError(label.path, f"affine {label.affine[:3].tolist()}", expected, action)
    unexpected = sorted(set(np.unique(read_volume(label.path)[0]).tolist()) - allowed)
    if unexpected:
        found = ", ".join(f"{value:g}" for value in unexpected[:8])
        expected = ", ".join(map(str, sorted(allowed)))
        raise CineError(label.path, f"the label values {found}", expected, "Name them in label_map.")


def sample_cine() -> str:
    """The phantom's cine of a patient that the first fold's training does not see: an input where none is given."""
    _, test = split_exams(load_exams())
    first = Path(test[0]["image"]).parent
    return str(first / f"{first.name}_4d.nii.gz")
