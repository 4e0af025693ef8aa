"""The learner: one update of the online network from one batch, and the target network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pixelq.agents.config.agent_config import READ_AT_EACH_STEP, AgentConfig
from pixelq.agents.config.at_step import learning_rate_at
from pixelq.agents.errors import InvalidConfig
from pixelq.agents.experience.batches import Batch, SequenceFeatures, Sequences
from pixelq.agents.learning.optimizers import (
    drop_subnormals,
    limit_norm,
    load_optimizer_tensors,
    make_fraction_optimizer,
    make_optimizer,
    norm_of_last_step,
    optimizer_tensors,
)
from pixelq.agents.learning.own_targets import TargetInputs, TargetRule, own_rule
from pixelq.agents.learning.resets import shrink_and_perturb
from pixelq.agents.learning.targets import greedy_policy, munchausen_reward, soft_policy
from pixelq.agents.storage.validation import fitting, restore_generator
from pixelq.networks import FractionHead, QNetwork, Target, among_allowed

SUBNORMALS_EVERY = 200
"""Updates between two searches for subnormal moments; one search takes as long as two optimiser steps."""
OF_OPTIMISERS = frozenset(
    "adam_epsilon rmsprop_decay rmsprop_epsilon weight_decay max_grad_norm fraction_learning_rate "
    "fraction_epsilon".split()
)
"""Changeable settings that the optimisers hold."""


class Update(NamedTuple):
    """Result of an update, left on the device so that nothing waits for it."""

    loss: Tensor  # [], mean loss of the batch, with importance weights
    q_mean: Tensor  # [], mean q-value of the actions taken
    priority: Tensor  # [B], new priorities of the batch's rows


class Learner:
    """Q-learning with a target network (Mnih et al. 2015, Algorithm 1), for every head and target rule.

    Args:
        network: The online network; the target network starts as its copy.
        config: Hyperparameters.
        seed: Seed of the noise, and of the fractions that a loss draws.
    """

    def __init__(self, network: QNetwork, config: AgentConfig, seed: int = 0) -> None:
        self.config = config
        self.network = network
        self.device = next(network.parameters()).device
        # A copy scatters an LSTM's weights, which cuDNN wants in one piece; `to` puts them together again.
        self.target_network = copy.deepcopy(network).requires_grad_(False).to(self.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.autocast = self._make_autocast()
        self.rule: TargetRule | None = own_rule(config, network)
        self.captured: Any = None  # the captured update and its replay; see `make_update`
        self._make_optimizers(learning_rate_at(config, 0))

    def _make_autocast(self) -> torch.autocast:
        precision = self.config.precision
        wants_bfloat16 = precision == "bfloat16" or (precision == "auto" and has_bfloat16(self.device))
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wants_bfloat16)

    def _make_optimizers(self, learning_rate: float) -> None:
        head = self.network.head
        fractions = list(head.proposal.parameters()) if isinstance(head, FractionHead) else []
        learning = [p for p in self.network.parameters() if p.requires_grad]  # of an own encoder, part may be frozen
        others = [p for p in learning if all(p is not fraction for fraction in fractions)]
        if not others:
            raise InvalidConfig("the network must have weights to learn, got none that requires a gradient")
        self.optimizers = {"optimizer": make_optimizer(self.config, others, learning_rate)}
        if fractions:
            self.optimizers["fraction_optimizer"] = make_fraction_optimizer(self.config, fractions)

    def configure(self, config: AgentConfig) -> None:
        """Learn by a configuration that differs in changeable fields from the next update on; all state is kept."""
        old, self.config = self.config, config
        changed = {field.name for field in fields(config) if getattr(config, field.name) != getattr(old, field.name)}
        if changed & OF_OPTIMISERS:
            state = {part: optimizer_tensors(optimizer) for part, optimizer in self.optimizers.items()}
            self._make_optimizers(self.learning_rate)
            for part, optimizer in self.optimizers.items():
                load_optimizer_tensors(optimizer, state[part])
        if "precision" in changed:
            self.autocast = self._make_autocast()
        if "target" in changed:
            self.rule = own_rule(config, self.network)
        if changed - READ_AT_EACH_STEP:
            self.captured = None

    def update(self, batch: Batch | Sequences) -> Update:
        """Take one gradient step on the head's loss between Z(s, a) and r + discount · Σₐ π(a|s′) Z_target(s′, a)."""
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
        loss = batch.mean(losses, batch.weight)
        # Gradient step
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if config.max_grad_norm is not None:
            limit_norm(self.optimizers["optimizer"], config.max_grad_norm)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return Update(loss.detach(), batch.mean(q_taken), batch.row_priorities(priority, config.priority_eta))

    def _value(self, network: QNetwork, features: Tensor) -> Any:
        """Return the head's representation of the values, with noise that the batch shares."""
        return network.head(features, network.draw_noise(1, self.generator))

    def _inputs(self, batch: Batch | Sequences, features: Batch | SequenceFeatures, next_q: Tensor) -> TargetInputs:
        """Return what an own target rule can look at."""

        def values(
            network: QNetwork, features_of: Callable[[QNetwork], Tensor], mask: Tensor | None
        ) -> Callable[[], Tensor]:
            return lambda: among_allowed(network.head.q(self._value(network, features_of(network))), mask)

        return TargetInputs(
            batch.action,
            batch.reward,
            batch.discount,
            next_q,
            batch.mask,
            batch.next_mask,
            self.config,
            self.generator,
            values(self.network, features.after, batch.next_mask),
            values(self.target_network, features.now, batch.mask),
            values(self.network, features.now, batch.mask),
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

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the step size of all parameters but those of FQF's fractions."""
        for group in self.optimizers["optimizer"].param_groups:
            if not isinstance(group["lr"], Tensor):  # somebody has put a number there
                group["lr"], self.captured = torch.zeros((), device=self.device), None
            group["lr"].fill_(learning_rate)  # in place: a captured update reads it there

    @property
    def learning_rate(self) -> float:
        """Step size of all parameters but those of FQF's fractions."""
        return float(self.optimizers["optimizer"].param_groups[0]["lr"])

    def grad_norm(self) -> float | None:
        """Return the Euclidean norm of the last update's gradients, before any limit; None before the first update.

        The gradients are those that the update left behind, so that no update computes a norm for this alone.
        """
        return norm_of_last_step(self.optimizers["optimizer"])

    def drop_subnormals(self, updates: int) -> None:
        """Drop subnormal moments, which slow a CPU down, after every 200th update."""
        if self.device.type == "cpu" and updates % SUBNORMALS_EVERY == 0:
            for optimizer in self.optimizers.values():
                drop_subnormals(optimizer)

    @torch.no_grad()
    def move_target(self, tau: float) -> None:
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

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of target network, optimisers and generator."""
        tensors = {f"target.{name}": tensor for name, tensor in self.target_network.state_dict().items()}
        for part, optimizer in self.optimizers.items():
            tensors |= {f"{part}.{name}": tensor for name, tensor in optimizer_tensors(optimizer).items()}
        return tensors | {"generator.state": self.generator.get_state()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned.

        Raises:
            LookupError, ValueError, RuntimeError: If they belong to another learner.
        """
        parts: dict[str, dict[str, Tensor]] = {"target": {}, "generator": {}, **{part: {} for part in self.optimizers}}
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            parts[part][key] = tensor
        for name, like in self.target_network.state_dict().items():
            fitting(parts["target"], name, like)
        self.target_network.load_state_dict(parts["target"])
        for part, optimizer in self.optimizers.items():
            load_optimizer_tensors(optimizer, parts[part])
        restore_generator(self.generator, parts["generator"], "state")
        self.captured = None


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies matrices in bfloat16 without emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
