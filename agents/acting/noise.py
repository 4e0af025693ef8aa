"""Noise of noisy layers in evaluations."""

from __future__ import annotations

import torch

from pixelq.agents.acting.policy import Policy
from pixelq.networks import Noise


class EvaluationNoise:
    """Noise of noisy layers in an evaluation, from a generator of its own.

    Args:
        policy: The policy; without `evaluation_noise` in its configuration there is no noise.
        seed: Seed of the noise.
    """

    def __init__(self, policy: Policy, seed: int) -> None:
        self.network = policy.network
        is_drawn = policy.config.evaluation_noise and policy.config.noisy
        self.generator = torch.Generator(policy.device).manual_seed(seed) if is_drawn else None

    def draw(self, num_envs: int) -> Noise | None:
        """Return new noise for a step of N environments; None for the network without noise."""
        return None if self.generator is None else self.network.draw_noise(num_envs, self.generator)
