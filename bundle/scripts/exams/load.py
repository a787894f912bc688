"""Load the exams of a data set as MONAI data dicts, from ACDC's folders or from a datalist."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scripts.core.errors import CineError
from scripts.exams.acdc import acdc_exams
from scripts.exams.alignment import warn_of_alignment
from scripts.exams.datalist import read_datalist
from scripts.exams.enclosure import warn_of_order
from scripts.exams.folds import deal_patients
from scripts.exams.phantom import cached_phantom
from scripts.exams.reference import (
    PHASES,
    UNKNOWN,
    Exam,
    check_label_map,
    labelled_frames,
    warn_of_phases,
    warn_of_spacing,
    with_structures,
    without_repeats,
)

LAYOUTS: dict[str, Callable[[Path, Sequence[str]], list[Exam]]] = {"patient*/Info.cfg": acdc_exams}
"""A pattern of a file that only this layout has -> what reads such a folder. The first pattern that fits counts."""


def load_exams(
    dataset_dir: str | Path | None = None,
    datalist: str | Path | None = None,
    label_map: Mapping[int | str, int] | None = None,
    phases: Sequence[str] = PHASES,
) -> list[Exam]:
    """List the labelled volumes after checks: files exist, image and label are on one grid, no label is unexpected.

    Args:
        dataset_dir: a folder in one of ``LAYOUTS``, such as ACDC's (see ``acdc_exams``).
        datalist: a MONAI datalist JSON; see ``read_datalist``. Each labelled frame of a 4D item is a separate exam; see
            ``labelled_frames``. Without both arguments, the phantom is used.
        label_map: value in the files -> 1 RV, 2 MYO, 3 LV (or 0); 0 may be left out. Default: ACDC's own values.
        phases: which of ED and ES to list; exams of unknown phase are kept.

    Returns:
        Dicts with the keys of ``Exam``, sorted by patient, phase, file and frame.

    Raises:
        CineError: a file or field is wrong; the message names it.
    """
    if dataset_dir is not None and datalist is not None:
        raise CineError("dataset_dir and datalist", "both", "only one of them", "Leave out the other one.")
    if not phases or set(phases) - set(PHASES):
        raise CineError("phases", repr(list(phases)), "ED, ES or both", "Correct phases.")
    mapped = check_label_map(label_map)
    if datalist is not None:
        listed = [exam for exam in read_datalist(Path(datalist)) if exam["phase"] in (*phases, UNKNOWN)]
    else:
        listed = _read_folder(Path(dataset_dir) if dataset_dir is not None else cached_phantom(), phases)
    exams = [frame for exam in listed for frame in labelled_frames(exam, mapped)]
    exams = [exam for exam in exams if exam["phase"] in (*phases, UNKNOWN)]
    if not exams:
        found, expected = "no exam", f"labelled items of the phases {', '.join(phases)}"
        raise CineError(str(datalist or dataset_dir), found, expected, "Correct phases or the datalist.")
    exams = without_repeats(exams)
    exams.sort(key=lambda exam: (exam["patient"], exam["phase"], exam["image"], exam.get("frame", 0)))
    if not warn_of_order(exams, mapped):
        warn_of_alignment(exams, mapped)
    warn_of_spacing(exams)
    warn_of_phases(exams)
    return with_structures(exams)


def _read_folder(folder: Path, phases: Sequence[str]) -> list[Exam]:
    """The exams of a folder. Where no layout fits, the reader of ACDC's says what is missing."""
    read = next((read for pattern, read in LAYOUTS.items() if any(folder.glob(pattern))), acdc_exams)
    return read(folder, phases)


def complete(
    items: Sequence[Mapping[str, str]], label_map: Mapping[int | str, int] | None = None, minimum: int = 0
) -> list[Exam]:
    """Make exams from items with only an image and its label, as in MONAI Label; exams of ``load_exams`` do not change.

    Each such volume counts as a separate patient, named after its file.

    Raises:
        CineError: there are fewer exams than ``minimum``; image and label are not on one grid (such as a cine with the
            label of one frame). Or a label is 4D, or a label value is unexpected.
    """
    if len(items) < minimum:
        raise CineError("exams", f"{len(items)} labelled", f"at least {minimum}", "Label some, then train.")
    exams = []
    for item in items:
        if "patient" in item:
            exams.append(dict(item))
            continue
        exam = {"image": item["image"], "label": item["label"], "patient": Path(item["image"]).name.split(".")[0]}
        frames = labelled_frames({**exam, "group": UNKNOWN, "phase": UNKNOWN}, check_label_map(label_map))
        if len(frames) != 1 or "frame" in frames[0]:
            raise CineError(item["label"], "a 4D label", "the label of one volume", "Save each frame as a volume.")
        exams += frames
    return exams


def sample_cine() -> str:
    """The phantom's cine of a patient that is not in the first fold's training: the input if none is given."""
    exams = load_exams()
    part_of = deal_patients(exams, parts=5, seed=0)  # as split_exams does by default
    first = Path(next(exam["image"] for exam in exams if part_of[exam["patient"]] == 0)).parent
    return str(first / f"{first.name}_4d.nii.gz")
