"""The learner: one update of the online network from one batch, and the target network."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.experience.batches import Batch, SequenceFeatures, Sequences
from pixelq.agents.learning.gradient import GradientLearner, Update
from pixelq.agents.learning.own_targets import TargetInputs, TargetRule, own_rule
from pixelq.agents.learning.resets import shrink_and_perturb
from pixelq.agents.learning.targets import greedy_policy, munchausen_reward, soft_policy
from pixelq.agents.storage.validation import fitting, part
from pixelq.networks import QNetwork, Target, among_allowed


class Learner(GradientLearner):
    """Q-learning with a target network (Mnih et al. 2015, Algorithm 1), for every head and target rule.

    Args:
        network: The online network; the target network starts as its copy.
        config: Hyperparameters.
        seed: Seed of the noise, and of the fractions that a loss draws.
    """

    def __init__(self, network: QNetwork, config: AgentConfig, seed: int = 0) -> None:
        super().__init__(network, config, seed)
        # A copy scatters an LSTM's weights, which cuDNN wants in one piece; `to` puts them together again.
        self.target_network = copy.deepcopy(network).requires_grad_(False).to(self.device)
        self.rule: TargetRule | None = own_rule(config, network)

    def configure(self, config: AgentConfig) -> None:
        """Learn by a configuration that differs in changeable fields from the next update on; all state is kept."""
        is_other_rule = config.target != self.config.target
        super().configure(config)
        if is_other_rule:
            self.rule = own_rule(config, self.network)

    def update(self, batch: Batch | Sequences) -> Update:
        """Take one gradient step on the head's loss between Z(s, a) and r + discount · Σₐ π(a|s′) Z_target(s′, a)."""
        losses = self._compiled_losses if self.config.compile_update else self._losses
        loss, q_mean, priority = losses(batch)
        steps = 1 if self.reduce is None else batch.steps
        return Update(*self._descend(loss, q_mean, steps), priority)

    def _losses(self, batch: Batch | Sequences) -> Update:
        network, target_network, config = self.network, self.target_network, self.config
        features = batch.features()
        # Target: the value of the next state, and the policy that is followed there
        with torch.no_grad(), self.autocast:
            next_value = self._value(target_network, features.after(target_network))
            next_q = among_allowed(target_network.head.q(next_value), batch.next_mask)  # [B, A]
            reward, next_policy = batch.reward, greedy_policy(next_q)
            if config.double:
                online_q = network.head.q(self._value(network, features.after(network)))
                next_policy = greedy_policy(among_allowed(online_q, batch.next_mask))
            if config.munchausen:
                q = target_network.head.q(self._value(target_network, features.now(target_network)))
                reward, next_policy = self._munchausen(batch, among_allowed(q, batch.mask), next_q)
            if self.rule is not None:
                reward, next_policy = self.rule(self._inputs(batch, features, next_q))
        # Loss
        with self.autocast:
            value = self._value(network, features.now(network))
            weight = batch.weights() if config.clip_weighted else None
            target = Target(batch.action, reward, batch.discount, next_value, next_policy, weight)
            losses, priority, q_taken = network.head.loss(value, target, self.generator)
        if isinstance(batch, Sequences):
            priority = batch.row_priorities(priority, config.priority_eta)
        return Update(batch.mean(losses, batch.weight), batch.mean(q_taken), priority)

    def _inputs(self, batch: Batch | Sequences, features: Batch | SequenceFeatures, next_q: Tensor) -> TargetInputs:
        """Return what an own target rule can look at."""

        def values(
            network: QNetwork, features_of: Callable[[QNetwork], Tensor], mask: Tensor | None
        ) -> Callable[[], Tensor]:
            return lambda: among_allowed(network.head.q(self._value(network, features_of(network))), mask)

        return TargetInputs(
            action=batch.action,
            reward=batch.reward,
            discount=batch.discount,
            next_q=next_q,
            mask=batch.mask,
            next_mask=batch.next_mask,
            config=self.config,
            generator=self.generator,
            _next_q_online=values(self.network, features.after, batch.next_mask),
            _q=values(self.target_network, features.now, batch.mask),
            _q_online=values(self.network, features.now, batch.mask),
        )

    def _munchausen(self, batch: Batch | Sequences, q: Tensor, next_q: Tensor) -> tuple[Tensor, Tensor]:
        """Return reward [B] and next policy [B, A] of Munchausen DQN, from the target network's q at both states."""
        alpha, temperature = self.config.munchausen_alpha, self.config.munchausen_temperature
        reward = munchausen_reward(
            batch.reward,
            batch.discount,
            batch.action,
            q,
            next_q,
            alpha=alpha,
            temperature=temperature,
            clip=self.config.munchausen_clip,
            next_mask=batch.next_mask,
        )
        return reward, soft_policy(next_q, temperature)

    @torch.no_grad()
    def soft_update_target(self, tau: float) -> None:
        """Move the target network towards the online one: θ⁻ ← (1 − τ) θ⁻ + τ θ (Lillicrap et al. 2016)."""
        torch._foreach_lerp_(list(self.target_network.parameters()), list(self.network.parameters()), tau)
        for buffer, other in zip(self.target_network.buffers(), self.network.buffers(), strict=True):
            buffer.copy_(other)  # such as spectral normalisation's vector, which belongs to no mean

    def sync_target(self) -> None:
        """Copy the online network to the target network."""
        self.target_network.load_state_dict(self.network.state_dict())

    def reset(self, fresh: QNetwork) -> None:
        """Reset the online network towards `fresh`, copy it to the target network, and forget the moments.

        BBF resets the target network separately and keeps the encoder's moments (Schwarzer et al. 2023).
        """
        shrink_and_perturb(self.network, fresh.to(self.device), self.config.reset_shrink)
        self.sync_target()
        self._make_optimizers(self.learning_rate)
        self.captured = None  # which holds the old moments

    def start_anew(self) -> None:
        """See `GradientLearner`; the target network becomes a copy."""
        self.sync_target()

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of target network, optimisers and generator."""
        tensors = {f"target.{name}": tensor for name, tensor in self.target_network.state_dict().items()}
        return tensors | super().tensors()

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """See `GradientLearner`."""
        target, others = part(tensors, "target"), {n: t for n, t in tensors.items() if not n.startswith("target.")}
        for name, like in self.target_network.state_dict().items():
            fitting(target, name, like)
        self.target_network.load_state_dict(target)
        super().load_tensors(others)
