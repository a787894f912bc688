from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import torch
from reference_supernet import ReferenceSupernet, run_cell
from torch.nn import functional as F

from scripts.core.errors import CineError
from scripts.search.relaxation import JointSoftmax, SeparateSoftmax
from scripts.space.mixing import Mixing
from scripts.space.registry import DEFAULT, OPERATIONS
from scripts.space.sampling import random_architecture
from scripts.space.space import Space
from scripts.space.supernet import Supernet


@pytest.fixture
def relaxation(space) -> JointSoftmax:
    """Architecture parameters for which all softmax outputs differ."""
    return normal(JointSoftmax(space).double())


def normal(relaxation):
    with torch.no_grad():
        for parameter in relaxation.parameters():
            parameter.normal_()
    return relaxation


@pytest.mark.parametrize("partial", [1, 2, 4])
@pytest.mark.parametrize(
    "operations", [OPERATIONS, DEFAULT, ("conv_3x3x1", "identity"), ("conv_3x3x3", "max_pool_3x3x3")]
)
def test_outputs_and_gradients_equal_the_obvious_loop(operations, partial):
    """In float64, in every part: logits, and gradients of weights, alpha and beta; state dicts interchangeable."""
    space = Space(layers=4, scales=3, nodes=3, channels=8, operations=operations, deployment_size=(16, 16, 3))
    relaxation = normal(JointSoftmax(space).double())
    ours, reference = Supernet(space, partial=partial).double(), ReferenceSupernet(space, partial=partial).double()
    reference.load_state_dict(ours.state_dict())
    image, weight = torch.randn(2, 1, 18, 16, 3).double(), torch.randn(2, 4, 18, 16, 3).double()
    found = []
    for network in (reference, ours):
        parameters = {**dict(network.named_parameters()), **dict(relaxation.named_parameters())}
        logits = network(image, relaxation())
        gradients = torch.autograd.grad((logits * weight).sum(), list(parameters.values()))
        found.append((logits, dict(zip(parameters, gradients, strict=True))))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"scaling": "before", "skip": True, "operations": (*DEFAULT, "zero")},
        {"start": "any", "end": "any"},
        {"scaling": "before", "start": "any", "end": "any", "skip": True},
        {"channels": (6, 4, 10)},
        {"channels": (6, 4, 10), "scaling": "before", "skip": True},
    ],
)
@pytest.mark.parametrize("relax", [JointSoftmax, SeparateSoftmax])
def test_the_other_spaces_equal_the_obvious_loop(changes, relax):
    space = replace(Space(layers=3, scales=3, nodes=2, channels=4, deployment_size=(16, 16, 3)), **changes)
    relaxation = normal(relax(space).double())
    ours, reference = Supernet(space, partial=2).double(), ReferenceSupernet(space, partial=2).double()
    reference.load_state_dict(ours.state_dict())
    image = torch.randn(2, 1, 18, 16, 3).double()
    found = []
    for network in (reference, ours):
        parameters = [*network.parameters(), *relaxation.parameters()]
        logits = network(image, relaxation())
        found.append((logits, torch.autograd.grad(logits.square().sum(), parameters)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": (6, 4)},
        {"scaling": "before", "skip": True},
        {"start": "any", "end": "any", "operations": OPERATIONS},
    ],
)
def test_one_architecture_with_shared_weights_is_the_relaxed_network_that_has_decided(changes):
    """Mixing weights of 1 for the architecture's cells and operations, 0 for all others. Missing ends would still count
    in the sum of the ends, so the architecture has them all."""
    space = replace(Space(layers=3, scales=2, nodes=2, channels=4, deployment_size=(16, 16, 3)), **changes)
    supernet = Supernet(space, partial=1).double()
    for seed in range(3):
        architecture = random_architecture(space, Random(seed), paths=6)
        if set(architecture.starts) != set(space.trellis.starts) or set(architecture.ends) != set(space.trellis.ends):
            continue
        union = architecture.union
        nodes = {
            kind: [
                torch.tensor([[float((j, name) == node) for name in space.operations] for j in range(i)]).double()
                for i, node in enumerate(architecture.cells[kind], start=1)
            ]
            for kind in space.trellis.kinds
        }
        mixing = Mixing(nodes, {cell: torch.tensor(float(cell in union)).double() for cell in space.trellis.cells})
        image = torch.randn(2, 1, 10, 9, 3).double()
        torch.testing.assert_close(supernet.run_one(image, architecture), supernet(image, mixing))
        break
    else:
        pytest.fail("no architecture with all starts and ends")


def test_the_reference_is_equation_1(space, relaxation):
    """Cell by cell from exponentials, channel by channel; it shares no code with the reference's loop."""
    cell = Supernet(space, partial=2).double().cells["layer1_0to0"]
    x = torch.randn(2, 4, 8, 8, 3, dtype=torch.float64)
    tensors = [x]
    for i in range(1, space.nodes + 1):
        v = relaxation.alpha[f"non_scaling_{i}"]
        z = sum(torch.exp(v[j, o]) for j in range(i) for o in range(len(space.operations)))
        out = torch.zeros_like(x)
        for j in range(i):
            for o in range(len(space.operations)):
                p = torch.exp(v[j, o]) / z
                out[:, :2] += p * cell.edges[f"{i}_{j}"][o](tensors[j][:, :2])
                out[:, 2:] += p * tensors[j][:, 2:]
        tensors.append(out[:, [0, 2, 1, 3]])
    expected = cell.scaling(tensors[1:])
    torch.testing.assert_close(run_cell(cell, x, relaxation().nodes["non_scaling"]), expected)


