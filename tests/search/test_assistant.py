from __future__ import annotations

from random import Random

import pytest
import torch

from scripts.search.assistant import FIXED, MetaAssistant, fixed
from scripts.space.architecture import Architecture
from scripts.space.sampling import random_subgraph
from scripts.space.space import Space
from scripts.space.supernet import Supernet


def one_shot_space(**changes) -> Space:
    options = {
        **{"layers": 3, "scales": 2, "nodes": 1, "channels": 4, "operations": ("identity", "conv_3x3x3")},
        **{"deployment_size": (16, 16, 3), "start": "any", "end": "any", "join": "mean", "share_cells": False},
    }
    return Space(**{**options, **changes})


@pytest.fixture
def space() -> Space:
    return one_shot_space()


@pytest.fixture
def architecture(space) -> Architecture:
    return random_subgraph(space, Random(3), 0.8)


def test_the_paper_has_27648_scalars():
    """12 layers, widths 32..256: 10 edges per layer, two operations, one scalar per output channel."""
    assistant = MetaAssistant(one_shot_space(layers=12, scales=4, channels=32))
    assert assistant.scalars == 27_648
    per_layer = 2 * (2 * 32 + 3 * 64 + 3 * 128 + 2 * 256)  # operations x edges that arrive at each width
    assert 12 * per_layer == 27_648
    image = torch.randn(2, 1, 16, 16, 2)
    architecture = random_subgraph(assistant.space, Random(0))
    scalars = assistant(image, architecture)
    assert scalars.shape == (2, 27_648)
    assert 0 < scalars.min() < scalars.max() < 1


def test_encoder_and_hypernetwork_are_the_paper_s(space):
    assistant = MetaAssistant(space)
    kinds = [type(module).__name__ for module in assistant.modules()]
    assert (kinds.count("Conv3d"), kinds.count("InstanceNorm3d"), kinds.count("ReLU")) == (6, 6, 6 + 4)
    assert (kinds.count("Linear"), kinds.count("Sigmoid")) == (5, 1)
    assert assistant.encoder(torch.randn(1, 1, 32, 32, 4)).shape[1] == 256


def test_bits_mark_the_operations_of_the_architecture(space, architecture):
    assistant = MetaAssistant(space)
    bits = assistant.bits(architecture)
    assert len(bits) == len(space.trellis.cells) * 2
    assert int(bits.sum()) == len(architecture.union)
    first = architecture.union[0]
    at = 2 * assistant.cells.index(first) + space.operations.index(architecture.nodes_of(first)[0][1])
    assert bits[at] == 1


def test_the_assistant_changes_the_output_before_annealing_and_not_after(space, architecture):
    supernet, assistant = Supernet(space, partial=1), MetaAssistant(space)
    image = torch.randn(2, 1, 16, 16, 3)
    with torch.no_grad():
        without = supernet.run_one(image, architecture, fixed)
        before = supernet.run_one(image, architecture, assistant.weigh(image, architecture, 0.0))
        half = supernet.run_one(image, architecture, assistant.weigh(image, architecture, 0.5))
        after = supernet.run_one(image, architecture, assistant.weigh(image, architecture, 1.0))
    assert (before - without).abs().max() > 1e-3
    assert (half - without).abs().max() > 1e-4
    assert torch.equal(after, without)


def test_scalars_between_are_linear(space, architecture):
    """Equation 5 on the scalars themselves: a cell that outputs ones shows them."""
    assistant = MetaAssistant(space)
    image, cell = torch.randn(1, 1, 16, 16, 3), architecture.union[0]
    ones = torch.ones(1, space.width(cell.target), 1, 1, 1)
    with torch.no_grad():
        shown = [assistant.weigh(image, architecture, share)(cell, ones) for share in (0.0, 0.25, 1.0)]
    torch.testing.assert_close(shown[1], 0.25 * FIXED * ones + 0.75 * shown[0])
    assert torch.equal(shown[2], FIXED * ones)


def test_scalars_of_unused_operations_get_no_gradient(space, architecture):
    supernet, assistant = Supernet(space, partial=1), MetaAssistant(space)
    image = torch.randn(2, 1, 16, 16, 3)
    supernet.run_one(image, architecture, assistant.weigh(image, architecture)).square().sum().backward()
    last = assistant.hyper[-2]
    reached = last.weight.grad.abs().sum(1) > 0
    held = torch.zeros(assistant.scalars, dtype=torch.bool)
    for cell in architecture.union:
        ((_, name),) = architecture.nodes_of(cell)
        held[assistant._slices[cell.name, name]] = True
    assert not (reached & ~held).any()
    assert (reached & held).sum() > 0.9 * held.sum()


def test_without_the_architecture_its_bits_have_no_influence(space):
    assistant = MetaAssistant(space, architecture=False)
    image = torch.randn(1, 1, 16, 16, 3)
    first, second = (random_subgraph(space, Random(seed), 0.8) for seed in (1, 2))
    with torch.no_grad():
        assert torch.equal(assistant(image, first), assistant(image, second))
        full = MetaAssistant(space)
        assert not torch.equal(full(image, first), full(image, second))


def test_gradients_under_bfloat16_autocast_are_those_of_float32(space, architecture):
    """On a patch that the encoder reduces to two rows."""
    assistant, image = MetaAssistant(space), torch.randn(2, 1, 32, 32, 4)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = assistant(image, architecture).square().sum()
        gradients.append(torch.autograd.grad(loss, list(assistant.parameters())))
    torch.testing.assert_close(gradients[1], gradients[0])
