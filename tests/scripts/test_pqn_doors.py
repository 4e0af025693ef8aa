"""PQN by all doors: trained, killed and resumed from the command line, evaluated and filmed, used as a library."""

import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from pixelq.agents import DQN, PQN, AgentConfig, InvalidCheckpoint, Policy, load, preset
from pixelq.agents.config.env_flags import env_arguments
from pixelq.agents.experience.rollout import Rollout
from pixelq.agents.storage.pointers import checkpoint_folder, step_of
from pixelq.envs import is_atari, make_vec
from pixelq.scripts.flags.train import TrainArgs
from pixelq.scripts.flags.train import read as read_train
from tests.support.cases import representative
from tests.support.masked_envs import Corridor
from tests.support.runs import Ended, Harness, assert_same, run_here

FLAGS = (
    "--env pixelq/TMaze-v0 --preset pqn_lstm --num-envs 4 --agent.lstm 8 --agent.hidden 8 --agent.rollout-length 5 "
    "--agent.minibatches 2 --steps 132 --checkpoint-every 12 --evaluate-every 120 --evaluation-episodes 1 "
    "--final-episodes 1 --log-every 60 --max-episode-steps 20 --device cpu"
).split()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, harness: Harness) -> Path:
    out = tmp_path_factory.mktemp("pqn") / "whole"
    ended = harness.run(["train", *FLAGS, "--out", str(out)])
    assert ended.code == 0, ended
    return out


def latest_step(out: Path) -> int:
    latest = out / "checkpoints" / "latest"
    return step_of(checkpoint_folder(latest)) if latest.exists() else 0


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_byte(run: Path, harness: Harness, tmp_path: Path) -> None:
    """Killed within a rollout, whose 20 steps no checkpoint's 12 divide."""
    out = tmp_path / "killed"
    child = harness.start(["train", *FLAGS, "--out", str(out)])
    while latest_step(out) < 36:
        time.sleep(0.001)
    child.send(signal.SIGKILL)
    assert child.wait().code == -signal.SIGKILL
    ended = harness.run(["train", "--resume", "--out", str(out), "--device", "cpu"])
    assert ended.code == 0, ended
    assert_same(run, out)
    config = json.loads((out / "config.json").read_text())
    assert (config["preset"], config["agent"]["algorithm"]) == ("pqn_lstm", "pqn")
    assert [entry["exact"] for entry in config["resumed"]] == [True]


def test_it_is_evaluated_and_filmed(run: Path, tmp_path: Path) -> None:
    ended = run_here(["evaluate", str(run), "--episodes", "1", "--device", "cpu", "--video", str(tmp_path)])
    assert ended.code == 0, ended
    assert len(list(tmp_path.glob("*.mp4"))) == 1


def test_a_run_is_loaded_by_its_class(run: Path, tmp_path: Path) -> None:
    agent = load(run, "cpu")
    assert type(agent) is PQN
    assert agent.updates > 10
    for sentence, other in (("holds a PQN and no DQN; load it with PQN.load", run), ("", tmp_path / "dqn")):
        if not sentence:
            DQN(agent.observation_space, agent.action_space, "classic", device="cpu").save(other)
            assert type(load(other, "cpu")) is DQN
            sentence = "holds a DQN and no PQN; load it with DQN.load"
        with pytest.raises(InvalidCheckpoint, match=f"{other} {sentence}$"):
            (DQN if other is run else PQN).load(other, "cpu")
    obs = np.eye(4, dtype=np.float32)
    torch.testing.assert_close(Policy.load(run, "cpu").q_values(obs), agent.q_values(obs))
    agent.save(tmp_path / "acting", for_acting=True)
    torch.testing.assert_close(PQN.load(tmp_path / "acting", "cpu").q_values(obs), agent.q_values(obs))


def test_what_cannot_be_is_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    def refused(*flags: str) -> Ended:
        ended = run_here(["train", *FLAGS, *flags, "--out", str(tmp_path / "run")])
        assert not (tmp_path / "run").exists()
        assert ended.code == 2
        return ended

    assert "minibatches must be at most the 1 environments" in refused("--num-envs", "1").err
    assert "prioritized must be False with the algorithm pqn" in refused("--agent.prioritized", "True").err


def test_values_are_those_of_allowed_actions() -> None:
    envs = make_vec("tests/Corridor-v0", 3, seed=0)
    config = AgentConfig(algorithm="pqn", encoder="mlp", hidden=8, learning_starts=1, rollout_length=4, minibatches=2)
    agent = PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    agent.learn(envs, 60)
    assert agent.updates > 8
    rollout = agent.replay
    assert isinstance(rollout, Rollout)
    slots = [time % rollout.ring.length for time in range(rollout.start, rollout.time)]  # since the last update
    assert slots
    for slot in slots[1:]:  # the first has the values before it
        for env in range(3):
            obs = rollout.ring.frames[slot * 3 + env].numpy()
            game = Corridor()
            game.place = int(obs.argmax())
            allowed = game.allowed().astype(bool)
            q = agent.q_values(obs[None])[0].numpy()
            assert rollout.values[slot, env].item() == pytest.approx(q[allowed].max() if allowed.any() else q.max())


def test_learning_goes_on_where_the_games_stand() -> None:
    """Two calls in the middle of a rollout are the training that one call is."""

    def trained(*steps: int) -> PQN:
        envs = make_vec("pixelq/Catch-v0", 4, seed=0)
        config = AgentConfig(algorithm="pqn", hidden=8, learning_starts=1, rollout_length=6, minibatches=2)
        agent = PQN(envs.single_observation_space, envs.single_action_space, config, device="cpu")
        for count in steps:
            agent.learn(envs, count)
        return agent

    whole, halved = trained(120), trained(44, 76)
    assert whole.updates == halved.updates > 8
    for one, two in zip(whole.network.parameters(), halved.network.parameters(), strict=True):
        assert torch.equal(one, two)


FEATURES = {"pqn": 3136, "pqn_hadamax": 7744, "pqn_hl_gauss": 3136, "pqn_lstm": 3136}


@pytest.mark.parametrize("name", representative(FEATURES, ("pqn_lstm",)))
def test_the_presets_build_their_networks(name: str) -> None:
    config = preset(name)
    pixels = Box(0, 255, (config.frame_stack, 84, 84), np.uint8)
    agent = PQN(pixels, Discrete(6), config, device="cpu")
    assert agent.network.encoder.out_features == FEATURES[name]
    assert agent.q_values(pixels.sample()[None]).shape == (1, 6)


def test_the_size_of_the_default_preset_is_for_atari_games_alone() -> None:
    """Catch has pictures of 10×5 with the channels first, which cannot be resized."""

    def pictures(flags: TrainArgs) -> tuple[Any, Any]:
        made = env_arguments(flags, flags.agent, flags.preset, is_game=is_atari(flags.env))
        return made["frame_stack"], made["frame_size"]

    catch = read_train(["--env", "pixelq/Catch-v0"])
    assert (catch.preset, catch.agent.frame_size, pictures(catch)) == ("quick", 42, (None, None))
    kept = replace(catch, resume=True, agent=replace(catch.agent, frame_size=84))  # as its config.json has it
    assert pictures(kept) == (None, None)
    assert pictures(replace(catch, agent=replace(catch.agent, frame_size=30))) == (4, 30)
    assert pictures(read_train(["--env", "ALE/Pong-v5"])) == (4, 42)
    ram = read_train("--env ALE/Pong-v5 --preset quick --env-kwargs.obs_type ram".split())
    assert (pictures(ram), pictures(replace(ram, frame_size=30))) == ((None, None), (4, 30))
