"""Training with actors against the same training without, in one process: the actors run without Ray."""

import dataclasses
import json
import math
import os
import pickle
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixelq.agents import DQN, PQN, AgentConfig, Callback, InvalidConfig, RunFailed, Training, load
from pixelq.agents.config.at_step import epsilon_ladder
from pixelq.agents.distributed import team
from pixelq.agents.distributed.actor import Plan
from pixelq.agents.distributed.block import Block, Recording
from pixelq.agents.kinds import kind_of
from pixelq.envs import EnvironmentFailed, make_vec
from tests.support.cases import examples, representative
from tests.support.direct_engine import Call, Direct, DirectEngine, DirectEnvs
from tests.support.masked_envs import Corridor
from tests.support.own_envs import Line
from tests.support.runs import table

TINY = AgentConfig(
    hidden=8, batch_size=4, learning_starts=40, replay_capacity=400, train_every=3, target_update_every=40,
    epsilon_steps=200, n_step=3,
)  # fmt: skip
MEMORY: dict[str, Any] = {"lstm": 6, "sequence_length": 7, "sequence_period": 3, "burn_in": 2}
TINY_PQN = AgentConfig(
    algorithm="pqn", hidden=8, learning_starts=1, rollout_length=5, minibatches=2, optimizer="radam",
    max_grad_norm=10.0, channel_norm=True, epsilon_steps=200,
)  # fmt: skip
CONFIGS = {
    "scalar": TINY,
    "prioritized": dataclasses.replace(TINY, prioritized=True),
    "noisy ladder": dataclasses.replace(TINY, noisy=True, epsilon_ladder=True),
    "memory": dataclasses.replace(TINY, **MEMORY),
    "pqn": TINY_PQN,
    "pqn memory": dataclasses.replace(TINY_PQN, lstm=6),
    "pqn past": dataclasses.replace(TINY_PQN, kept_rollouts=3, past_rollouts=1),
}


def made(config: AgentConfig, envs: Any, seed: int = 5) -> DQN | PQN:
    spaces = envs.single_observation_space, envs.single_action_space
    return kind_of(config)(*spaces, config, device="cpu", seed=seed)


