"""The Dice by which a search compares networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from monai.metrics import compute_dice

from scripts.core.errors import CineError
from scripts.search.descent import Batch


def mean_dice(predict: Callable[[torch.Tensor], torch.Tensor], batches: Iterable[Batch]) -> float:
    """Mean Dice over structures and volumes; a structure that is absent from a label is left out.

    MONAI's DiceMetric would wait for the other processes of a search, which do not evaluate.

    Args:
        predict: computes logits from an image B 1 H W D.
        batches: "image" and "label" B 1 H W D.

    Raises:
        CineError: no label has a structure.
    """
    of_volumes: list[torch.Tensor] = []
    for batch in batches:
        image, label = (batch[key].as_subclass(torch.Tensor) for key in ("image", "label"))
        logits = predict(image)
        predicted = logits.argmax(1, keepdim=True)
        dice_BS = compute_dice(predicted, label.to(logits.device), include_background=False, num_classes=4)
        of_volumes.append(dice_BS.nanmean(1))
    value = torch.cat(of_volumes).nanmean()
    if value.isnan():
        found = "no structure in any label"
        raise CineError("the exams that evaluate networks", found, "RV, MYO or LV", "Check label_map and the exams.")
    return float(value)
