"""Training on observations of every kind, and through every door."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary

from pixelq.agents import DQN, AgentConfig, InvalidConfig
from pixelq.envs import make_vec
from tests.support.runs import run_here

SMALL = AgentConfig(hidden=8, learning_starts=8, batch_size=4, replay_capacity=200, n_step=1)


class Pictures(gymnasium.Env[Any, Any]):
    """Shows noise, in colours of uint8 unless another space is given; ends after five steps."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    action_space = Discrete(2)
    space: Any = Box(0, 255, (12, 10, 3), np.uint8)

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space, self.render_mode = self.space, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.observation_space.sample(), float(action), self.steps == 5, False, {}

    def render(self) -> Any:
        return np.full((64, 64, 3), self.steps, np.uint8)


def of(space: Any) -> type[Pictures]:
    return type("Of", (Pictures,), {"space": space})


def agent_of(envs: Any, **changes: Any) -> DQN:
    config = dataclasses.replace(SMALL, **changes)
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")


@pytest.mark.parametrize(
    "space",
    [
        Discrete(5),
        Dict(a=Discrete(3), b=Box(-1, 1, (2, 2), np.float64)),
        MultiBinary(4),
        Box(0, 1, (), np.float32),
        Box(0, 1, (4,), bool),
        Box(0, 1, (10, 10, 2), bool),
        Box(-3, 3, (12, 12), np.int16),
        Box(0, 1, (12, 12, 3), np.float32),
        Box(0, 255, (128,), np.uint8),
    ],
)
def test_every_kind_is_learned_saved_and_loaded(space: Any, tmp_path: Path) -> None:
    envs = make_vec(of(space), 2)
    agent = agent_of(envs, frame_stack=1)
    agent.learn(envs, 30)
    assert agent.updates > 3
    observations, _ = envs.reset()
    stored = torch.as_tensor(observations).to(agent.replay.ring.frames.dtype)
    first = torch.as_tensor(make_vec(of(space), 2).reset()[0])
    assert torch.equal(agent.replay.ring.frames[:2], first.to(stored.dtype))
    assert torch.allclose(agent.q_values(observations), agent.network.q(stored))  # acting sees what learning sees
    agent.save(tmp_path / "agent")
    again = DQN.load(tmp_path / "agent", "cpu")
    assert again.fits(envs)
    assert torch.equal(again.q_values(observations), agent.q_values(observations))
    assert again.predict(observations[0])[0].shape == ()


def test_a_run_whose_observations_have_another_type_than_their_space_can_be_resumed(tmp_path: Path) -> None:
    def envs() -> Any:
        made = gymnasium.make_vec("CartPole-v1", 2)
        return gymnasium.wrappers.vector.TransformObservation(made, lambda obs: obs * np.float64(0.5))

    space = gymnasium.make_vec("CartPole-v1", 2)
    agent = DQN(space.single_observation_space, space.single_action_space, SMALL, device="cpu", seed=0)
    agent.learn(envs(), 60, tmp_path / "run")
    loaded = DQN.load(tmp_path / "run" / "checkpoints" / "latest", "cpu")
    loaded.learn(envs(), 60, tmp_path / "run", resume=True)
    assert loaded.step >= agent.step + 60


def test_networks_divide_bytes_by_255_and_nothing_else() -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 128))
    networks = [agent_of(make_vec(of(Box(0, 255, (128,), dtype)), 1)) for dtype in (np.uint8, np.float32, np.int64)]
    networks[1].network.load_state_dict(networks[0].network.state_dict())
    networks[2].network.load_state_dict(networks[0].network.state_dict())
    as_bytes = networks[0].q_values(values.astype(np.uint8))
    torch.testing.assert_close(as_bytes, networks[1].q_values((values / 255).astype(np.float32)))
    torch.testing.assert_close(networks[2].q_values(values), networks[1].q_values(values.astype(np.float32)))


def test_the_replay_rebuilds_the_stacks_that_were_shown() -> None:
    shown, envs = [], make_vec(Pictures, 2, frame_size=6, grayscale=True, frame_stack=3)
    agent = agent_of(envs, encoder="mlp", frame_stack=3)
    explore = agent.explore
    agent.explore = lambda obs, memory=None: (shown.append(np.asarray(obs)), explore(obs, memory))[1]  # type: ignore
    agent.learn(envs, 40)
    ring = agent.replay.ring
    assert (ring.frames.shape[1:], ring.frame_stack) == ((6, 6), 3)
    again = make_vec(Pictures, 2, frame_size=6, grayscale=True, frame_stack=3)
    actions = ring.action[: 2 * len(shown) - 2].view(-1, 2).numpy().astype(np.int64)
    expected = [again.reset()[0], *(again.step(each)[0] for each in actions)]
    np.testing.assert_array_equal(shown, expected)
    rows = torch.arange(2 * len(shown))
    np.testing.assert_array_equal(ring.observations(rows).numpy(), np.concatenate(expected))


