"""Observations that a policy is given: those that are certain are converted, the others refused."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.vec_env import DummyVecEnv

from pixelq.agents import DQN, AgentConfig, InvalidConfig
from pixelq.agents.evaluation.evaluate import evaluate
from pixelq.envs import make_vec

SMALL = AgentConfig(hidden=8)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 1, 10, 5), np.uint8)


@pytest.fixture(scope="module")
def agent() -> DQN:
    return DQN(Box(0, 255, (1, 10, 5), np.uint8), Discrete(3), SMALL, device="cpu")


@pytest.mark.parametrize("kind", [np.int64, np.uint16, np.float32, np.float64])
def test_whole_pixels_of_any_type_are_the_same_pixels(agent: DQN, kind: Any) -> None:
    assert (agent.q_values(PIXELS.astype(kind)) == agent.q_values(PIXELS)).all()
    assert (agent.q_values(np.zeros((1, 1, 10, 5), kind)) == agent.q_values(np.zeros((1, 1, 10, 5), np.uint8))).all()


@pytest.mark.filterwarnings("error")
def test_arrays_that_pytorch_cannot_share_are_copied(agent: DQN) -> None:
    backwards = np.ascontiguousarray(PIXELS[:, :, ::-1])[:, :, ::-1]  # a negative stride
    kept = np.frombuffer(PIXELS.tobytes(), np.uint8).reshape(PIXELS.shape)  # which cannot be written
    assert min(backwards.strides) < 0
    assert not kept.flags.writeable
    for obs in (backwards, kept):
        assert (agent.q_values(obs) == agent.q_values(PIXELS)).all()
        assert (agent.predict(obs)[0] == agent.predict(PIXELS)[0]).all()


@pytest.mark.parametrize("device", [None, 0.5, "tpu", "x" * 999])
def test_what_is_no_device_is_refused(device: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"^unknown device .{1,80}; use auto, cpu or cuda$"):
        DQN(Box(0, 255, (1, 10, 5), np.uint8), Discrete(3), SMALL, device=device)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (PIXELS / 255, r"whole pixels in \[0, 255\], got float64 from 0.0 to 1.0.*255"),
        ((PIXELS > 99).astype(np.float32), r"whole pixels in \[0, 255\], got float32 from 0.0 to 1.0"),
        (PIXELS + 0.5, r"in \[0, 255\]"),
        (PIXELS.astype(np.int64) + 300, r"pixels in \[0, 255\], got 30\d to 55\d"),
        (PIXELS.astype(np.int8), r"pixels in \[0, 255\], got -1\d\d to 1\d\d"),
        (np.full(PIXELS.shape, np.nan), r"pixels in \[0, 255\], got nan to nan"),
        (PIXELS > 99, r"of type uint8, got bool"),
        (PIXELS.astype(object), r"of type uint8, got object"),
        (PIXELS[:0], r"at least one observation, got shape \(0, 1, 10, 5\)"),
    ],
)
def test_what_may_be_no_pixels_is_refused(agent: DQN, wrong: Any, why: str) -> None:
    for read in (agent.predict, agent.q_values):
        with pytest.raises(ValueError, match=why):
            read(wrong)


def test_evaluate_refuses_environments_of_other_spaces(agent: DQN) -> None:
    envs = make_vec("CartPole-v1", 1)
    with pytest.raises(InvalidConfig, match=r"actions \(uint8 \[1, 10, 5\], Discrete\(3\)\), got float32"):
        evaluate(agent, envs, 1)


class Lines(gymnasium.Env[Any, Any]):
    """Ends after three steps, and takes actions of the type int32 only."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(2, dtype=np.int32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, self.steps == 3, False, {}


@pytest.mark.parametrize("is_ours", [True, False])
def test_actions_of_another_integer_type(tmp_path: Any, is_ours: bool) -> None:
    mode = gymnasium.vector.AutoresetMode.NEXT_STEP
    envs = make_vec(Lines, 2) if is_ours else gymnasium.vector.SyncVectorEnv([Lines, Lines], autoreset_mode=mode)
    config = AgentConfig(hidden=8, learning_starts=8, batch_size=4, replay_capacity=50)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    agent.learn(envs, 20)
    agent.save(tmp_path / "agent")
    loaded = DQN.load(tmp_path / "agent", "cpu")
    assert loaded.fits(envs)
    assert evaluate(loaded, envs, 4).returns == (3.0,) * 4
    assert not loaded.fits(make_vec("CartPole-v1", 1))


@pytest.mark.parametrize(
    ("envs", "what"),
    [
        ("CartPole-v1", "'CartPole-v1'"),
        (None, "None"),
        (gymnasium.make("CartPole-v1"), "TimeLimit of gymnasium"),
        (DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), "DummyVecEnv of stable_baselines3"),
    ],
    ids=["id", "None", "environment", "sb3"],
)
def test_other_things_than_vector_environments_are_refused(agent: DQN, envs: Any, what: str) -> None:
    for use in (lambda: agent.learn(envs, 10), lambda: evaluate(agent, envs, 1)):
        with pytest.raises(InvalidConfig, match=f"vector environments of Gymnasium, got {what}; make them with"):
            use()
