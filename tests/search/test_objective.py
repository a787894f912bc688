from __future__ import annotations

import math

import pytest
import torch

from scripts.search.objective import LatencyObjective, WeightedLatency


@pytest.mark.parametrize(
    ("latency", "phi"),
    [(50, 1.0), (55, math.e), (45, math.exp(-1)), (65, math.exp(3)), (75, math.exp(3) * 3), (10, math.exp(-8))],
)
def test_values_by_hand(latency, phi):
    loss = LatencyObjective(weight=2.0, ramp=0)(torch.tensor(0.5), torch.tensor(float(latency)), 50.0, 0.0)
    assert float(loss) == pytest.approx(0.5 * max(1, latency / 50) + 2 * phi, rel=1e-6)


@pytest.mark.parametrize("latency", [1.0, 49.0, 64.999, 65.001, 90.0, 1e4])
def test_gradient_against_finite_differences(latency):
    objective = LatencyObjective(ramp=0)
    latency_ms = torch.tensor(latency, requires_grad=True)
    objective(torch.tensor(0.7), latency_ms, 50.0, 1.0).backward()

    # the loss is float32: differences come from the formula, in float64
    def loss(t):
        z = (t - 50) / 5
        return 0.7 * max(1, t / 50) + (math.exp(z) if z <= 3 else math.exp(3) * (z - 2))

    h = 1e-4 * latency
    assert float(latency_ms.grad) == pytest.approx((loss(latency + h) - loss(latency - h)) / (2 * h), rel=2e-3)


def test_speed_beyond_the_budget_is_worth_nothing():
    """The product alone would pay for every ms saved, with accuracy."""
    latency_ms = torch.tensor(20.0, requires_grad=True)
    LatencyObjective(weight=0.0)(torch.tensor(1.0), latency_ms, 50.0, 1.0).backward()
    assert latency_ms.grad == 0


@pytest.mark.parametrize("latency", [0.0, 60.0, 140.0, 1e6])
def test_it_is_finite_where_the_literal_form_is_not(latency):
    latency_ms = torch.tensor(latency, requires_grad=True)
    loss = LatencyObjective()(torch.tensor(1.0), latency_ms, 50.0, 1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(latency_ms.grad)


def test_the_literal_form_of_equation_2():
    literal = LatencyObjective(weight=0.5, ramp=0, literal=True)
    loss = literal(torch.tensor(2.0), torch.tensor(51.0), 50.0, 1.0)
    assert float(loss) == pytest.approx(2 * 51 + 0.5 * math.e, rel=1e-6)
    assert torch.isinf(literal(torch.tensor(2.0), torch.tensor(140.0), 50.0, 1.0))


def test_lambda_rises_over_the_first_third():
    objective = LatencyObjective(weight=3.0)
    assert [objective.weight_at(p) for p in (0, 1 / 6, 1 / 3, 1)] == pytest.approx([0, 1.5, 3, 3])


def test_half_precision_inputs_are_computed_in_float32():
    loss = LatencyObjective()(torch.tensor(1.0, dtype=torch.bfloat16), torch.tensor(50.0), 50.0, 1.0)
    assert loss.dtype == torch.float32


def test_equation_6_of_hardware_aware_nas_by_hand():
    """CE + lambda LAT, whatever budget and progress; the latency's gradient is lambda."""
    latency_ms = torch.tensor(40.0, requires_grad=True)
    loss = WeightedLatency(1e-4)(torch.tensor(0.5), latency_ms, 50.0, 0.1)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.504)
    assert float(latency_ms.grad) == pytest.approx(1e-4)
    assert WeightedLatency(0.0)(torch.tensor(0.5), latency_ms, 1.0, 1.0) == 0.5
