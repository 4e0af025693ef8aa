"""Action masks in targets, by hand and against float64 numpy over the allowed actions alone; and in learning."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from pixelq.agents import DQN, AgentConfig, Batch, evaluate
from pixelq.agents.acting.network import make_network
from pixelq.agents.learning.learner import Learner
from pixelq.agents.learning.targets import munchausen_reward, soft_policy
from pixelq.envs import make_vec
from pixelq.networks import Target, among_allowed
from tests.support import reference as ref
from tests.support.cases import representative
from tests.support.masked_envs import Corridor

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_a_munchausen_target_knows_allowed_actions_alone(scale: float) -> None:
    q, next_q = RNG.normal(0, scale, (2, 64, 6))
    mask, next_mask = RNG.random((2, 64, 6)) < 0.5
    action = RNG.integers(6, size=64)
    mask[np.arange(64), action] = next_mask[np.arange(64), RNG.integers(6, size=64)] = True
    reward, discount = RNG.normal(size=64), 0.99 * (RNG.random(64) < 0.8)
    alpha, tau, low = 0.9, 0.03, -1.0
    expected = [
        ref.munchausen_target(r, d, int(m[:a].sum()), values[m], next_values[next_m], tau, alpha, low)
        for r, d, a, values, next_values, m, next_m in zip(
            reward, discount, action, q, next_q, mask, next_mask, strict=True
        )
    ]
    r, d, a, q_now, q_next, m, next_m = map(torch.from_numpy, (reward, discount, action, q, next_q, mask, next_mask))
    q_now, masked = among_allowed(q_now, m), among_allowed(q_next, next_m)
    folded = munchausen_reward(r, d, a, q_now, masked, alpha=alpha, temperature=tau, clip=low, next_mask=next_m)
    target = folded + d * (soft_policy(masked, tau) * q_next).sum(1)
    np.testing.assert_allclose(target.numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", [{}, {"double": True}, {"munchausen": True}], ids=["max", "double", "munchausen"])
@pytest.mark.parametrize("head", ["scalar", "categorical", "quantile", "implicit", "fqf"])
def test_the_next_policy_is_one_over_allowed_actions(
    head: str, rule: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AgentConfig(encoder="mlp", hidden=8, head=head, **rule)  # type: ignore[arg-type]
    learner = Learner(make_network((4,), 5, config, 1), config)
    for parameter in learner.target_network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    obs, next_obs = torch.randn(2, 32, 4)
    mask, next_mask = torch.rand(2, 32, 5) < 0.4
    action = torch.randint(5, (32,))
    mask[range(32), action] = next_mask[range(32), torch.randint(5, (32,))] = True
    targets: list[Target] = []
    loss = type(learner.network.head).loss

    def noted(self: Any, value: Any, target: Target, *others: Any) -> Any:
        targets.append(target)
        return loss(self, value, target, *others)

    monkeypatch.setattr(type(learner.network.head), "loss", noted)
    batch = Batch(obs, action, torch.zeros(32), torch.full((32,), 0.9), next_obs)
    state = learner.generator.get_state()
    for masks in ((None, None), (mask, next_mask)):
        learner.generator.set_state(state)
        update = learner.update(batch._replace(mask=masks[0], next_mask=masks[1]))
        assert update.loss.isfinite()
        assert targets[-1].reward.isfinite().all()
    free, masked = (target.next_policy for target in targets)
    assert (free[~next_mask] > 0).any()  # otherwise the next line would say nothing
    assert (masked[~next_mask] == 0).all()
    torch.testing.assert_close(masked.sum(1), torch.ones(32))
    if "munchausen" in rule and head == "scalar":
        now, after = (learner.target_network.head(learner.target_network.encoder(each)) for each in (obs, next_obs))
        q, next_q = among_allowed(now, mask), among_allowed(after, next_mask)
        settings = {"alpha": 0.9, "temperature": 0.03, "clip": -1.0, "next_mask": next_mask}
        expected = munchausen_reward(batch.reward, batch.discount, action, q, next_q, **settings)
        torch.testing.assert_close(targets[1].reward, expected)
        assert not torch.allclose(targets[0].reward, expected)
    if "munchausen" not in rule:
        assert ((masked == 0) | (masked == 1)).all()
        same = next_mask[range(32), free.argmax(1)] & next_mask.any(1)
        if head in ("scalar", "categorical", "quantile") and "double" not in rule:  # others draw fractions
            assert torch.equal(masked[same], free[same])


MEMORY = {"lstm": 16, "sequence_length": 8, "sequence_period": 4, "burn_in": 2, "batch_size": 16}
AGENTS: dict[str, dict[str, Any]] = {
    "max": {},
    "double": {"double": True, "prioritized": True},
    "munchausen": {"munchausen": True, "munchausen_temperature": 0.1},
    "categorical": {"head": "categorical", "v_min": -12.0, "v_max": 2.0, "atoms": 29},
    "lstm": {"double": True, "n_step": 3, "learning_rate": 1e-2, **MEMORY},
}


@pytest.mark.parametrize("name", representative(AGENTS, ("double", "munchausen")))
def test_a_corridor_in_which_forbidden_actions_raise_is_learned(name: str) -> None:
    # Not make_vec, whose environments would be made again once after an error.
    envs = SyncVectorEnv([Corridor] * 4, autoreset_mode=AutoresetMode.NEXT_STEP)
    fields = {"batch_size": 32, "hidden": 32, "learning_rate": 5e-3, "train_every": 4} | AGENTS[name]
    config = AgentConfig(
        encoder="mlp",
        replay_capacity=2_000,
        learning_starts=150,
        target_update_every=20,
        epsilon_steps=200,
        epsilon_end=0.1,
        gamma=0.95,
        **fields,
    )
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
    agent.learn(envs, 600 if config.lstm else 500)
    assert agent.action_masks
    assert agent.replay is not None
    assert agent.replay.ring.mask is not None
    evaluation = evaluate(agent, make_vec(Corridor, 3), 7, epsilon=0.0)
    assert evaluation.returns == (Corridor.BEST,) * 7
