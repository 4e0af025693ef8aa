"""Target rules by hand and against float64 numpy; resets."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from pixelq.agents import DQN, AgentConfig
from pixelq.agents.acting.network import make_network
from pixelq.agents.learning.learner import Learner
from pixelq.agents.learning.resets import shrink_and_perturb
from pixelq.agents.learning.targets import greedy_policy, munchausen_reward, soft_policy
from pixelq.envs import make_vec
from tests.support import reference as ref

RNG = np.random.default_rng(0)


def test_greedy_policy_by_hand() -> None:
    q = torch.tensor([[1.0, 3.0, 2.0], [-1.0, -3.0, -2.0], [0.0, 0.0, -1.0]])
    assert greedy_policy(q).tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert greedy_policy(torch.tensor([[5.0]])).tolist() == [[1]]


def test_soft_policy_by_hand_and_without_overflow() -> None:
    q = torch.log(torch.tensor([[1.0, 3.0]])) * 0.03
    torch.testing.assert_close(soft_policy(q, 0.03), torch.tensor([[0.25, 0.75]]))
    assert soft_policy(torch.tensor([[1e4, 0.0, -1e4]]), 0.03).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("num_actions", [1, 2, 6])
def test_munchausen_target_equals_numpy(scale: float, num_actions: int) -> None:
    q, next_q = RNG.normal(0, scale, (2, 64, num_actions))
    action, reward = RNG.integers(num_actions, size=64), RNG.normal(size=64)
    discount = 0.99 * (RNG.random(64) < 0.8)
    for alpha, tau, low in ((0.9, 0.03, -1.0), (0.5, 1.0, -0.2), (0.0, 0.3, 0.0)):
        expected = [
            ref.munchausen_target(*row, tau, alpha, low)
            for row in zip(reward, discount, action, q, next_q, strict=True)
        ]
        r, d, a, q_now, q_next = (torch.from_numpy(x) for x in (reward, discount, action, q, next_q))
        folded = munchausen_reward(r, d, a, q_now, q_next, alpha=alpha, temperature=tau, clip=low)
        target = folded + d * (soft_policy(q_next, tau) * q_next).sum(1)
        np.testing.assert_allclose(target.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_munchausen_reward_by_hand() -> None:
    # Two equal actions: log π = −log 2. The entropy is log 2.
    zeros, log2 = torch.zeros(1, 2), float(np.log(2))
    args = (torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([1]), zeros, zeros)
    value = munchausen_reward(*args, alpha=0.9, temperature=0.1, clip=-1.0)
    assert value.item() == pytest.approx(1 - 0.09 * log2 + 0.05 * log2)
    clipped = munchausen_reward(*args, alpha=0.9, temperature=0.1, clip=-0.01)
    assert clipped.item() == pytest.approx(1 - 0.009 + 0.05 * log2)


def test_one_action_makes_munchausen_plain() -> None:
    q = torch.randn(5, 1)
    reward, discount = torch.randn(5), torch.full((5,), 0.9)
    value = munchausen_reward(reward, discount, torch.zeros(5).long(), q, q, alpha=0.9, temperature=0.03, clip=-1.0)
    torch.testing.assert_close(value, reward)


CONFIG = AgentConfig(encoder="mlp", hidden=16, dueling=True, reset_shrink=0.8, learning_rate=1e-3)


def test_a_reset_shrinks_the_encoder_and_replaces_the_head() -> None:
    network, fresh = (make_network((6,), 3, CONFIG, seed) for seed in (1, 2))
    before = copy.deepcopy(network.state_dict())
    shrink_and_perturb(network, fresh, 0.8)
    for name, tensor in network.state_dict().items():
        new = fresh.state_dict()[name]
        expected = 0.8 * before[name] + 0.2 * new if name.startswith("encoder.") else new
        torch.testing.assert_close(tensor, expected)
        assert tensor.data_ptr() != new.data_ptr()
    assert any(name.startswith("encoder.") for name in before)


def test_the_learner_resets_target_and_moments_too() -> None:
    from pixelq.agents import Batch

    learner = Learner(make_network((6,), 3, CONFIG, 1), CONFIG)
    batch = Batch(torch.randn(8, 6), torch.zeros(8).long(), torch.ones(8), torch.ones(8), torch.randn(8, 6))
    learner.update(batch)
    assert len(learner.optimizers["optimizer"].state) > 0
    learner.reset(make_network((6,), 3, CONFIG, 2))
    assert not learner.optimizers["optimizer"].state
    for name, tensor in learner.target_network.state_dict().items():
        assert torch.equal(tensor, learner.network.state_dict()[name])
    before = copy.deepcopy(learner.network.state_dict())
    learner.update(batch)  # the new optimiser has the network's parameters
    assert all(not torch.equal(before[name], tensor) for name, tensor in learner.network.state_dict().items())


def test_the_loop_resets_every_so_many_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(
        CONFIG,
        encoder="auto",
        replay_capacity=1_000,
        learning_starts=50,
        train_every=2,
        gradient_steps=3,
        reset_every=30,
    )
    resets: list[int] = []
    reset = DQN.reset_network
    monkeypatch.setattr(DQN, "reset_network", lambda agent: (resets.append(agent.updates), reset(agent)))
    envs = make_vec("pixelq/Catch-v0", 1, seed=0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
    agent.learn(envs, 150)
    assert agent.updates == (150 - 50) // 2 * 3
    assert resets == [30, 60, 90, 120, 150]