@pytest.mark.parametrize(
    ("name", "env"),
    representative(
        [*((name, "pixelq/Catch-v0") for name in CONFIGS), ("scalar", Corridor), ("pqn", Line)],  # masks; truncations
        keep=[("memory", "pixelq/Catch-v0"), ("prioritized", "pixelq/Catch-v0"), ("scalar", Corridor), ("pqn", Line)],
    ),
)
def test_one_synchronous_actor_is_training_without_actors(name: str, env: Any) -> None:
    """The same rows, draws and weights, number for number; with a PQN also in the blocks that it has anyway."""
    how = {} if CONFIGS[name].algorithm == "pqn" else {"block": 1, "ahead": 0}
    both = make_vec(env, 4, 7), DirectEnvs(env, 4, 7, **how)
    local, remote = (made(CONFIGS[name], envs).learn(envs, 200) for envs in both)
    assert (local.step, local.updates, local.episodes) == (remote.step, remote.updates, remote.episodes)
    assert local.updates > 30
    assert local.replay is not None
    assert remote.replay is not None
    assert remote.replay.time >= local.replay.time
    ours, theirs = local.replay.ring.read(0, 45), remote.replay.ring.read(0, 45)
    for field in ours:
        assert torch.equal(ours[field], theirs[field]), field
    for weight, other in zip(local.network.parameters(), remote.network.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_rollouts_of_actors_are_played_after_all_updates_also_with_overlap() -> None:
    local = made(TINY_PQN, envs := make_vec("pixelq/Catch-v0", 4, 7)).learn(envs, 200)
    overlapping = dataclasses.replace(TINY_PQN, overlap=True)
    remote = made(overlapping, actors := DirectEnvs("pixelq/Catch-v0", 4, 7)).learn(actors, 200)
    assert local.updates == remote.updates > 30
    for weight, other in zip(local.network.parameters(), remote.network.parameters(), strict=True):
        assert torch.equal(weight, other)


@pytest.mark.slow
def test_one_actor_plays_atari_as_the_loop_does() -> None:
    config = dataclasses.replace(TINY, frame_stack=4)
    rings = []
    for kind, more in ((make_vec, {"num_threads": 1}), (DirectEnvs, {"block": 1, "ahead": 0})):
        envs = kind("ALE/Breakout-v5", 2, 3, "nature", **more)  # where lives are lost
        agent = made(config, envs).learn(envs, 120)
        assert agent.replay is not None
        rings.append(agent.replay.ring.read(0, 58))
        envs.close()
    assert rings[0]["frames"].float().std() > 0
    for field in rings[0]:
        assert torch.equal(rings[0][field], rings[1][field]), field


@pytest.mark.filterwarnings("ignore::UserWarning")  # of those who die, and that nothing is learned
@settings(max_examples=examples(50), deadline=None)
@example(sizes=(1, 1, 6, 1), memory=False, deaths={5, 9})
@example(sizes=(2, 2, 5, 1), memory=True, deaths={6, 13})
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(0, 4), st.integers(1, 6), st.integers(0, 2)),
    memory=st.booleans(),
    deaths=st.sets(st.integers(4, 40), max_size=team.MOST_DEATHS - 1),  # the others could follow one another
)
def test_the_replay_holds_what_actors_played_whatever_dies(
    sizes: tuple[int, int, int, int], memory: bool, deaths: set[int]
) -> None:
    """Every transition that can be drawn is one of Catch, in one episode; rows of the dead start none."""
    actors, more, block, ahead = sizes
    engine = DirectEngine(lambda call: call in deaths)
    envs = DirectEnvs("pixelq/Catch-v0", actors + more, 1, actors=actors, block=block, ahead=ahead, engine=engine)
    config = dataclasses.replace(TINY, learning_starts=10_000, replay_capacity=4_000, n_step=1)
    config = dataclasses.replace(config, **(MEMORY if memory else {}))
    agent = made(config, envs).learn(envs, 120)
    replay = agent.replay
    assert replay is not None
    ring, num_envs = replay.ring, actors + more
    length = min(ring.time, ring.length)
    rows = ring.read(0, length)
    assert rows["is_start"].sum() <= agent.step
    assert rows["is_start"].sum() >= agent.step - (len(engine.actors) - actors + 1) * num_envs
    for env in range(num_envs):
        for time in range(length - 1):
            if not rows["is_start"][time, env]:
                continue
            ball, next_ball = (rows["frames"][t, env].reshape(10, 5)[:9] for t in (time, time + 1))
            is_end = bool(rows["terminated"][time, env])
            is_cut = bool(rows["truncated"][time, env])
            assert (ball > 0).sum() == 1  # and not one of the rows that nobody played
            assert rows["age"][time, env] > 0 or ball[0].any()  # an episode's first row is its first view
            assert rows["age"][time + 1, env] > 0  # the outcome is shown in the same episode
            assert bool(rows["is_start"][time + 1, env]) == (not is_end and not is_cut)
            if not is_end:
                assert torch.equal(ball[:-1], next_ball[1:])  # it falls by one line, also in a step that is cut off
            if is_end:
                assert abs(float(rows["reward"][time, env])) == 1


@pytest.mark.filterwarnings("ignore:actor . has died")
def test_a_dead_actor_is_replaced_and_everything_else_goes_on(tmp_path: Path) -> None:
    envs = DirectEnvs(
        "pixelq/Catch-v0", 4, 1, actors=2, block=4, ahead=1, engine=DirectEngine(lambda call: call in (9, 20))
    )
    agent = made(TINY, envs).learn(envs, 400, tmp_path / "run", log_every=50)
    rows = table(tmp_path / "run" / "metrics.csv")
    assert rows[-1]["actor_restarts"] == 2
    assert len(envs._engine.actors) == 4  # type: ignore[attr-defined]
    assert all(actor.is_dead for actor in envs._engine.actors)  # type: ignore[attr-defined]
    seeds = {(actor.actor.plan.env_seed, actor.actor.plan.seed) for actor in envs._engine.actors}  # type: ignore[attr-defined]
    assert len(seeds) == 4
    assert agent.step >= 400
    preset = TINY.batch_size / TINY.train_every
    for row in rows[3:]:
        assert row["samples_per_insert"] == pytest.approx(preset, rel=0.1)
        assert 0 <= (row["blocks_in_flight"] or 0) <= 4
        assert 0 < (row["weights_lag"] or 0) <= 2 * 4 * 4
    assert json.loads((tmp_path / "run" / "config.json").read_text())["actors"] == 2


