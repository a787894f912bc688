from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from scripts.files import CineError
from scripts.search.relaxation import JointSoftmax
from scripts.space.architecture import Space
from scripts.space.network import name_of
from scripts.space.supernet import Mixing, Supernet


@pytest.fixture
def relaxation(space) -> JointSoftmax:
    """Architecture parameters that no softmax leaves equal."""
    relaxation = JointSoftmax(space).double()
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()
    return relaxation


@pytest.mark.parametrize("partial", [1, 2, 4])
def test_equation_1_against_a_slow_evaluation(space, relaxation, partial):
    """Every cell and tile by recursion, every pair by itself, channel by channel; no code of the supernet's forward."""
    supernet = Supernet(space, partial=partial).double()
    mixing = relaxation()
    x = torch.randn(2, 1, 16, 16, 3, dtype=torch.float64)

    def run_cell(cell, x):
        module = supernet.cells[name_of(cell)]
        tensors = [x]
        channels = x.shape[1]
        active = channels // partial
        for i in range(1, space.nodes + 1):
            v = relaxation.alpha[f"{cell.kind}_{i}"]
            z = sum(torch.exp(v[j, o]) for j in range(i) for o in range(len(space.operations)))
            out = torch.zeros_like(x)
            for j in range(i):
                for o in range(len(space.operations)):
                    p = torch.exp(v[j, o]) / z
                    out[:, :active] += p * module.edges[f"{i}_{j}"][o](tensors[j][:, :active])
                    out[:, active:] += p * tensors[j][:, active:]
            order = [g * active + c for c in range(active) for g in range(partial)]
            tensors.append(out[:, order])
        return module.scaling(tensors[1:])

    def tile(layer, scale):
        if layer == 0:
            return supernet.stem(x)
        arriving = [c for c in space.trellis.cells if (c.layer, c.target) == (layer, scale)]
        return sum(mixing.cells[c] * run_cell(c, tile(layer - 1, c.source)) for c in arriving)

    torch.testing.assert_close(supernet(x, mixing), supernet.head(tile(4, 0)))


@pytest.mark.parametrize("size", [(16, 16, 1), (13, 18, 2)])
def test_any_size_comes_out_as_it_went_in(space, size):
    assert Supernet(space)(torch.randn(2, 1, *size), JointSoftmax(space)()).shape == (2, 4, *size)


def test_weights_of_one_make_a_plain_sum(space):
    """With all weight on identity of X_0, each node is X_0, whatever the partial channels."""
    supernet = Supernet(space, partial=1)
    one = torch.zeros(2, 5)
    one[0, 4] = 1
    nodes = [one[:1], one]
    mixing = Mixing(dict.fromkeys(space.trellis.kinds, nodes), {c: torch.tensor(1.0) for c in space.trellis.cells})
    cell = supernet.cells["layer1_0to0"]
    x = torch.randn(1, 4, 8, 8, 2)
    torch.testing.assert_close(cell(x, nodes), cell.scaling([x, x]))
    assert torch.isfinite(supernet(torch.randn(1, 1, 16, 16, 2), mixing)).all()


def test_a_pass_leaves_no_trace(space):
    supernet = Supernet(space)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    supernet(torch.randn(1, 1, 16, 16, 2), JointSoftmax(space)())
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


def test_a_width_of_its_own(space):
    supernet = Supernet(space, channels=2, partial=2)
    assert supernet.space.channels == 2
    with pytest.raises(CineError, match="divisor of the 6 channels"):
        Supernet(space, channels=6, partial=4)


def test_mixing_survives_json(space, relaxation):
    with torch.no_grad():
        mixing = relaxation()
    again = Mixing.from_lists(mixing.to_lists(), space)
    for kind in space.trellis.kinds:
        for p, q in zip(mixing.nodes[kind], again.nodes[kind], strict=True):
            torch.testing.assert_close(q, p.float())
    assert all(float(again.cells[c]) == pytest.approx(float(mixing.cells[c])) for c in space.trellis.cells)


def test_upsampled_supernet_output_has_the_head_s_classes():
    space = Space(layers=1, scales=1, nodes=1, channels=4, stem_stride=1, deployment_size=(8, 8, 1))
    logits = Supernet(space, partial=1)(torch.randn(1, 1, 8, 8, 1), JointSoftmax(space)())
    assert F.softmax(logits, 1).sum(1).allclose(torch.ones(1, 8, 8, 1))
