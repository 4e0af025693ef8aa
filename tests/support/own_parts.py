"""Encoders, heads and target rules of one's own that are equal to built-in ones."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pixelq.agents import AgentConfig, TargetInputs, register_encoder, register_head, register_target
from pixelq.networks import HeadLoss, Noise, Target, pixels_to_float
from pixelq.networks.heads import of_action, td_error


class FlatEncoder(nn.Module):
    """The encoder mlp, without a word about its width."""

    def __init__(self, shape: tuple[int, ...], config: AgentConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(math.prod(shape), config.hidden), nn.ReLU())

    def forward(self, obs: Tensor) -> Tensor:
        features: Tensor = self.layers(pixels_to_float(obs).flatten(1))
        return features


class PlainHead(nn.Module):
    """The scalar head with one hidden layer and the Huber loss, without `ActionStreams`."""

    def __init__(self, in_features: int, num_actions: int, config: AgentConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_features, config.hidden)
        self.out = nn.Linear(config.hidden, num_actions)

    def forward(self, features: Tensor, noise: Noise | None = None) -> Tensor:
        q: Tensor = self.out(self.hidden(features).relu())
        return q

    def q(self, value: Tensor) -> Tensor:
        return value

    def loss(self, value: Tensor, target: Target, generator: torch.Generator | None = None) -> HeadLoss:
        error = td_error(value, target)
        loss = torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none")
        return HeadLoss(loss, error.detach().abs(), of_action(value.detach(), target.action))


def double(inputs: TargetInputs) -> tuple[Tensor, Tensor]:
    """Double DQN."""
    best = inputs.next_q_online.argmax(1, keepdim=True)
    return inputs.reward, torch.zeros_like(inputs.next_q).scatter_(1, best, 1.0)


def register_all() -> None:
    register_encoder("flat", FlatEncoder)
    register_head("plain", PlainHead)
    register_target("twin", double)


OWN: dict[str, dict[str, Any]] = {
    "encoder": {"encoder": "flat"},
    "head": {"head": "plain"},
    "target": {"target": "twin"},
}
"""Fields of a configuration with an own part."""
EQUAL: dict[str, dict[str, Any]] = {"encoder": {"encoder": "mlp"}, "head": {}, "target": {"double": True}}
"""Fields of a configuration whose built-in part is equal to the own one."""