def test_the_configuration_takes_over_what_is_seen() -> None:
    envs = make_vec(Pictures, 1, frame_stack=2)
    agent = agent_of(envs, encoder="mlp")
    with pytest.warns(UserWarning, match="had frame_stack 4, but the environments stack 2 frames; it was changed to 2"):
        agent.learn(envs, 1)
    assert (agent.config.frame_stack, agent.config.frame_size) == (2, 84)
    sized = make_vec("ALE/Pong-v5", 1, frame_size=42)
    agent = agent_of(sized)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "nothing is learned")
        agent.learn(sized, 1)
    assert (agent.config.frame_stack, agent.config.frame_size) == (4, 42)


def test_suspicious_ranges_are_said_once_at_the_beginning() -> None:
    for space, sentence in (
        (Box(0, 255, (12, 12, 3), np.float32), r"^the observations are pictures of float32 in \[0, 255\]"),
        (Box(-99, 99, (12, 12, 3), np.float32), r"^the first observations are float32 from -9\d"),
    ):
        envs = make_vec(of(space), 1)
        agent = agent_of(envs)
        with pytest.warns(UserWarning, match=sentence):
            agent.learn(envs, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        agent.learn(envs, 2)


def test_running_statistics_are_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    cartpole = make_vec("CartPole-v1", 1)
    wrapped = gymnasium.wrappers.vector.NormalizeObservation(make_vec("CartPole-v1", 1))
    rewards = make_vec(lambda: gymnasium.wrappers.NormalizeReward(gymnasium.make("CartPole-v1")), 1)
    for envs, evaluation, name in ((wrapped, None, "Observation"), (rewards, None, "Reward"), (cartpole, wrapped, "")):
        with pytest.raises(InvalidConfig, match=rf"^the environments have the wrapper Normalize{name}.*statistics are"):
            agent_of(envs).learn(envs, 10, tmp_path / "run", evaluation_envs=evaluation)
    assert not (tmp_path / "run").exists()


def test_prepared_pictures_go_through_every_door(tmp_path: Path) -> None:
    gymnasium.register("PicturesDoors-v0", Pictures)
    out, halved = tmp_path / "run", tmp_path / "halved"
    flags = "--env PicturesDoors-v0 --preset nature --device cpu --num-envs 2 --frame-size 12 --grayscale "
    flags += "--agent.encoder minatar --agent.hidden 8 --agent.learning-starts 8 --agent.batch-size 4 "
    flags += "--agent.replay-capacity 200 --agent.frame-stack 3 --evaluation-episodes 1 --final-episodes 1 "
    try:
        ended = run_here(["train", *flags.split(), "--steps", "40", "--out", str(out)])
        assert ended.code == 0, ended
        config = json.loads((out / "config.json").read_text())
        assert config["env_arguments"] == {"frame_size": 12, "grayscale": True, "frame_stack": 3}
        assert (config["agent"]["frame_size"], config["agent"]["frame_stack"]) == (12, 3)
        assert run_here(["train", *flags.split(), "--steps", "20", "--out", str(halved)]).code == 0
        ended = run_here(["train", "--resume", "--out", str(halved), "--steps", "40", "--frame-size", "10"])
        assert (ended.code, "--frame-size must be 12 as in the run" in ended.err) == (2, True), ended
        assert run_here(["train", "--resume", "--out", str(halved), "--steps", "40"]).code == 0
        assert json.loads((halved / "config.json").read_text())["resumed"][0]["exact"]
        one, other = (DQN.load(path / "checkpoints" / "latest", "cpu") for path in (out, halved))
        assert one.observation_space.shape == (3, 12, 12)
        for weights, others in zip(one.network.parameters(), other.network.parameters(), strict=True):
            assert torch.equal(weights, others)
        files = ["--json", str(tmp_path / "scores.json"), "--video", str(tmp_path / "film")]
        ended = run_here(["evaluate", str(out), "--episodes", "2", "--device", "cpu", *files])
        assert ended.code == 0, ended
        assert json.loads((tmp_path / "scores.json").read_text())["lengths"] == [5, 5]
        assert len(list((tmp_path / "film").glob("*.mp4"))) == 1
        ended = run_here(["train", "--env", "CartPole-v1", "--grayscale", "--out", str(tmp_path / "none")])
        assert (ended.code, "leave out grayscale, which needs pictures" in ended.err) == (2, True), ended
        assert not (tmp_path / "none").exists()
    finally:
        del gymnasium.registry["PicturesDoors-v0"]
