"""Random actions and noise in evaluations are those of the agent's source."""

import dataclasses

import numpy as np
import pytest

from pixelq.agents import DQN, AgentConfig, evaluate, preset
from pixelq.agents.evaluation.episode import evaluation_game
from pixelq.agents.evaluation.exploration import evaluation_epsilon
from pixelq.envs import GYMNASIUM, PROTOCOLS, make_vec


def test_the_agents_own_epsilon_comes_before_the_protocols() -> None:
    own, none = AgentConfig(evaluation_epsilon=0.25), AgentConfig()
    for name, of_protocol in (("sticky", 0.001), ("nature", 0.05), ("100k", 0.001)):
        assert evaluation_epsilon(own, PROTOCOLS[name]) == 0.25
        assert evaluation_epsilon(none, PROTOCOLS[name]) == of_protocol
    for outside in (GYMNASIUM, None):
        assert evaluation_epsilon(own, outside) == 0.0


@pytest.mark.parametrize(("name", "epsilon"), [("nature", 0.05), ("per", 0.01), ("rainbow", 0.0), ("quick_dqn", 0.001)])
def test_films_have_the_epsilon_of_the_preset(name: str, epsilon: float) -> None:
    envs = make_vec("pixelq/Catch-v0", 1, 0)
    config = dataclasses.replace(preset(name), encoder="mlp", hidden=8)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    assert evaluation_game(agent, "ALE/Pong-v5", "sticky", None, 0, {}).epsilon == epsilon
    assert evaluation_game(agent, "pixelq/Catch-v0", "gymnasium", None, 0, {}).epsilon == 0.0
    assert evaluation_game(agent, "ALE/Pong-v5", "sticky", 0.5, 0, {}).epsilon == 0.5


def test_noise_is_drawn_at_every_step_and_leaves_the_training_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def played(noise: bool, seed: int = 0) -> list[list[float]]:
        envs = make_vec("pixelq/Catch-v0", 2, 0)
        config = AgentConfig(encoder="mlp", hidden=8, noisy=True, noisy_sigma=5.0, evaluation_noise=noise)
        agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=3)
        shown = np.zeros((2, 1, 10, 5), np.uint8)
        values: list[list[float]] = []

        def act(obs: object, epsilon: object, memory: object = None, noise: object = None) -> np.ndarray:
            values.append(agent._q(shown, None, noise)[:, 0].tolist())  # type: ignore[arg-type]
            return np.zeros(len(obs), np.int64)  # type: ignore[arg-type]

        monkeypatch.setattr(agent, "act", act)
        before = agent.noise.get_state(), agent.rng.bit_generator.state
        evaluate(agent, envs, 2, seed=seed)
        assert (before[0] == agent.noise.get_state()).all()
        assert before[1] == agent.rng.bit_generator.state
        return values

    noisy = played(True)
    assert len(noisy) >= 9  # steps of an episode of Catch
    assert len({value for pair in noisy for value in pair}) == 2 * len(noisy)  # each environment and step its own
    assert played(True) == noisy
    assert played(True, seed=1) != noisy
    assert len({value for pair in played(False) for value in pair}) == 1
