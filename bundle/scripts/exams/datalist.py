"""Read a MONAI datalist: in Decathlon's format, in Auto3DSeg's with fold numbers, or with a validation list."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.core.errors import CineError
from scripts.core.json_files import read_json
from scripts.core.text_files import located
from scripts.exams.folds import TRAINING, VALIDATION
from scripts.exams.reference import PHASES, UNKNOWN, Exam

logger = logging.getLogger(__name__)
_TEXT = {"type": "string", "minLength": 1}
_FILE = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_ITEM = {
    "type": "object",
    "required": ["image", "label"],
    "properties": {
        "image": _FILE,
        "label": _FILE,
        "patient": {"type": ["string", "integer"], "minLength": 1},
        "group": _TEXT,
        "phase": {"enum": list(PHASES)},
        "fold": {"type": "integer", "minimum": 0},
    },
}
_SCHEMA = {
    "type": "object",
    "required": [TRAINING],
    "properties": {
        TRAINING: {"type": "array", "minItems": 1, "items": _ITEM},
        VALIDATION: {"type": "array", "items": _ITEM},
    },
}
_FRAME = re.compile(r"([_-](frame_?\d+|t\d+|ed|es|0000))+$", re.IGNORECASE)
"""Endings of file names that mark one frame, or one channel, of a patient."""


def read_datalist(path: Path) -> list[Exam]:
    """The items of a datalist, with paths that are absolute or relative to its folder; all files are checked to exist.

    Items without ``patient`` are named after their files, without the part that names a frame, or after their folders
    if files in several folders have the same name. In a list with fold numbers, items keep them under "fold". If there
    is a validation list, "part" is the list that an item is in.

    Raises:
        CineError: there is no such list; only some items have fold numbers, or they occur with a validation list; an
            item has several channels; or a file does not exist.
    """
    action = 'Write it as MONAI\'s datalists: {"training": [{"image": "...", "label": "..."}, ...]}.'
    content = read_json(path, _SCHEMA, action, max_mib=256)
    places = [(part, index) for part in (TRAINING, VALIDATION) for index in range(len(content.get(part, ())))]
    items: list[dict[str, Any]] = [content[part][index] for part, index in places]
    numbered, listed = sum("fold" in item for item in items), bool(content.get(VALIDATION))
    if listed and numbered:
        found = f"a validation list and {numbered} items with a fold"
        raise CineError(path, found, "only one of them, since both choose the test exams", "Remove one of them.")
    if 0 < numbered < len(items):
        part, index = next(place for place, item in zip(places, items, strict=True) if "fold" not in item)
        found = f"no fold, which {numbered} of {len(items)} items have"
        raise CineError(f"{path}, field {part}#{index}", found, "a fold in every item, or in none", "Correct it.")
    exams: list[Exam] = []
    for (part, index), item in zip(places, items, strict=True):
        files = {key: _file(path, f"{part}#{index}#{key}", item[key]) for key in ("image", "label")}
        exam = {key: str(file) for key, file in files.items()}
        exam |= {"group": item.get("group", UNKNOWN), "phase": item.get("phase", UNKNOWN)}
        chosen = {"part": part} if listed else {"fold": item["fold"]} if numbered else {}
        exams.append({**exam, **chosen})
    for exam, patient in zip(exams, _patients(items, [Path(exam["image"]) for exam in exams]), strict=True):
        exam["patient"] = patient
    return exams


def _file(path: Path, field: str, entry: str | Sequence[str]) -> Path:
    where = f"{path}, field {field}"
    texts = [entry] if isinstance(entry, str) else entry
    if len(texts) != 1:
        raise CineError(
            where, f"{len(texts)} files", "one file, since a cine has one channel", "List each file as an item."
        )
    file = located(texts[0], path.parent)
    if not os.path.isfile(file):
        action = "Correct it; a path may be relative to the datalist's folder."
        raise CineError(where, f"{texts[0]}, which does not exist", "a file", action)
    return file


def _patients(items: Sequence[Mapping[str, Any]], images: Sequence[Path]) -> list[str]:
    """The patient of each item."""
    folders: dict[str, set[Path]] = {}
    for image in images:
        folders.setdefault(image.name, set()).add(image.parent)
    patients, unnamed = [], 0
    for item, image in zip(items, images, strict=True):
        if "patient" in item:
            patients.append(str(item["patient"]))
            continue
        unnamed += 1
        name = _FRAME.sub("", re.sub(r"\.nii(\.gz)?$", "", image.name, flags=re.IGNORECASE))
        patients.append(name if len(folders[image.name]) == 1 else image.parent.name)
    spellings = Counter(patient.strip().lower().lstrip("0") for patient in set(patients))
    if alike := sum(count for count in spellings.values() if count > 1):
        text = "%d patients have names that differ only in zeros, capitals or spaces: each counts as one patient"
        logger.warning(text, alike)
    if unnamed:
        text = "%d of %d items name no patient: their file names give %d patients. %s"
        hint = "If a patient has several files, give its name as patient, or it may be in two folds"
        logger.warning(text, unnamed, len(items), len(set(patients)), hint)
    return patients
