"""Split the exams: into folds and halves by patient, or into the parts that a datalist gives."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Mapping, Sequence

from scripts.core.errors import CineError
from scripts.exams.reference import Exam

logger = logging.getLogger(__name__)
TRAINING, VALIDATION = "training", "validation"


def split_exams(exams: Sequence[Exam], fold: int = 0, folds: int = 5, seed: int = 0) -> tuple[list[Exam], list[Exam]]:
    """The training part and the test part of the exams; ``split_rule`` gives the rule, and the log shows it.

    A datalist's own parts come first, as in MONAI's tools. Its validation list is the test part; with fold numbers, the
    items with the number ``fold`` are. Other exams are dealt to ``folds`` by patient, stratified by group.

    Raises:
        CineError: there are fewer patients than folds, the fold does not exist, a part is empty, or a patient or file
            is in both parts.
    """
    if type(fold) is not int or type(folds) is not int or folds < 2 or fold < 0:
        raise _no_fold(f"fold {fold} of {folds}", "at least 2 folds, fold from 0 to folds - 1")
    listed, numbers = any("part" in exam for exam in exams), _numbers(exams)
    if listed and fold:
        raise _no_fold(f"fold {fold} with a datalist that has a validation list", "fold 0")
    if numbers and fold not in numbers:
        raise _no_fold(f"fold {fold}, which is not in the datalist", f"one of {_text(numbers)}")
    if listed:
        tested = [exam["part"] == VALIDATION for exam in exams]
    elif numbers:
        tested = [exam["fold"] == fold for exam in exams]
    elif fold < folds:
        part_of = deal_patients(exams, folds, seed)
        tested = [part_of[exam["patient"]] == fold for exam in exams]
    else:
        raise _no_fold(f"fold {fold} of {folds}", "at least 2 folds, fold from 0 to folds - 1")
    train, test = (
        [exam for exam, is_test in zip(exams, tested, strict=True) if is_test is part] for part in (False, True)
    )
    if listed or numbers:
        _check_listed(train, test)
    logger.info("%d exams to train on and %d to test: %s", len(train), len(test), split_rule(exams, fold, folds, seed))
    return train, test


def split_rule(exams: Sequence[Exam], fold: int = 0, folds: int = 5, seed: int = 0) -> str:
    """The rule by which ``split_exams`` chooses the parts, for logs and records."""
    if any("part" in exam for exam in exams):
        return "the datalist's own validation list"
    if numbers := _numbers(exams):
        return f"fold {fold} of the datalist's own fold numbers {_text(numbers)}"
    return f"fold {fold} of {folds}, dealt by patient and group with seed {seed}"


def patients_apart(parts: Mapping[str, Sequence[Exam]]) -> dict[str, list[str]]:
    """The patients of each part of the exams; CineError if a patient or a file is in two of them."""
    seen: dict[str, str] = {}
    for name, exams in parts.items():
        things = {exam["patient"]: exam["patient"] for exam in exams}
        things |= {os.path.realpath(exam[key]): exam[key] for key in ("image", "label") for exam in exams}
        for identity, thing in things.items():
            if identity in seen:
                found = f"{thing} in the parts {seen[identity]} and {name}"
                action = "Give each patient one name in the datalist, and each exam one file."
                raise CineError("exams", found, "every patient in one part", action)
            seen[identity] = name
    return {name: sorted({exam["patient"] for exam in exams}) for name, exams in parts.items()}


def halve(exams: Sequence[Exam], seed: int = 0) -> tuple[list[Exam], list[Exam]]:
    """Two halves by patient, stratified by group as far as possible.

    Raises:
        CineError: there are fewer than two patients.
    """
    part_of = deal_patients(exams, 2, seed)
    first, second = ([exam for exam in exams if part_of[exam["patient"]] == part] for part in (0, 1))
    return first, second


def deal_patients(exams: Sequence[Exam], parts: int, seed: int) -> dict[str, int]:
    """Patient -> part. Patients are dealt in turn, group after group, so that each group is spread evenly.

    Raises:
        CineError: there are fewer patients than parts.
    """
    group_of = {exam["patient"]: exam["group"] for exam in exams}
    if len(group_of) < parts:
        raise CineError(
            "exams", f"{len(group_of)} patients", f"at least {parts}, one per part", "Add exams or use fewer folds."
        )
    patients = sorted(group_of)
    random.Random(seed).shuffle(patients)
    patients.sort(key=group_of.__getitem__)
    return {patient: index % parts for index, patient in enumerate(patients)}


def exams_to_search(
    split: tuple[Sequence[Exam], Sequence[Exam]], all_exams: bool = False
) -> tuple[list[Exam], list[Exam]]:
    """The exams that a search reads, and the exams that it never reads.

    Args:
        split: the training and test part of the fold.
        all_exams: whether it also reads the test part, as RT-DNAS and related methods do.
    """
    training, test = map(list, split)
    if not all_exams:
        return training, test
    logger.warning(
        "The search also reads the %d test exams: the Dice on them will not be a Dice on unseen exams", len(test)
    )
    return training + test, []


def _check_listed(train: Sequence[Exam], test: Sequence[Exam]) -> None:
    if not train or not test:
        found, expected = f"{len(train)} exams to train on and {len(test)} to test", "at least one of each"
        raise CineError("datalist", found, expected, "Correct it; to score every exam, add evaluate_all.json.")
    patients_apart({TRAINING: train, VALIDATION: test})


def _numbers(exams: Sequence[Exam]) -> list[int]:
    return sorted({exam["fold"] for exam in exams if "fold" in exam})


def _text(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _no_fold(found: str, expected: str) -> CineError:
    return CineError("fold", found, expected, "Correct fold, folds or the datalist.")
