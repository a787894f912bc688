from __future__ import annotations

import random

import numpy as np
import torch

from scripts.train import checkpoint


def test_random_numbers_of_an_epoch_depend_only_on_seed_and_epoch():
    def draws(seed, epoch):
        checkpoint.seed_epoch(seed, epoch, [])
        return float(torch.rand(())), float(np.random.rand()), random.random()

    first = draws(1, 2)
    draws(3, 4)
    assert draws(1, 2) == first
    assert len({draws(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16
