"""Two target rules of your own: a softmax policy, and advantage learning (Bellemare et al. 2016)."""

from dataclasses import replace

import torch
from torch import Tensor

from pixelq.agents import DQN, TargetInputs, preset, register_target
from pixelq.envs import make_vec


@register_target("soft")
def soft(inputs: TargetInputs) -> tuple[Tensor, Tensor]:
    """Follow the softmax of the online network's values at the next state."""
    return inputs.reward, (inputs.next_q_online / 0.1).softmax(1)


@register_target("advantage")
def advantage(inputs: TargetInputs, alpha: float = 0.5) -> tuple[Tensor, Tensor]:
    """Widen the gap between actions: r − α (max Q(s, ·) − Q(s, a)), with the target network's Q."""
    gap = inputs.q.max(1).values - inputs.q.gather(1, inputs.action.unsqueeze(1)).squeeze(1)
    best = inputs.next_q.argmax(1, keepdim=True)
    return inputs.reward - alpha * gap, torch.zeros_like(inputs.next_q).scatter(1, best, 1.0)


envs = make_vec("CartPole-v1", num_envs=4, seed=0)
for head in ("scalar", "categorical"):  # a target rule works with every head
    for target in ("soft", "advantage"):
        config = replace(preset("classic"), head=head, target=target, hidden=32, learning_starts=100)
        agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
        print(head, target, agent.learn(envs, steps=400).updates)
