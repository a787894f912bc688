"""Detect labels with another order than in ``label_map``, such as LV 1 and RV 3, from a network's predictions."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from typing import Any

import torch

from scripts.cine import STRUCTURES

logger = logging.getLogger(__name__)
MIN_GAIN = 0.3
"""The minimum gain in mean Dice by another order that is reported."""
MIN_DICE = 0.5
"""Below this Dice with any order, a prediction says nothing about the order."""
_CLASSES = 1 + len(STRUCTURES)


def count_pairs(pred_HWD: torch.Tensor, label_HWD: torch.Tensor) -> torch.Tensor:
    """Numbers of voxels for each value of the label (rows) and of the prediction (columns), 4 x 4."""
    pairs = _CLASSES * label_HWD.long() + pred_HWD.long()
    return torch.bincount(pairs.flatten(), minlength=_CLASSES**2).reshape(_CLASSES, _CLASSES)


def better_label_map(counts_LP: torch.Tensor, label_map: Mapping[int | str, int]) -> dict[str, Any] | None:
    """A ``label_map`` with structures exchanged that fits the predictions much better, or None.

    Args:
        counts_LP: sum of ``count_pairs`` over exams.
        label_map: the one with which the labels were read.

    Returns:
        label_map; dice and dice_now, the mean Dice over the labelled structures (of all voxels together) with the new
        and with the present label_map.
    """
    labelled = [index for index in STRUCTURES.values() if counts_LP[index].sum()]
    orders = list(itertools.permutations(STRUCTURES.values()))  # the first one is the present order
    if not labelled:
        return None
    dice = [sum(_dice(counts_LP, index, order[index - 1]) for index in labelled) / len(labelled) for order in orders]
    best = max(range(len(orders)), key=dice.__getitem__)
    if dice[best] < MIN_DICE or dice[best] - dice[0] < MIN_GAIN:
        return None
    exchanged = dict(zip(STRUCTURES.values(), orders[best], strict=True)) | {0: 0}
    mended = {str(value): exchanged[target] for value, target in label_map.items()}
    return {"label_map": mended, "dice": dice[best], "dice_now": dice[0]}


def format_hint(hint: Mapping[str, Any]) -> str:
    """The hint as a sentence for logs and tables."""
    text = (
        'The label values seem to have another order: with --label_map "{}" the mean Dice would be {:.3f}, not {:.3f}.'
    )
    return text.format(hint["label_map"], hint["dice"], hint["dice_now"])


def _dice(counts_LP: torch.Tensor, label: int, pred: int) -> float:
    return float(2 * counts_LP[label, pred] / (counts_LP[label].sum() + counts_LP[:, pred].sum()))
