"""Noise of noisy layers in evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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

    def draw(self, num_envs: int, playing: NDArray[np.int64] | None = None) -> Noise | None:
        """Return new noise for a step; None for the network without noise.

        Args:
            num_envs: Number of environments N.
            playing: The environments [P] that take part in the step, whose noise is that of a full batch; None for all.
        """
        if self.generator is None:
            return None
        noise = self.network.draw_noise(num_envs, self.generator)
        return noise if playing is None or len(playing) == num_envs else _rows(noise, torch.from_numpy(playing))


def _rows(noise: Any, rows: Tensor) -> Any:
    """Return some rows of all arrays of a network's noise, which tuples, lists and mappings may hold."""
    if isinstance(noise, Tensor):
        return noise[rows.to(noise.device)]
    if isinstance(noise, Mapping):
        return {name: _rows(part, rows) for name, part in noise.items()}
    if isinstance(noise, tuple | list):
        parts = [_rows(part, rows) for part in noise]
        return noise._make(parts) if hasattr(noise, "_make") else type(noise)(parts)  # a named tuple has `_make`
    return noise  # None, or what all rows share
