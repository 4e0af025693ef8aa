"""The memory of agents with an LSTM: whose episodes have ended, and which environments are left."""

import copy

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from pixelq.agents import DQN, AgentConfig
from pixelq.agents.acting.memory import Memory


def memory_of(num_envs: int) -> Memory:
    config = AgentConfig(hidden=8, lstm=8, lstm_last_action=True)
    memory = DQN(Box(-1, 1, (3,)), Discrete(4), config, device="cpu").make_memory(num_envs)
    assert memory is not None
    return memory


@pytest.mark.parametrize("mask", [[True, False, False, True], [False, True, True, False], [False, True, False, True]])
@pytest.mark.parametrize("final", [[True, True, False, False], [False, True, False, True], [False, False, True, True]])
def test_environments_that_are_kept_keep_their_ends(mask: list[bool], final: list[bool]) -> None:
    memory = memory_of(4)
    memory.step(np.arange(4), np.ones(4), np.array(final))
    kept = copy.copy(memory)
    kept.keep(np.array(mask))
    assert kept.last.action.tolist() == np.arange(4)[mask].tolist()
    kept.step(np.zeros(2), np.zeros(2), np.zeros(2, bool))
    assert kept.episode_start.tolist() == np.array(final)[mask].tolist()


def test_a_restart_forgets_what_was_to_come() -> None:
    memory = memory_of(2)
    memory.step(np.zeros(2), np.zeros(2), np.ones(2, bool))
    memory.restart()
    assert memory.episode_start.all()
    memory.step(np.zeros(2), np.zeros(2), np.zeros(2, bool))
    assert not memory.episode_start.any()
