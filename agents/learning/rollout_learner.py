"""The rollout learner: updates from minibatches of a rollout, without a target network (PQN)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from pixelq.agents.experience.rollout import Minibatch
from pixelq.agents.learning.gradient import GradientLearner, Update
from pixelq.networks import ScalarTargetHead


class RolloutLearner(GradientLearner):
    """Parallelised Q-learning (Gallici et al. 2025), for every head that learns from a number.

    The targets are λ-returns of the rollout, which are computed once, from the values that acting had; those of earlier
    rollouts come from the values that the network has now. So nothing but the network itself is needed: no target
    network and no priorities.

    Args:
        network, config, seed: See `GradientLearner`.
    """

    def update(self, batch: Minibatch) -> Update:
        """Take one gradient step on the mean of the head's loss between Z(s, a) and the λ-returns."""
        losses = self._compiled_losses if self.config.compile_update else self._losses
        loss, q_mean, priority = losses(batch)
        steps = 1 if self.reduce is None else batch.steps
        return Update(*self._descend(loss, q_mean, steps), priority)

    def _losses(self, batch: Minibatch) -> Update:
        network = self.network
        head = cast(ScalarTargetHead, network.head)
        with self.autocast:
            value: Any = self._value(network, batch.features(network))
            losses, priority, q_taken = head.loss_to(value, batch.action, batch.target)
        return Update(batch.mean(losses), batch.mean(q_taken), priority)

    @torch.no_grad()
    def values(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the greatest q-value [B] of the allowed actions at observations [B, *shape].

        Args:
            obs: The observations.
            mask: Whether each action is allowed, bool [B, A]; None if all are.
        """
        network = self.network
        with self.autocast:
            q = network.head.q(self._value(network, network.encoder(obs))).float()
        return (q if mask is None else q.masked_fill(~mask, -torch.inf)).amax(1)
