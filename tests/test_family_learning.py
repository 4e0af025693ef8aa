"""Every preset, scaled down, finds the known values of a ten-state chain; the distributional agents learn Catch."""

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from pixelq.agents import DQN, PRESETS, AgentConfig, evaluate, preset
from pixelq.envs import make_vec

LENGTH, GAMMA = 10, 0.9


class Chain(gymnasium.Env[np.ndarray, np.int64]):
    """Ten states in a row; both actions lead to the next, and from the last to the end with a reward of 1.

    What a policy does makes no difference, so that one-step and n-step returns have the same fixed point, and every
    behaviour is on-policy: the value of state s is γ^(9 − s) for both actions.
    """

    observation_space = gymnasium.spaces.Box(0, 1, (LENGTH,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(LENGTH))  # all states are seen equally often
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.state += 1
        done = self.state == LENGTH
        return self._observe(), float(done), done, False, {}

    def _observe(self) -> np.ndarray:
        return np.eye(LENGTH + 1, LENGTH, dtype=np.float32)[self.state]  # zeros at the end


gymnasium.register("tests/Chain-v0", entry_point=lambda **_: Chain())
STATES = np.eye(LENGTH, dtype=np.float32)


def scaled_down(name: str, **fields: Any) -> AgentConfig:
    """The preset with its parts, on a small network with a fast schedule."""
    config = preset(name)
    if config.priority_beta_steps is not None:
        fields["priority_beta_steps"] = 4_000
    if config.epsilon_off is not None:
        fields["epsilon_off"] = 3_000
    return dataclasses.replace(
        config,
        **{
            "encoder": "mlp",
            "encoder_width": 1,
            "spectral_norm": False,
            "adaptive_pool": None,
            "gamma": GAMMA,
            "n_step": min(config.n_step, 3),
            "hidden": 32,
            "batch_size": 32,
            "train_every": 2,
            "learning_rate": 2e-3,
            "learning_rate_end": 1e-4,
            "learning_rate_steps": 4_500,
            "adam_epsilon": 1e-8,
            "rmsprop_epsilon": 1e-5,
            "replay_capacity": 2_000,
            "learning_starts": 200,
            "target_update_every": 50,
            "epsilon_steps": 1_000,
            "quantiles": min(config.quantiles, 20),
            "tau_samples": 8,
            "tau_samples_target": 8,
            "v_min": -0.25,
            "v_max": 1.25,
            **fields,
        },
    )


EXPLORING: dict[str, Any] = {"epsilon_start": 1.0, "epsilon_end": 0.5}  # both actions are alike: greed would try one


def trained(env: str, config: AgentConfig, steps: int) -> DQN:
    envs = make_vec(env, 4, seed=0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
    return agent.learn(envs, steps)


def values_of_the_chain(config: AgentConfig) -> np.ndarray:
    """Known values [10], by going back from the end."""
    values = np.zeros(LENGTH)
    log_half = config.munchausen_temperature * np.log(0.5)  # τ log π of two actions that are equal
    for s in reversed(range(LENGTH)):
        after = s + config.n_step
        values[s] = GAMMA ** (LENGTH - 1 - s) if after >= LENGTH else GAMMA**config.n_step * values[after]
        if config.munchausen:
            values[s] += config.munchausen_alpha * max(log_half, config.munchausen_clip)
            values[s] -= GAMMA**config.n_step * log_half if after < LENGTH else 0.0
    return values


@pytest.mark.parametrize("name", PRESETS)
def test_presets_find_the_values_of_the_chain(name: str) -> None:
    config = scaled_down(name, **EXPLORING)
    agent = trained("tests/Chain-v0", config, 5_000)
    q = agent.q_values(STATES).numpy()
    np.testing.assert_allclose(q, np.stack([values_of_the_chain(config)] * 2, 1), rtol=0, atol=0.08)


@pytest.mark.parametrize("name", ["dqn", "c51"])
def test_one_step_and_n_step_agree(name: str) -> None:
    agents = [trained("tests/Chain-v0", scaled_down(name, n_step=n, **EXPLORING), 5_000) for n in (1, 3)]
    one, three = (agent.q_values(STATES).numpy() for agent in agents)
    np.testing.assert_allclose(one, three, rtol=0, atol=0.08)


def test_rescaled_values_are_those_of_the_chain() -> None:
    agent = trained("tests/Chain-v0", scaled_down("dqn", value_rescaling=True, **EXPLORING), 5_000)
    values = np.stack([values_of_the_chain(agent.config)] * 2, 1)
    np.testing.assert_allclose(agent.q_values(STATES).numpy(), values, rtol=0, atol=0.08)


def test_the_chain_can_be_got_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tolerance is worth: a wrong discount by a tenth fails."""
    agent = trained("tests/Chain-v0", scaled_down("dqn", gamma=0.8, **EXPLORING), 5_000)
    values = np.stack([values_of_the_chain(agent.config)] * 2, 1)
    assert np.abs(agent.q_values(STATES).numpy() - values).max() > 0.12


CATCH = {"gamma": 0.99, "encoder": "auto", "hidden": 64, "epsilon_steps": 2_500, "v_min": -1.5, "v_max": 1.5}


@pytest.mark.parametrize("name", ["rainbow", "iqn", "munchausen"])
def test_catch_is_learned(name: str) -> None:
    torch.manual_seed(0)
    fields = {**CATCH, "n_step": 3, "target_update_every": 200, "learning_rate": 1e-3, "learning_rate_steps": None}
    agent = trained("pixelq/Catch-v0", scaled_down(name, **fields), 8_000)
    assert evaluate(agent, make_vec("pixelq/Catch-v0", 10, seed=1_234), 200).mean > 0.9
