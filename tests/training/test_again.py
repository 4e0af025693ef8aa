"""`learn` called again goes on where the games stand: several calls are one longer call, to the byte."""

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixelq.agents import DQN, PQN, AgentConfig, InvalidCheckpoint, InvalidConfig, evaluate
from pixelq.agents.experience.rollout import Rollout
from pixelq.agents.training.ongoing import Ongoing
from pixelq.envs import PROTOCOLS, make_vec
from tests.support.cases import examples, representative
from tests.support.masked_envs import Corridor, UnmaskedCorridor

TINY = AgentConfig(
    hidden=8,
    batch_size=4,
    learning_starts=30,
    replay_capacity=150,
    train_every=3,
    target_update_every=40,
    epsilon_steps=200,
    n_step=3,
)
PARTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "prioritized": {"prioritized": True, "priority_beta_steps": 100, "noisy": True},
    "memory": {"lstm": 6, "sequence_length": 7, "sequence_period": 3, "burn_in": 2, "lstm_last_reward": True},
    "resets": {"reset_every": 20, "learning_rate_steps": 150, "gradient_steps": 2},
}
ENVS = 3


def catch(seed: int = 0) -> Any:
    return make_vec("pixelq/Catch-v0", ENVS, seed)


def new(envs: Any, **fields: Any) -> DQN:
    config = dataclasses.replace(TINY, **fields)
    return DQN(envs.single_observation_space, envs.single_action_space, config, device="cpu", seed=2)


def everything(agent: DQN) -> dict[str, Any]:
    """All that a longer training would go on from, as bytes."""
    replay, kept = agent.replay, agent.ongoing
    assert replay is not None
    assert isinstance(kept, Ongoing)
    tensors = {
        "weights": agent.network.state_dict(),
        "learner": agent.learner.tensors(),
        "noise": {"state": agent.noise.get_state()},
        "replay": replay.state(),
        "rows": replay.ring.read(max(0, replay.time - replay.length), replay.time),
        "parts": {name: tensor for name, tensor in kept.arrays.items() if "loss" not in name},
    }
    found: dict[str, Any] = {
        f"{kind}.{name}": tensor.detach().cpu().numpy().tobytes()
        for kind, named in tensors.items()
        for name, tensor in named.items()
    }
    found |= {"steps": (agent.step, agent.updates, agent.episodes), "exploration": agent.rng.bit_generator.state}
    return found | {name: kept.values[name] for name in ("learn_from", "steps_owed")}


def assert_same(one: DQN, other: DQN) -> None:
    ours, theirs = everything(one), everything(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.parametrize("parts", representative(PARTS, keep={"prioritized"}))
def test_twelve_calls_are_one(parts: str) -> None:
    whole, pieces = (new(catch(), **PARTS[parts]) for _ in range(2))
    whole.learn(catch(), 240)
    envs = catch()
    reached = [pieces.learn(envs, 20).step for _ in range(12)]
    assert reached[0] == 21  # three environments go beyond 20, and the second call is as much shorter
    assert whole.episodes > 20
    assert whole.updates > 60
    assert_same(whole, pieces)


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6))
@example([1, 1])
def test_any_pieces_are_one(pieces: list[int]) -> None:
    """Also pieces of less than a step of all environments, after which the next calls are the shorter."""
    whole, divided = new(catch()), new(catch())
    last = ENVS * len(pieces)  # as much as the others can go beyond
    whole.learn(catch(), sum(pieces) + last)
    envs = catch()
    for steps in (*pieces, last):
        divided.learn(envs, steps)
    assert_same(whole, divided)


def test_calls_of_one_run_and_its_evaluations_are_one(tmp_path: Path) -> None:
    whole, pieces = new(catch()), new(catch())
    whole.learn(catch(), 160)
    envs, evaluation_envs = catch(), make_vec("pixelq/Catch-v0", 2, 9)
    for i in range(4):
        options = {"evaluate_every": 50, "evaluation_episodes": 2, "checkpoint_every": 30, "log_every": 25}
        pieces.learn(envs, 40, tmp_path / "run", evaluation_envs=evaluation_envs, resume=i > 0, **options)
    assert_same(whole, pieces)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [entry["exact"] for entry in config["resumed"]] == [True] * 3
    assert config["steps"] == 160
    # The checkpoint holds the games as they stand, and another process goes on as this one does.
    loaded = DQN.load(tmp_path / "run" / "checkpoints" / "latest", "cpu")
    loaded.learn(catch(5), 200 - loaded.step, tmp_path / "run", resume=True)
    pieces.learn(envs, 40)
    assert_same(loaded, pieces)


