from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.data import DataLoader, Dataset
from small_search import DICE_CE, blocks

from scripts.core.errors import CineError
from scripts.search.mean_dice import mean_dice
from scripts.search.scratch import ScratchTraining
from scripts.space.network import CineNet
from scripts.train.checkpoint import initialise
from scripts.train.trainer import warm_up_share


def block_loader(**settings):
    return DataLoader(Dataset(blocks()), batch_size=2, generator=torch.Generator(), **settings)


def test_a_trained_network_knows_most_blocks(architecture):
    training = ScratchTraining(block_loader(shuffle=True), DICE_CE, block_loader(), 0.02, amp=False)
    assert training.dice(architecture, 40) > 0.6


def test_a_training_against_a_loop_by_hand(architecture):
    """AdamW, one cycle, batches in the order of the seed."""
    loader = block_loader()
    network = CineNet(architecture)
    initialise(network, 5)
    optimizer = torch.optim.AdamW(network.parameters(), 0.01, weight_decay=0.01)
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.01, total_steps=3)
    schedule = cycle(optimizer, pct_start=0.05, cycle_momentum=False)
    batches = list(loader)
    for batch in (*batches, batches[0]):
        DICE_CE(network(batch["image"]), batch["label"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    found = ScratchTraining(loader, DICE_CE, loader, 0.01, seed=5, amp=False).trained(architecture, 3)
    image = batches[1]["image"]
    with torch.no_grad():  # weights before a norm have no gradient but noise, which Adam magnifies
        torch.testing.assert_close(found(image), network.eval()(image), rtol=1e-3, atol=1e-3)
        untrained = CineNet(architecture).eval()(image)
    assert (found(image) - untrained).abs().max() > 0.05


@pytest.mark.parametrize("steps", [1, 2, 19, 20, 21, 40])
def test_any_number_of_steps_can_be_trained(steps):
    """torch's cycle divides by zero if its first part has exactly one step."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 1.0)
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=steps, cycle_momentum=False)
    schedule = cycle(optimizer, pct_start=warm_up_share(steps))
    for _ in range(steps - 1):
        optimizer.step()
        schedule.step()
    assert 0 < warm_up_share(steps) <= 0.1


def test_labels_without_any_structure_are_refused():
    batch = {"image": torch.zeros(1, 1, 4, 4, 2), "label": torch.zeros(1, 1, 4, 4, 2)}
    with pytest.raises(CineError, match="no structure in any label"):
        mean_dice(lambda image_BCHWD: torch.zeros(1, 4, 4, 4, 2), [batch])
