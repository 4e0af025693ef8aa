"""The learner: one update of the online network from one batch, and the target network."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pixelq.agents.config import AgentConfig
from pixelq.agents.optim import load_optimizer_tensors, make_optimizer, optimizer_tensors
from pixelq.agents.replay import Batch
from pixelq.agents.targets import greedy_policy
from pixelq.networks import QNetwork


class Update(NamedTuple):
    """What an update tells, left on the device so that nothing waits for it."""

    loss: Tensor  # [] mean loss of the batch
    q_mean: Tensor  # [] mean value of the actions taken


class Learner:
    """Q-learning with a target network (Mnih et al. 2015, Algorithm 1)."""

    def __init__(self, network: QNetwork, config: AgentConfig) -> None:
        self.config = config
        self.network = network
        self.target_network = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = make_optimizer(config, network.parameters())
        self.device = next(network.parameters()).device
        wants_bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and has_bfloat16(self.device))
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=wants_bfloat16)

    def update(self, batch: Batch) -> Update:
        """One gradient step on ``loss(Q(s, a), r + discount · Σₐ π(a|s′) Q_target(s′, a))``."""
        network, target_network = self.network, self.target_network
        with torch.no_grad(), self.autocast:
            next_value = target_network(batch.next_obs).float()
            selecting = network.q(batch.next_obs) if self.config.double else target_network.head.q(next_value)
            next_policy = greedy_policy(selecting.float())  # [B, A]
        with self.autocast:
            value = network(batch.obs).float()
        losses, _ = network.head.loss(value, batch.action, batch.reward, batch.discount, next_value, next_policy)
        loss = losses.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        with torch.no_grad():
            q_mean = network.head.q(value).gather(1, batch.action[:, None]).mean()
        return Update(loss.detach(), q_mean)

    def sync_target(self) -> None:
        """Copies the online network to the target network."""
        self.target_network.load_state_dict(self.network.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """The learner's state beyond the online network: target network and optimiser."""
        target = {f"target.{name}": tensor for name, tensor in self.target_network.state_dict().items()}
        moments = {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()}
        return target | moments

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what ``tensors`` gave."""
        parts: dict[str, dict[str, Tensor]] = {"target": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            parts[part][key] = tensor
        self.target_network.load_state_dict(parts["target"])
        load_optimizer_tensors(self.optimizer, parts["optimizer"])


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16 by itself, and not by emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
