"""The losses that drive the architecture parameters: RT-DNAS Eq. 2, after EDD; hardware-aware NAS Eq. 6; MS-NAS."""

from __future__ import annotations

import math

import torch


class LatencyObjective:
    """``L = L_a * max(1, L_t / L_ub) + lambda * phi((L_t - L_ub) / tau)``.

    Within the budget a faster network gains nothing (the paper's own aim), so the product of Eq. 2 takes part above
    it alone: printed without the maximum it prefers identity to every convolution, however much budget is left.
    phi(z) = e^z for z <= 3, its tangent beyond, so that a supernet far above the budget neither overflows nor
    stalls; tau = 0.1 L_ub makes the penalty independent of the unit. lambda is ramped from 0, since the penalty
    would otherwise decide before the weights mean anything.

    Args:
        weight: lambda.
        ramp: the share of the alternating epochs over which lambda rises linearly from 0.
        literal: the paper's form, ``L_a * L_t + lambda * e^(L_t - L_ub)`` in ms, for comparison: the exponential
            overflows float32 at +89 ms and vanishes at -20 ms.
    """

    TANGENT_FROM = 3.0

    def __init__(self, weight: float = 1.0, ramp: float = 1 / 3, literal: bool = False):
        self.weight, self.ramp, self.literal = weight, ramp, literal

    def weight_at(self, progress: float) -> float:
        """lambda at a share 0..1 of the alternating epochs."""
        return self.weight * min(1.0, progress / self.ramp) if self.ramp > 0 else self.weight

    def __call__(
        self, accuracy_loss: torch.Tensor, latency_ms: torch.Tensor, budget_ms: float, progress: float
    ) -> torch.Tensor:
        """The loss, in float32.

        Args:
            accuracy_loss: L_a, the cross-entropy.
            latency_ms: L_t.
            budget_ms: L_ub.
            progress: the share 0..1 of the alternating epochs that is over.
        """
        accuracy_loss, latency_ms = accuracy_loss.float(), latency_ms.float()
        weight = self.weight_at(progress)
        if self.literal:
            return accuracy_loss * latency_ms + weight * torch.exp(latency_ms - budget_ms)
        excess = (latency_ms - budget_ms) / (0.1 * budget_ms)
        # clamped inside, since the gradient of the branch not taken must stay finite too
        tangent = math.exp(self.TANGENT_FROM) * (1 + excess - self.TANGENT_FROM)
        penalty = torch.where(excess <= self.TANGENT_FROM, torch.exp(excess.clamp(max=self.TANGENT_FROM)), tangent)
        return accuracy_loss * (latency_ms / budget_ms).clamp(min=1.0) + weight * penalty


class WeightedLatency:
    """``L = L_a + lambda * L_t`` (hardware-aware NAS Eq. 6), whatever the budget; MS-NAS, which knows no latency, with
    lambda = 0.

    Args:
        weight: lambda, per ms.
    """

    def __init__(self, weight: float = 1e-4):
        self.weight = weight

    def weight_at(self, progress: float) -> float:
        """lambda at a share 0..1 of the alternating epochs: the same throughout."""
        del progress
        return self.weight

    def __call__(
        self, accuracy_loss: torch.Tensor, latency_ms: torch.Tensor, budget_ms: float, progress: float
    ) -> torch.Tensor:
        """The loss, in float32; arguments as of ``LatencyObjective``, the budget and the progress without effect."""
        del budget_ms, progress
        return accuracy_loss.float() + self.weight * latency_ms.float()
