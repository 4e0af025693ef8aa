"""PQN finds the values of the chain and learns Catch, and with memory the T-maze, to their known optima."""

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import pytest

from pixelq.agents import PQN, AgentConfig, evaluate
from pixelq.envs import make_vec
from pixelq.envs.memory_tasks import TMaze
from tests.learning.test_family_learning import COST, GAMMA, LENGTH, STATES

gymnasium.register("tests/ShortMaze-v0", entry_point=lambda **_: TMaze(4))
SMALL = AgentConfig(
    algorithm="pqn",
    encoder="mlp",
    hidden=64,
    learning_starts=1,
    rollout_length=8,
    minibatches=4,
    optimizer="radam",
    learning_rate=3e-3,
    max_grad_norm=10.0,
    loss="squared",
    reward_clip=None,
    channel_norm=True,
    epsilon_end=0.02,
    epsilon_steps=3_000,
)
HL_GAUSS: dict[str, Any] = {"head": "categorical", "categorical_loss": "hl_gauss", "loss": "huber"}


def trained(env: str, config: AgentConfig, steps: int, num_envs: int = 16) -> PQN:
    envs = make_vec(env, num_envs, seed=0)
    agent = PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=0)
    return agent.learn(envs, steps)


def values_of_the_chain(td_lambda: float) -> np.ndarray:
    """Known values [10, 2] where all actions are random: half of those that a λ-return follows pay the cost."""
    q, value = np.zeros((LENGTH, 2)), 0.0
    for state in reversed(range(LENGTH)):
        best = 1.0 if state == LENGTH - 1 else GAMMA * (value - td_lambda * COST / 2)
        q[state], value = best - COST * np.arange(2), best
    return q


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"td_lambda": 0.65}, marks=pytest.mark.slow),
        pytest.param(
            HL_GAUSS | {"td_lambda": 0.5, "atoms": 21, "v_min": -0.5, "v_max": 1.5, "optimizer": "adam"},
            marks=pytest.mark.slow,
        ),
        pytest.param({"td_lambda": 0.65, "epochs": 2, "kept_rollouts": 10, "past_rollouts": 1}, marks=pytest.mark.slow),
    ],
    ids=["scalar", "hl_gauss", "past"],
)
def test_pqn_finds_the_values_of_the_chain(fields: dict[str, Any]) -> None:
    chain = {"gamma": GAMMA, "hidden": 32, "rollout_length": 32, "epochs": 4, "epsilon_end": 1.0}
    rate = {"learning_rate": 5e-3, "learning_rate_end": 1e-4, "learning_rate_steps": 4_500}
    agent = trained("tests/Chain-v0", dataclasses.replace(SMALL, **(chain | rate | fields)), 5_000, 4)
    found, expected = agent.q_values(STATES).numpy(), values_of_the_chain(fields["td_lambda"])
    assert np.abs(expected - values_of_the_chain(0.0)).max() > 0.2  # λ makes a difference
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"epochs": 1, "kept_rollouts": 20, "past_rollouts": 1},
        pytest.param(
            HL_GAUSS | {"atoms": 11, "v_min": -1.5, "v_max": 1.5, "dueling": True, "epochs": 4, "td_lambda": 0.9},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["scalar", "past", "hl_gauss"],
)
def test_pqn_learns_catch(fields: dict[str, Any]) -> None:
    agent = trained("pixelq/Catch-v0", dataclasses.replace(SMALL, **fields), 6_000)
    assert evaluate(agent, make_vec("pixelq/Catch-v0", 10, seed=1_234), 100).mean > 0.9


@pytest.mark.slow
def test_pqn_with_memory_finds_the_way_that_the_cue_told() -> None:
    """4 is the optimum; without memory it is 1.95."""
    fields = {"lstm": 32, "gamma": 0.95, "td_lambda": 0.9, "rollout_length": 16, "epsilon_end": 0.05}
    agent = trained("tests/ShortMaze-v0", dataclasses.replace(SMALL, **fields), 20_000)
    assert evaluate(agent, make_vec("tests/ShortMaze-v0", 8, seed=5), 100).mean > 3.9