@pytest.mark.filterwarnings("ignore:actor . has died")
def test_an_actor_may_die_any_number_of_times_if_it_plays_in_between() -> None:
    engine = DirectEngine(lambda call: call in (5, 10, 15, 20))
    agent = made(TINY, envs := DirectEnvs("pixelq/Catch-v0", 2, 1, block=4, engine=engine)).learn(envs, 200)
    assert (agent.step >= 200, len(engine.actors)) == (True, 5)


@pytest.mark.filterwarnings("ignore:actor . has died")
def test_an_actor_that_dies_again_and_again_ends_the_training(tmp_path: Path) -> None:
    envs = DirectEnvs("pixelq/Catch-v0", 2, 1, engine=DirectEngine(lambda call: call > 5))
    with pytest.raises(RunFailed, match="actor 0 has died 3 times before it played a block"):
        made(TINY, envs).learn(envs, 400)


class NoRoom(DirectEngine):
    """Both actors die at a call, and others have room from a second on, of a clock that goes on while they wait.

    At another second this process gets SIGTERM.
    """

    def __init__(self, call: int, from_second: float, signal_at: float) -> None:
        super().__init__(lambda now: now in (call, call + 1))
        self.from_second, self.signal_at, self.seconds = from_second, signal_at, 0.0

    def monotonic(self) -> float:
        return self.seconds

    def ready(self, refs: Sequence[Call], timeout: float) -> list[Call]:
        there = [ref for ref in refs if self.actors.index(ref.actor) < 2 or self.seconds >= self.from_second]
        self.seconds += timeout if len(there) < len(refs) else 0.0
        if self.seconds >= self.signal_at:
            self.signal_at = math.inf
            os.kill(os.getpid(), signal.SIGTERM)
        return there


