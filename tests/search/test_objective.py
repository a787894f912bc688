from __future__ import annotations

import math

import pytest
import torch

from scripts.search.objective import LIMIT, LatencyMultiplier, LatencyObjective, WeightedLatency


@pytest.mark.parametrize(
    ("latency", "phi"),
    [(50, 1.0), (55, math.e), (45, math.exp(-1)), (65, math.exp(3)), (75, math.exp(3) * 3), (10, math.exp(-8))],
)
def test_values_by_hand(latency, phi):
    loss = LatencyObjective(weight=2.0, ramp=0)(torch.tensor(0.5), torch.tensor(float(latency)), 50.0, 0.0)
    assert float(loss) == pytest.approx(0.5 * max(1, latency / 50) + 2 * phi, rel=1e-6)


@pytest.mark.parametrize("latency", [1.0, 49.0, 64.999, 65.001, 90.0, 1e4])
def test_the_gradient_equals_finite_differences(latency):
    objective = LatencyObjective(ramp=0)
    latency_ms = torch.tensor(latency, requires_grad=True)
    objective(torch.tensor(0.7), latency_ms, 50.0, 1.0).backward()

    # the loss is float32: differences come from the formula, in float64
    def loss(t):
        z = (t - 50) / 5
        return 0.7 * max(1, t / 50) + (math.exp(z) if z <= 3 else math.exp(3) * (z - 2))

    h = 1e-4 * latency
    assert float(latency_ms.grad) == pytest.approx((loss(latency + h) - loss(latency - h)) / (2 * h), rel=2e-3)


def test_speed_beyond_the_budget_gains_nothing():
    """Only with the product, each saved ms would be paid for with accuracy."""
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
    latency_ms = torch.tensor(140.0, requires_grad=True)
    loss = literal(torch.tensor(2.0), latency_ms, 50.0, 1.0)  # its tangent, where e^90 would overflow
    assert float(loss.detach()) == pytest.approx(2 * 140 + 0.5 * math.exp(20) * (1 + 90 - 20), rel=1e-6)
    loss.backward()
    assert float(latency_ms.grad) == pytest.approx(2 + 0.5 * math.exp(20), rel=1e-6)


def test_lambda_rises_over_the_first_third():
    objective = LatencyObjective(weight=3.0)
    assert [objective.weight_at(p) for p in (0, 1 / 6, 1 / 3, 1)] == pytest.approx([0, 1.5, 3, 3])


def test_half_precision_inputs_are_computed_in_float32():
    loss = LatencyObjective()(torch.tensor(1.0, dtype=torch.bfloat16), torch.tensor(50.0), 50.0, 1.0)
    assert loss.dtype == torch.float32


def test_equation_6_of_hardware_aware_nas_by_hand():
    """CE + lambda LAT, for any budget and progress; the latency's gradient is lambda."""
    latency_ms = torch.tensor(40.0, requires_grad=True)
    loss = WeightedLatency(1e-4)(torch.tensor(0.5), latency_ms, 50.0, 0.1)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.504)
    assert float(latency_ms.grad) == pytest.approx(1e-4)
    assert WeightedLatency(0.0)(torch.tensor(0.5), latency_ms, 1.0, 1.0) == 0.5


def begun(start_ms, **options):
    """A multiplier that has seen the L_t of its first step."""
    objective = LatencyMultiplier(**options)
    objective(torch.tensor(1.0), torch.tensor(start_ms), 10.0, 0.0)
    return objective


def test_the_multiplier_rises_above_the_budget_and_falls_below_it():
    objective = begun(20.0, rate=0.1, damping=2.0)
    objective.update(torch.tensor(11.0), 10.0, 1.0)
    assert objective.weight_at(1.0) == pytest.approx(0.1 * 0.1)
    objective.update(torch.tensor(40.0), 10.0, 1.0)  # 3 above the budget counts as LIMIT
    assert objective.weight_at(1.0) == pytest.approx(0.01 + 0.1 * LIMIT)
    for _ in range(3):
        objective.update(torch.tensor(1.0), 10.0, 1.0)
    assert objective.weight_at(1.0) == pytest.approx(0.01 + 0.1 * LIMIT - 3 * 0.1 * LIMIT)


@pytest.mark.parametrize(("progress", "aim_ms"), [(0.0, 30.0), (0.25, 20.0), (0.5, 10.0), (1.0, 10.0)])
def test_the_slope_of_the_loss_by_hand_on_the_way_to_the_budget(progress, aim_ms):
    objective = begun(30.0, rate=0.1, damping=2.0, ramp=0.5)
    objective.multiplier += 0.3
    for excess, clamped in ((0.05, 0.05), (-0.1, -0.1), (4.0, LIMIT)):
        latency_ms = torch.tensor(aim_ms * (1 + excess), requires_grad=True)
        objective(torch.tensor(1.0), latency_ms, 10.0, progress).backward()
        assert float(latency_ms.grad) == pytest.approx((0.3 + 2 * clamped) / aim_ms, rel=1e-4)


@pytest.mark.parametrize("wish_ms", [2.0, 30.0])
@pytest.mark.parametrize("budget_ms", [5.0, 12.0, 20.0])
def test_the_multiplier_brings_latency_to_its_budget_from_either_side(wish_ms, budget_ms):
    """An accuracy loss that prefers another latency: at the end the budget is met, with a multiplier of either sign."""
    objective = LatencyMultiplier()
    latency_ms = torch.tensor(10.0, requires_grad=True)
    optimizer = torch.optim.Adam([latency_ms], 0.2)
    for step in range(600):
        optimizer.zero_grad()
        objective(0.005 * (latency_ms - wish_ms).square(), latency_ms, budget_ms, step / 600).backward()
        optimizer.step()
        objective.update(latency_ms.detach(), budget_ms, step / 600)
    assert float(latency_ms.detach()) == pytest.approx(budget_ms, rel=0.02)
    by_hand = -0.01 * (budget_ms - wish_ms) * budget_ms  # where the loss is stationary
    assert objective.weight_at(1.0) == pytest.approx(by_hand, rel=0.05, abs=0.1)


def test_the_multiplier_is_saved_with_the_search():
    objective, other = begun(20.0), LatencyMultiplier()
    objective.update(torch.tensor(12.0), 10.0, 1.0)
    other.load_state_dict(objective.state_dict())
    assert other.weight_at(0.0) == objective.weight_at(0.0) > 0
    assert other.start_ms == 20.0
