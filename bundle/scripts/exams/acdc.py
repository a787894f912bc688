"""Read ACDC's folders: which frames are ED and ES, and the patient's group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from scripts.core.errors import CineError
from scripts.core.text_files import read_text
from scripts.exams.reference import PHASES, Exam


def acdc_exams(folder: Path, phases: Sequence[str]) -> list[Exam]:
    """The exams of a folder like ACDC's: patientNNN/Info.cfg, patientNNN_frameFF.nii.gz, patientNNN_frameFF_gt.nii.gz.

    Raises:
        CineError: there are no patients, a file is missing, or a field of Info.cfg is invalid.
    """
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
                    expected = f"the {phase} frame that Info.cfg gives"
                    raise CineError(path, "no such file", expected, "Restore the file, or remove the patient's folder.")
            exam = {"image": str(image), "label": str(label), "patient": entry.name, "group": info["Group"]}
            exams.append({**exam, "phase": phase})
    return exams


def _read_info(path: Path) -> dict[str, str]:
    """ACDC's Info.cfg: one ``Key: value`` per line; ED and ES count from 1."""
    action = "Restore Info.cfg from the data set."
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        raise CineError(path, "no such file", "ACDC's Info.cfg", action) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CineError(path, f"a file that cannot be read ({error})", "ACDC's Info.cfg", action) from None
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    for key in (*PHASES, "Group"):
        if not info.get(key):
            raise CineError(f"{path}, field {key}", "nothing", f"a line '{key}: value'", action)
    if info["ED"] == info["ES"]:
        raise CineError(f"{path}, field ES", f"frame {info['ES']}, which is also ED", "another frame than ED", action)
    last = info.get("NbFrame", "")
    if last.isdecimal() and int(last) < len(PHASES):
        raise CineError(f"{path}, field NbFrame", last, "at least 2 frames, ED and ES", action)
    for key in PHASES:
        frame = info[key]
        if not frame.isdecimal() or int(frame) < 1 or (last.isdecimal() and int(frame) > int(last)):
            expected = f"a frame from 1 to {last if last.isdecimal() else 'the last'}"
            raise CineError(f"{path}, field {key}", repr(frame), expected, action)
    return info
