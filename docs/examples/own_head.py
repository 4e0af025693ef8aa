"""A value head of your own: the mean of several scalar heads, each trained on its own target."""

import torch
from torch import Tensor, nn

from pixelq.agents import DQN, AgentConfig, register_head
from pixelq.envs import make_vec
from pixelq.networks import ActionStreams, HeadLoss, Target


@register_head("ensemble")
class Ensemble(nn.Module):
    """K scalar heads: features [B, D] to values [B, A, K]."""

    def __init__(self, in_features: int, num_actions: int, config: AgentConfig, members: int = 4) -> None:
        super().__init__()
        # The dense layers that pixelq's own heads use.
        options = {"hidden": config.hidden, "dueling": config.dueling, "layer_norm": config.layer_norm}
        self.streams = ActionStreams(in_features, num_actions, members, **options)

    def forward(self, features: Tensor, noise=None) -> Tensor:
        return self.streams(features, noise)

    def q(self, value: Tensor) -> Tensor:
        return value.mean(-1)

    def loss(self, value: Tensor, target: Target, generator: torch.Generator | None = None) -> HeadLoss:
        action, reward, discount, next_value, next_policy, _ = target
        next_state = (next_policy.unsqueeze(-1) * next_value).sum(1)  # [B, K]
        goal = (reward.unsqueeze(-1) + discount.unsqueeze(-1) * next_state).detach()
        chosen = value[torch.arange(len(action)), action]  # [B, K]
        error = goal - chosen
        return HeadLoss(error.square().sum(-1), error.detach().abs().mean(-1), chosen.detach().mean(-1))


envs = make_vec("CartPole-v1", num_envs=4, seed=0)
config = AgentConfig(head="ensemble", dueling=True, double=True, hidden=32, replay_capacity=1_000, learning_starts=100)
agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu").learn(envs, steps=400)
print(agent.q_values(envs.reset(seed=0)[0]))
