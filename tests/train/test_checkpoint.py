from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from scripts.core.errors import CineError
from scripts.train import checkpoint


def test_random_numbers_of_an_epoch_depend_only_on_seed_and_epoch():
    def draws(seed, epoch):
        checkpoint.seed_epoch(seed, epoch, [])
        return float(torch.rand(())), float(np.random.rand()), random.random()

    first = draws(1, 2)
    draws(3, 4)
    assert draws(1, 2) == first
    assert len({draws(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


def test_a_difference_names_the_first_entry_and_not_the_whole_dictionary(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save_newest(path, {"identity": {"augmentation": {"gamma": [0.7, 1.5], "noise": 0.1, "mirror": 0.5}}})
    with pytest.raises(CineError, match=r"augmentation = #noise = 0.1; expected #noise = 0.2, as configured now"):
        checkpoint.load(path, "cpu", {"augmentation": {"gamma": [0.7, 1.5], "noise": 0.2, "mirror": 0.5}})