def test_recomputed_activations_change_no_gradient(space, relaxation):
    """And they are not kept: far fewer bytes wait for the backward pass."""
    supernet = Supernet(space, partial=2).double()
    image = torch.randn(2, 1, 16, 16, 3, dtype=torch.float64)
    gradients, kept = [], []
    for supernet.recompute in (False, True):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.nbytes) or t, lambda t: t):
            logits = supernet(image, relaxation())
        gradients.append(torch.autograd.grad(logits.square().sum(), list(supernet.parameters())))
        kept.append(sum(saved))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert kept[1] < kept[0] / 4


@pytest.mark.parametrize("channels", [8, 16])
def test_gradients_in_float32_stay_near_float64_s(channels):
    """At widths with vectorised kernels; those of float64 are not vectorised."""
    space = Space(layers=4, scales=3, nodes=2, channels=channels, deployment_size=(16, 16, 3))
    network, relaxation = Supernet(space, partial=2), normal(JointSoftmax(space))
    image, weight = torch.randn(2, 1, 32, 32, 3), torch.randn(2, 4, 32, 32, 3)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        network, relaxation = network.to(dtype), relaxation.to(dtype)
        parameters = [*network.parameters(), *relaxation.parameters()]
        loss = (network(image.to(dtype), relaxation()) * weight.to(dtype)).sum()
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[1].norm()


@pytest.mark.parametrize("rows", [8, 16, 32])
def test_bfloat16_stays_near_float32(space, relaxation, rows):
    """Logits and gradients under autocast agree within bfloat16's 8 bits, and as closely as in the obvious loop.

    Also if the coarsest tile would have one or two rows: with two, torch's gradient is wrong.
    """
    ours, reference = Supernet(space, partial=2), ReferenceSupernet(space, partial=2)
    reference.load_state_dict(ours.state_dict())
    relaxation = relaxation.float()
    image, weight = torch.randn(2, 1, rows, 32, 3), torch.randn(2, 4, rows, 32, 3)

    def values(network, amp):
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            logits = network(image, relaxation()).float()
        gradients = torch.autograd.grad((logits * weight).sum(), [*network.parameters(), *relaxation.parameters()])
        return logits.detach(), torch.cat([gradient.flatten() for gradient in gradients])

    exact = values(ours, False)
    for near, far, true in zip(values(ours, True), values(reference, True), exact, strict=True):
        error, reference_error = ((found - true).norm() / true.norm() for found in (near, far))
        assert error < 1.5 * reference_error + 0.01
        assert error < 0.2


@pytest.mark.parametrize("size", [(16, 16, 1), (13, 18, 2)])
def test_any_size_is_preserved(space, size):
    assert Supernet(space)(torch.randn(2, 1, *size), JointSoftmax(space)()).shape == (2, 4, *size)


def test_a_forward_pass_does_not_change_the_network(space):
    supernet = Supernet(space)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    supernet(torch.randn(1, 1, 16, 16, 2), JointSoftmax(space)())
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


def test_separate_widths_for_each_scale(space):
    supernet = Supernet(space, channels=2, partial=2)
    assert supernet.space.channels == 2
    for partial in (4, 0, -2, 1.5):
        with pytest.raises(CineError, match="divisor of the widths \\[6, 12, 24\\]"):
            Supernet(space, channels=6, partial=partial)
    with pytest.raises(CineError, match="channels"):
        Supernet(space, channels=0)


def test_a_space_without_convolutions_is_refused(space):
    with pytest.raises(CineError, match=r"identity.*at least one convolution"):
        Supernet(replace(space, operations=("identity", "max_pool_3x3x3")))


def test_mixing_survives_json(space, relaxation):
    with torch.no_grad():
        mixing = relaxation()
    again = Mixing.from_lists(mixing.to_lists(), space)
    for kind in space.trellis.kinds:
        for p, q in zip(mixing.nodes[kind], again.nodes[kind], strict=True):
            torch.testing.assert_close(q, p.float())
    assert all(float(again.cells[c]) == pytest.approx(float(mixing.cells[c])) for c in space.trellis.cells)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["nodes"].pop("expanding"),
        lambda content: content["nodes"]["expanding"].pop(),
        lambda content: content["nodes"]["expanding"][0][0].append(0.5),
        lambda content: content["nodes"]["expanding"][0].append([0.5]),
        lambda content: content["nodes"].update(expanding=[["a"]]),
        lambda content: content["nodes"].update(expanding=7),
        lambda content: content["cells"].pop("layer1_0to0"),
    ],
)
def test_mixing_of_another_space_is_refused(space, relaxation, damage):
    with torch.no_grad():
        content = relaxation().to_lists()
    damage(content)
    with pytest.raises(CineError, match=r"search/history.json: found other mixing weights"):
        Mixing.from_lists(content, space)


def test_upsampled_supernet_output_has_the_head_s_classes():
    space = Space(layers=1, scales=1, nodes=1, channels=4, stem_stride=1, deployment_size=(8, 8, 1))
    logits = Supernet(space, partial=1)(torch.randn(1, 1, 8, 8, 1), JointSoftmax(space)())
    assert F.softmax(logits, 1).sum(1).allclose(torch.ones(1, 8, 8, 1))
