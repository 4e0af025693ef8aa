"""Training in environments of others: wrapped, or failing."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import DictInfoToList, FlattenObservation

from pixelq.agents import DQN, AgentConfig, Callback, InvalidConfig, Training
from pixelq.agents.training.collector import Collector, Restarts, note_envs
from pixelq.agents.training.interval import Interval
from pixelq.envs import EnvironmentFailed, make_vec
from tests.support.failing_envs import fail_at

SMALL = AgentConfig(hidden=8, learning_starts=8, batch_size=4, replay_capacity=200, n_step=1)


def agent_of(envs: Any, **changes: Any) -> DQN:
    config = AgentConfig(**{**SMALL.to_dict(), **changes})
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")


class Losing(gymnasium.Env[Any, Any]):
    """Loses a life at the third step, and gives one reward at the fifth."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    reward: Any = 1.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {"life_lost": False}

    def step(self, action: Any) -> Any:
        self.steps += 1
        reward = self.reward if self.steps == 5 else 0.0
        return np.zeros(2, np.float32), reward, False, self.steps == 9, {"life_lost": self.steps == 3}


def losing(reward: Any = 1.0) -> type[Losing]:
    return type("Losing", (Losing,), {"reward": reward})


def test_infos_as_a_list_train_the_same() -> None:
    replays = []
    for wrap in (lambda envs: envs, DictInfoToList):
        envs = wrap(make_vec(losing(), 2))
        agent = agent_of(envs)
        agent.learn(envs, 30)
        replays.append(agent.replay)
    one, other = (replay.ring for replay in replays)
    assert one.terminated[: 2 * 9].sum() == 2  # the lost life of each
    assert (one.terminated == other.terminated).all()
    assert (one.reward == other.reward).all()


def test_wrapped_atari_keeps_its_id_and_its_frames() -> None:
    envs = FlattenObservation(make_vec("ALE/Pong-v5", 1))
    agent = agent_of(envs)
    note_envs(agent, envs)
    assert (agent.env_id, agent.protocol, agent.config.frame_stack) == ("ALE/Pong-v5", "sticky", 4)


@pytest.mark.parametrize(("stack", "shape"), [(4, (9, 9, 4)), (300, (300, 4, 4)), (4, (8, 4))])
def test_stacks_that_are_not_along_the_first_axis_are_refused(stack: int, shape: tuple[int, ...]) -> None:
    foreign: Any = gymnasium.vector.VectorEnv()
    foreign.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    foreign.num_envs, foreign.frame_stack = 2, stack
    foreign.single_observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
    foreign.single_action_space = gymnasium.spaces.Discrete(3)
    foreign.observation_space = batch_space(foreign.single_observation_space, 2)
    foreign.action_space = batch_space(foreign.single_action_space, 2)
    agent = DQN(foreign.single_observation_space, foreign.single_action_space, AgentConfig(hidden=4), device="cpu")
    with pytest.raises(
        InvalidConfig, match=rf"environments that stack {stack} frames, .* got \[{shape[0]}, {shape[1]}"
    ):
        agent.learn(foreign, 20)


@pytest.mark.parametrize(
    ("reward", "value"), [(np.nan, "nan"), (np.inf, "inf"), (None, "nan"), (-1e39, "-1e+39, too large for float32")]
)
def test_a_reward_that_is_no_number_names_the_environment_and_the_step(reward: Any, value: str) -> None:
    foreign = SyncVectorEnv([losing(), losing(reward)], autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(EnvironmentFailed) as caught:
        agent_of(foreign).learn(foreign, 30)
    assert str(caught.value) == f"'SyncVectorEnv' failed: environment 1 gave the reward {value}, at step 10"


@pytest.mark.parametrize(
    ("reward", "value"),
    [(np.nan, "nan"), (1e39, r"1e\+39, too large for float32")],
    ids=["nan", "too large for float32"],
)
def test_what_is_not_finite_ends_a_run_at_once(reward: float, value: str) -> None:
    envs = make_vec(losing(reward), 3)  # which could be made again
    with pytest.raises(
        EnvironmentFailed, match=f"^'Losing' failed: environment 0 gave the reward {value}, at step 15$"
    ):
        agent_of(envs).learn(envs, 100)


def test_an_environment_that_is_made_again_is_told_of() -> None:
    class Failing(Losing):
        failures = 1

        def step(self, action: Any) -> Any:
            if self.steps == 5 and Failing.failures:
                Failing.failures -= 1
                raise RuntimeError("out of order")
            return super().step(action)

    envs = make_vec(Failing, 1)
    failure = "'Failing' failed: RuntimeError: out of order, at step 6"
    with pytest.warns(UserWarning, match=f"^{failure}; the environments are created again, once$"):
        agent_of(envs).learn(envs, 30)


def test_an_environment_that_raises_an_interrupt_ends_the_run_in_order(tmp_path: Any) -> None:
    class Interrupting(Losing):
        def step(self, action: Any) -> Any:
            if self.steps == 5:
                raise KeyboardInterrupt
            return super().step(action)

    envs = make_vec(Interrupting, 1)
    with pytest.raises(EnvironmentFailed, match=r"^'Interrupting' failed: KeyboardInterrupt, at step 12; the last"):
        agent_of(envs).learn(envs, 30, tmp_path / "run", checkpoint_every=8)
    assert DQN.load(tmp_path / "run", "cpu").step == 8


def test_a_frame_stack_that_has_no_effect_is_said() -> None:
    envs = make_vec("CartPole-v1", 1)
    with pytest.warns(UserWarning, match=r"^only images are stacked, .* so frame_stack 3 has no effect"):
        note_envs(agent_of(envs, frame_stack=3), envs)


@pytest.mark.filterwarnings("ignore")
def test_an_episode_that_a_failure_ended_is_not_joined_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    envs: Any = make_vec("CartPole-v1", 2, seed=0)
    agent = agent_of(envs, learning_starts=10**6, replay_capacity=400)
    rows = []

    class Rows(Callback):
        def on_metrics(self, training: Training, row: dict[str, Any]) -> None:
            rows.append(row)

    fail_at(envs, 5, monkeypatch)
    agent.learn(envs, 200, log_every=200, callbacks=[Rows()])
    assert agent.replay is not None
    ring, lengths = agent.replay.ring.read(5, agent.replay.time), []  # from the row after the failure on
    for env in range(2):
        first = 0
        for end in np.flatnonzero(ring["terminated"][:, env]):
            lengths.append(int(ring["is_start"][first : end + 1, env].sum()))
            first = end + 1
    assert rows[0]["length_mean"] == rows[0]["return_mean"] == pytest.approx(np.mean(lengths))


def test_episodes_that_are_started_anew_begin_with_a_new_memory() -> None:
    envs = make_vec("CartPole-v1", 2, 0)
    agent = agent_of(envs, lstm=4, replay_capacity=2_000, sequence_length=8, sequence_period=4, burn_in=2)
    collector = Collector(agent, envs, agent.make_replay(2, 1), Interval(0), Restarts(agent, print, str))
    collector.start()
    for _ in range(3):
        collector.act()
        collector.receive()
    collector.restart_episodes(cut=True)
    assert collector.memory is not None
    assert collector.memory.episode_start.all()
    assert not collector.episodes.lengths.any()