def test_a_run_whose_replay_has_actions_of_other_environments_is_refused(tmp_path: Path) -> None:
    agent = new(catch())
    agent.make_replay(ENVS, 1).ring.action[-1] = 3  # of the actions 0 to 2; no step of this run comes there
    agent.replay.ring.time = agent.replay.length  # type: ignore[union-attr]  # so that all rows are saved
    agent.learn(catch(), 20, tmp_path / "run")
    with pytest.raises(
        InvalidCheckpoint, match="does not fit this run: the replay holds actions that the environments"
    ):
        DQN.load(tmp_path / "run", "cpu").learn(catch(), 20, tmp_path / "run", resume=True)


def test_environments_that_keep_no_state_go_on_too(tmp_path: Path) -> None:
    def cartpoles() -> Any:
        envs = gymnasium.make_vec("CartPole-v1", 2)
        envs.reset(seed=3)
        return envs

    whole, pieces, saved = (new(cartpoles()) for _ in range(3))
    whole.learn(cartpoles(), 180)
    for agent, out in ((pieces, None), (saved, tmp_path / "run")):
        envs = cartpoles()
        for i in range(6):
            agent.learn(envs, 30, out, resume=out is not None and i > 0)
        assert_same(whole, agent)
    assert [each["exact"] for each in json.loads((tmp_path / "run" / "config.json").read_text())["resumed"]] == [
        True
    ] * 5


@pytest.mark.slow
def test_calls_in_an_atari_game_are_one() -> None:
    protocol = dataclasses.replace(PROTOCOLS["nature"], max_frames=400)
    envs = [make_vec("ALE/Breakout-v5", ENVS, 0, protocol, num_threads=1) for _ in range(2)]
    whole, pieces = (new(each, encoder="nature", train_every=30, replay_capacity=450) for each in envs)
    whole.learn(envs[0], 400)
    for _ in range(8):
        pieces.learn(envs[1], 50)
    assert whole.episodes > 0
    assert_same(whole, pieces)
    envs[1].step(np.zeros(ENVS, np.int64))  # nothing is under way


def steps_after(agent: DQN, envs: Any) -> int:
    """Return the time steps that the replay grows by in a call of ten steps of all environments."""
    assert agent.replay is not None
    before = agent.replay.time
    agent.learn(envs, 10 * ENVS)
    return agent.replay.time - before


def reset(agent: DQN, envs: Any) -> None:
    envs.reset()


def step(agent: DQN, envs: Any) -> None:
    envs.step(np.zeros(ENVS, np.int64))


def put_back(agent: DQN, envs: Any) -> None:
    envs.set_state(envs.get_state())


def evaluated(agent: DQN, envs: Any) -> None:
    evaluate(agent, envs, 1)


def taken_by_another(agent: DQN, envs: Any) -> None:
    new(envs).learn(envs, 10)


@pytest.mark.parametrize("meanwhile", [reset, step, put_back, evaluated, taken_by_another])
def test_new_episodes_begin_where_others_have_played(meanwhile: Any) -> None:
    """The games under way end in the replay, as truncated, and one more row holds their last observations."""
    envs = catch()
    agent = new(envs)
    agent.learn(envs, 60)
    kept, replay = agent.ongoing, agent.replay
    assert isinstance(kept, Ongoing)
    assert replay is not None
    last, time = kept.arrays["obs"].numpy(), replay.time
    meanwhile(agent, envs)
    steps_after(agent, envs)
    rows = replay.ring.read(time - 1, time + 2)
    assert rows["truncated"][0].all()
    assert not rows["is_start"][1].any()
    np.testing.assert_array_equal(rows["frames"][1].numpy(), last.reshape(rows["frames"][1].shape))
    assert (rows["age"][2] == 0).all()


