"""The losses of the architecture parameters: a latency budget kept by dual ascent; RT-DNAS Eq. 2, after EDD;
hardware-aware NAS Eq. 6; MS-NAS."""

from __future__ import annotations

import math

import torch
from torch import nn

LIMIT = 0.25
"""Limits g in the slope: so a step far from the aim neither overshoots nor disturbs the averages of Adam."""


class Objective(nn.Module):
    """Computes the loss from L_a and L_t. Its buffers, if any, are saved and resumed with the search."""

    def weight_at(self, progress: float) -> float:
        """The weight of latency at a share 0..1 of the alternating epochs."""
        raise NotImplementedError

    def forward(
        self, accuracy_loss: torch.Tensor, latency_ms: torch.Tensor, budget_ms: float, progress: float
    ) -> torch.Tensor:
        """The loss, in float32.

        Args:
            accuracy_loss: L_a, the cross-entropy.
            latency_ms: L_t.
            budget_ms: L_ub.
            progress: the share 0..1 of the alternating epochs that have passed.
        """
        raise NotImplementedError

    def update(self, latency_ms: torch.Tensor, budget_ms: float, progress: float) -> None:
        """Called after a step of the architecture parameters, with the L_t at its start."""


class LatencyMultiplier(Objective):
    """``L = L_a + m g + damping g^2 / 2`` with ``g = L_t / aim - 1``; after each step m rises by ``rate`` times g.

    The aim moves from the L_t of the first step to L_ub, so that on the way to the budget accuracy influences every
    choice. The multiplier m settles where L_t equals L_ub. It is negative if the search would otherwise stay below the
    budget, so that the network uses the time that is available. The damping stops L_t from swinging around the aim
    (the modified differential method of multipliers, Platt and Barr, 1988).

    Args:
        rate: the rate of the ascent, per step.
        damping: the weight of the square.
        ramp: the share of the alternating epochs over which the aim moves.
    """

    multiplier: torch.Tensor
    start_ms: torch.Tensor

    def __init__(self, rate: float = 0.05, damping: float = 3.0, ramp: float = 0.5):
        super().__init__()
        self.rate, self.damping, self.ramp = rate, damping, ramp
        self.register_buffer("multiplier", torch.zeros(()))
        self.register_buffer("start_ms", torch.zeros(()))

    def weight_at(self, progress: float) -> float:
        del progress
        return float(self.multiplier)

    def forward(
        self, accuracy_loss: torch.Tensor, latency_ms: torch.Tensor, budget_ms: float, progress: float
    ) -> torch.Tensor:
        if not self.start_ms:
            self.start_ms += latency_ms.detach()
        excess = latency_ms.float() / self._aim(budget_ms, progress) - 1
        slope = self.multiplier + self.damping * excess.detach().clamp(-LIMIT, LIMIT)
        return accuracy_loss.float() + slope * excess

    @torch.no_grad()
    def update(self, latency_ms: torch.Tensor, budget_ms: float, progress: float) -> None:
        excess = latency_ms.float() / self._aim(budget_ms, progress) - 1
        self.multiplier += self.rate * excess.clamp(-LIMIT, LIMIT)

    def _aim(self, budget_ms: float, progress: float) -> torch.Tensor:
        moved = min(1.0, progress / self.ramp) if self.ramp > 0 else 1.0
        return self.start_ms + moved * (budget_ms - self.start_ms)


class LatencyObjective(Objective):
    """``L = L_a * max(1, L_t / L_ub) + lambda * phi((L_t - L_ub) / tau)``.

    Within the budget a faster network gains nothing, as the paper intends. So the product of Eq. 2 counts only above
    it. As printed, without the maximum, it would prefer identity to every convolution, even with much budget left.
    For z <= 3, phi(z) = e^z; beyond, it is the tangent, so that a supernet far above the budget neither overflows nor
    stalls. With tau = 0.1 L_ub the penalty does not depend on the unit. The weight lambda is ramped from 0, since
    the penalty would otherwise decide before the weights are trained.

    Args:
        weight: lambda.
        ramp: the share of the alternating epochs over which lambda rises linearly from 0.
        literal: the paper's form, ``L_a * L_t + lambda * e^(L_t - L_ub)`` in ms. From +20 ms its exponential continues
            as its tangent, since float32 overflows at +89.
    """

    TANGENT_FROM, LITERAL_TANGENT_FROM = 3.0, 20.0

    def __init__(self, weight: float = 1.0, ramp: float = 1 / 3, literal: bool = False):
        super().__init__()
        self.weight, self.ramp, self.literal = weight, ramp, literal

    def weight_at(self, progress: float) -> float:
        return self.weight * min(1.0, progress / self.ramp) if self.ramp > 0 else self.weight

    def forward(
        self, accuracy_loss: torch.Tensor, latency_ms: torch.Tensor, budget_ms: float, progress: float
    ) -> torch.Tensor:
        accuracy_loss, latency_ms = accuracy_loss.float(), latency_ms.float()
        weight = self.weight_at(progress)
        if self.literal:
            return accuracy_loss * latency_ms + weight * _exponential(latency_ms - budget_ms, self.LITERAL_TANGENT_FROM)
        penalty = _exponential((latency_ms - budget_ms) / (0.1 * budget_ms), self.TANGENT_FROM)
        return accuracy_loss * (latency_ms / budget_ms).clamp(min=1.0) + weight * penalty


def _exponential(excess: torch.Tensor, tangent_from: float) -> torch.Tensor:
    """e^z, and its tangent beyond ``tangent_from``."""
    # clamped, since the gradient of the unused branch must stay finite too
    tangent = math.exp(tangent_from) * (1 + excess - tangent_from)
    return torch.where(excess <= tangent_from, torch.exp(excess.clamp(max=tangent_from)), tangent)


class WeightedLatency(Objective):
    """``L = L_a + lambda * L_t`` (hardware-aware NAS Eq. 6), independent of the budget. MS-NAS does not consider
    latency: lambda = 0.

    Args:
        weight: lambda, per ms.
    """

    def __init__(self, weight: float = 1e-4):
        super().__init__()
        self.weight = weight

    def weight_at(self, progress: float) -> float:
        del progress  # always the same
        return self.weight

    def forward(
        self, accuracy_loss: torch.Tensor, latency_ms: torch.Tensor, budget_ms: float, progress: float
    ) -> torch.Tensor:
        del budget_ms, progress
        return accuracy_loss.float() + self.weight * latency_ms.float()