@pytest.mark.parametrize(
    ("from_second", "signal_at", "waits", "told"),
    representative(
        [(1_200.0, math.inf, 1_200.0, 2), (1_900.0, math.inf, team.MOST_WAIT, 3), (1_900.0, 700.0, 700.0, 2)],
        keep=[(1_900.0, math.inf, team.MOST_WAIT, 3)],
    ),
    ids=["room at last", "no room", "a signal"],
)
def test_a_run_without_room_for_any_actor_says_so_and_ends_with_a_checkpoint(
    from_second: float, signal_at: float, waits: float, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, engine = tmp_path / "run", NoRoom(41, from_second, signal_at)
    monkeypatch.setattr(team, "time", engine)
    envs: Any = DirectEnvs("pixelq/Catch-v0", 4, 1, actors=2, block=4, engine=engine)
    agent = made(dataclasses.replace(TINY, replay_capacity=2_000), envs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if waits == from_second:
            agent.learn(envs, 600, out, checkpoint_every=10_000)
        elif waits == signal_at:
            with pytest.raises(SystemExit, match="143"):
                agent.learn(envs, 600, out, checkpoint_every=10_000)
        else:
            with pytest.raises(
                RunFailed, match=r"died, at step [0-9]+, and no other has started within 30 min; resume"
            ):
                agent.learn(envs, 600, out, checkpoint_every=10_000)
    assert engine.seconds == pytest.approx(waits, abs=1.0)
    sentences = [str(each.message) for each in caught if "if no other starts" in str(each.message)]
    ends = [each.rpartition(" after ")[2] for each in sentences]
    assert ends == ["60 s", "11 min", "21 min"][:told]
    if waits != from_second:
        kept = load(out, "cpu")
        assert 100 < kept.step == agent.step < 600
        kept.learn(DirectEnvs("pixelq/Catch-v0", 4, 1, actors=2, block=4), 600 - kept.step, out, resume=True)
        assert kept.replay is not None
        starts = kept.replay.ring.is_start[: kept.replay.time]
        assert starts.sum() == pytest.approx(600, abs=20)  # the rows of before, and those after
    assert table(out / "metrics.csv")[-1]["step"] == pytest.approx(600, abs=4)


class Breaking(Line):
    """A line that breaks at some of its steps, in all environments together."""

    at: ClassVar[set[int]] = set()
    steps_of_all = 0

    def step(self, action: np.int64) -> Any:
        Breaking.steps_of_all += 1
        if Breaking.steps_of_all in Breaking.at:
            raise RuntimeError("it breaks")
        return super().step(action)


@pytest.mark.filterwarnings("ignore:.* the environments are created again, once")
@pytest.mark.parametrize("at", [{90}, {90, 180}])
def test_environments_that_fail_are_created_again_once(
    at: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "at", at)
    monkeypatch.setattr(Breaking, "steps_of_all", 0)
    engine = DirectEngine()
    agent = made(TINY, envs := DirectEnvs(Breaking, 4, 1, actors=2, block=4, engine=engine))
    if len(at) > 1:
        with pytest.raises(EnvironmentFailed, match=r"it breaks.*, at step 1[0-9][0-9]"):
            agent.learn(envs, 400, tmp_path / "run")
    else:
        agent.learn(envs, 400, tmp_path / "run", log_every=100)
        last = table(tmp_path / "run" / "metrics.csv")[-1]
        assert (last["restarts"], last["actor_restarts"]) == (1, 0)
    assert len(engine.actors) == 3


def test_actors_of_another_version_are_refused() -> None:
    class Older(DirectEngine):
        def start(self, plan: Plan) -> Direct:
            return super().start(dataclasses.replace(plan, version="0.0.1"))

    envs = DirectEnvs("pixelq/Catch-v0", 2, 1, engine=Older())
    with pytest.raises(InvalidConfig, match=r"all nodes of the cluster must have pixelq 0\.0\.1, got"):
        made(TINY, envs).learn(envs, 100)


@pytest.mark.filterwarnings("ignore:nothing is learned")
@pytest.mark.parametrize("actors", [1, 2, 4])
def test_an_actor_counts_the_steps_of_all(actors: int) -> None:
    """So that schedules, such as that of ε, go on in its blocks as they do in the learner."""
    asked: list[int] = []

    class Noting(DirectEngine):
        def play(self, actor: Direct, weights: Any, step: int, time: int) -> Call:
            asked.append(step)
            return super().play(actor, weights, step, time)

    engine = Noting()
    envs = DirectEnvs("pixelq/Catch-v0", 4, 1, actors=actors, block=20, ahead=0, engine=engine)
    made(dataclasses.replace(TINY, learning_starts=10_000), envs).learn(envs, 200)
    # Two of twenty steps only reset, and the block's last view belongs to the next one.
    assert [each.actor.policy.step - asked[-1] for each in engine.actors] == [4 * 18] * actors


def test_a_block_takes_little_more_than_its_rows() -> None:
    sent: list[int] = []

    class Weighing(DirectEngine):
        def get(self, ref: Call) -> Block:
            block = super().get(ref)
            sent.append(len(pickle.dumps(block, protocol=5)))  # which Ray does
            return block

    envs = DirectEnvs("ALE/Pong-v5", 4, 0, engine=Weighing())
    agent = made(dataclasses.replace(TINY, frame_stack=4), envs).learn(envs, 128)
    assert agent.replay is not None
    assert 0 < max(sent[1:]) <= 1.02 * 16 * agent.replay.ring.step_bytes


def test_a_run_is_resumed_with_other_actors_and_without(tmp_path: Path) -> None:
    out = tmp_path / "run"
    envs: Any = DirectEnvs("pixelq/Catch-v0", 4, 1, actors=2, block=4)
    agent = made(dataclasses.replace(TINY, **MEMORY), envs).learn(envs, 200, out, checkpoint_every=50)
    assert agent.replay is not None
    rows = agent.replay.time
    for steps, resumed in (
        (300, DirectEnvs("pixelq/Catch-v0", 4, 9, actors=3, block=4)),
        (400, make_vec("pixelq/Catch-v0", 4, 9)),
        (500, DirectEnvs("pixelq/Catch-v0", 4, 9, actors=1)),
    ):
        agent = load(out / "checkpoints" / "latest", "cpu")
        agent.learn(resumed, steps - agent.step, out, resume=True)
        assert agent.replay is not None
        assert agent.replay.time > rows
        rows = agent.replay.time
        config = json.loads((out / "config.json").read_text())
        assert config["resumed"][-1]["exact"] is False
        assert "episodes" in config["resumed"][-1]["why_not"]
        assert config.get("actors") == getattr(resumed, "actors", None)
    steps_taken = [row["step"] for row in table(out / "metrics.csv")]
    assert steps_taken == sorted(steps_taken)


@pytest.mark.filterwarnings("ignore:nothing is learned")
@pytest.mark.parametrize("actors", [1, 2, 5])
def test_the_ladder_of_epsilon_is_over_the_environments_of_all_actors(actors: int) -> None:
    config = dataclasses.replace(TINY, epsilon_ladder=True)
    engine = DirectEngine()
    envs = DirectEnvs("pixelq/Catch-v0", 5, 1, actors=actors, engine=engine)
    made(config, envs).learn(envs, 20)
    rungs = [actor.actor.policy.epsilons(actor.actor.plan.num_envs) for actor in engine.actors]
    assert [len(each) for each in rungs] == [len(part) for part in np.array_split(np.zeros(5), actors)]
    np.testing.assert_array_equal(np.concatenate(rungs), epsilon_ladder(5))


def test_actors_follow_settings_that_a_callback_changes() -> None:
    class Changing(Callback):
        def on_step(self, training: Training) -> None:
            if training.step >= 48:
                training.agent.replace(epsilon_start=0.25, epsilon_end=0.25)

    engine = DirectEngine()
    envs = DirectEnvs("pixelq/Catch-v0", 2, 1, block=4, engine=engine)
    made(TINY, envs).learn(envs, 150, callbacks=[Changing()])
    (actor,) = engine.actors
    assert actor.actor.policy.epsilon == 0.25


class Lives(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Loses a life at every third step."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int) -> None:
        self.num_envs, self.time = num_envs, 0
        self.single_observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.single_action_space = gymnasium.spaces.Discrete(2)

    def reset(self, **_: Any) -> Any:
        return np.zeros((self.num_envs, 2), np.float32), {}

    def step(self, actions: Any) -> Any:
        self.time += 1
        no, lost = np.zeros(self.num_envs, bool), np.full(self.num_envs, self.time % 3 == 0)
        return np.zeros((self.num_envs, 2), np.float32), np.zeros(self.num_envs), no, no, {"life_lost": lost}


@pytest.mark.filterwarnings("ignore:nothing is learned")
def test_lives_that_are_lost_in_actors_end_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    envs: Any = DirectEnvs("pixelq/Catch-v0", 2, 1, actors=2, block=6)
    monkeypatch.setattr("pixelq.agents.distributed.actor.make_vec", lambda env, num_envs, seed, **_: Lives(num_envs))
    lives = Lives(1)
    envs.single_observation_space, envs.single_action_space = lives.single_observation_space, lives.single_action_space
    agent = made(AgentConfig(hidden=8, encoder="mlp", learning_starts=10**6, replay_capacity=200), envs)
    agent.learn(envs, 60)
    assert agent.replay is not None
    rows = agent.replay.ring.read(0, 18)
    assert rows["terminated"][:, 0].tolist() == [time % 3 == 2 for time in range(18)]
    assert rows["is_start"].all()


@pytest.mark.filterwarnings("ignore:nothing is learned")
def test_blocks_that_are_asked_for_ahead_have_the_steps_at_which_they_begin() -> None:
    asked = []

    class Noting(DirectEngine):
        def play(self, actor: Direct, weights: Any, step: int, time: int) -> Call:
            asked.append((step, time))
            return super().play(actor, weights, step, time)

    envs = DirectEnvs("pixelq/Catch-v0", 4, 1, actors=2, block=5, ahead=2, engine=Noting())
    made(dataclasses.replace(TINY, learning_starts=10**6), envs).learn(envs, 60)
    assert [step - asked[0][0] for step, _ in asked[:6]] == [0, 20, 40] * 2
    assert [time for _, time in asked[:6]] == [0, 5, 10] * 2


@pytest.mark.filterwarnings("ignore:nothing is learned")
def test_a_changed_setting_is_sent_to_actors_without_an_update() -> None:
    sent = []

    class Noting(DirectEngine):
        def put(self, weights: Any) -> Any:
            sent.append((weights.number, weights.config.epsilon_end))
            return weights

    class Changing(Callback):
        def on_step(self, training: Training) -> None:
            if training.step >= 20 and training.agent.config.epsilon_end != 0.25:
                training.agent.replace(epsilon_end=0.25)

    envs = DirectEnvs("pixelq/Catch-v0", 2, 1, block=4, engine=Noting())
    made(dataclasses.replace(TINY, learning_starts=10**6), envs).learn(envs, 60, callbacks=[Changing()])
    assert sent == [(1, TINY.epsilon_end), (2, 0.25)]


def test_a_block_keeps_masks_as_they_were() -> None:
    obs, mask = np.zeros((2, 3), np.float32), np.ones((2, 3), bool)
    recording = Recording(2, 1, torch.device("cpu"))
    recording.observe(obs, mask=mask)
    mask[:] = False
    masks = recording.take().views.mask
    assert masks is not None
    assert masks.all()