@pytest.mark.parametrize("meanwhile", [evaluated, taken_by_another])
def test_what_this_package_plays_in_foreign_environments_is_known(meanwhile: Any) -> None:
    envs = gymnasium.make_vec("CartPole-v1", ENVS)
    agent = new(envs)
    agent.learn(envs, 60)
    assert steps_after(agent, envs) <= 13  # ten, and the steps that only reset
    meanwhile(agent, envs)
    time = agent.replay.time  # type: ignore[union-attr]
    steps_after(agent, envs)
    assert agent.replay.ring.read(time - 1, time)["truncated"].all()  # type: ignore[union-attr]


@pytest.mark.parametrize("step", [0, 1_000])
def test_episodes_end_in_the_replay_also_if_the_step_was_set(step: int) -> None:
    agent = new(catch())
    agent.learn(catch(), 60)
    time, agent.step = agent.replay.time, step  # type: ignore[union-attr]
    agent.learn(catch(7), 30)
    assert agent.replay.ring.read(time - 1, time)["truncated"].all()  # type: ignore[union-attr]


def test_environments_made_alike_begin_new_episodes() -> None:
    agent = new(catch())
    agent.learn(catch(), 60)
    time = agent.replay.time  # type: ignore[union-attr]
    agent.learn(catch(7), 30)
    assert agent.replay.ring.read(time - 1, time)["truncated"].all()  # type: ignore[union-attr]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda agent: pickle.loads(pickle.dumps(agent))])
def test_a_copy_begins_new_episodes(copied: Any) -> None:
    envs = catch()
    agent = new(envs)
    agent.learn(envs, 60)
    other = copied(agent)
    time = agent.replay.time  # type: ignore[union-attr]
    other.learn(envs, 30)
    assert other.replay.ring.read(time - 1, time)["truncated"].all()
    assert not agent.replay.ring.read(time - 1, time)["truncated"].all()  # type: ignore[union-attr]


def test_a_loop_up_to_a_step_ends() -> None:
    """Although steps beyond the last one count for the next call, each call takes one."""
    envs = catch()
    agent = new(envs)
    calls = 0
    while agent.step < 61:
        agent.learn(envs, min(20, 61 - agent.step))
        calls += 1
    assert calls == 4


def test_an_error_ends_the_games() -> None:
    envs = catch()
    agent = new(envs)
    agent.learn(envs, 60)
    time = agent.replay.time  # type: ignore[union-attr]
    agent.explore = lambda *_: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    with pytest.raises(ZeroDivisionError):
        agent.learn(envs, 30)
    assert agent.ongoing is None
    assert agent.replay.ring.read(time - 1, time)["truncated"].all()  # type: ignore[union-attr]
    del agent.explore
    agent.learn(envs, 30)
    assert agent.ongoing is not None


@pytest.mark.parametrize("kind", ["dqn", "pqn"])
def test_an_error_before_the_first_step_ends_the_games(kind: str) -> None:
    envs, unmasked = make_vec(Corridor, 2), make_vec(UnmaskedCorridor, 2)
    fields = {"algorithm": "pqn", "hidden": 8, "rollout_length": 50, "minibatches": 1} if kind == "pqn" else {}
    config = AgentConfig(**fields) if fields else TINY
    agent = (PQN if fields else DQN)(envs.single_observation_space, envs.single_action_space, config, device="cpu")
    agent.learn(envs, 20)
    replay = agent.replay
    assert replay is not None
    time = replay.time
    with pytest.raises(InvalidConfig, match="the environments must give action masks"):
        agent.learn(envs, 20, evaluation_envs=unmasked)
    agent.learn(envs, 2)
    if isinstance(replay, Rollout):
        assert (replay.start, replay.time) == (time, time + 1)  # the steps of before are forgotten
    else:
        rows = replay.ring.read(time - 1, time + 1)
        assert rows["truncated"].tolist() == [[True] * 2, [False] * 2]
        assert not replay.ring.is_start[time].any()
