"""A run that was stopped and resumed is the run that never was: to the byte, in all that it keeps but times."""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixelq.agents import DQN, PQN, AgentConfig, InvalidCheckpoint, InvalidRun, Piecewise, Replay, load
from pixelq.agents.kinds import kind_of
from pixelq.agents.runs.checkpoints import newest_checkpoint
from pixelq.agents.runs.replay_files import ReplayFiles
from pixelq.agents.runs.tables import read_run
from pixelq.agents.storage.checkpoint_files import ROWS
from pixelq.agents.storage.files import replace_folder
from pixelq.envs import PROTOCOLS, GymnasiumVec, Protocol, make_vec
from tests.support.cases import examples, representative
from tests.support.runs import assert_same, column, contents

TINY = AgentConfig(
    hidden=8,
    batch_size=4,
    learning_starts=50,
    replay_capacity=400,
    train_every=3,
    target_update_every=40,
    epsilon_steps=500,
    n_step=3,
)
OPTIONS: dict[str, Any] = {
    "evaluate_every": 230,
    "evaluation_episodes": 3,
    "checkpoint_every": 70,
    "log_every": 50,
    "keep": 3,
}


class Killed(BaseException):
    """In place of SIGKILL: nothing of ours catches it, and what it runs through on its way out writes no file."""


@dataclass
class Trained:
    """How one run is trained, from its beginning or from its newest checkpoint."""

    env: str = "pixelq/Catch-v0"
    config: AgentConfig = TINY
    num_envs: int = 2
    protocol: Any = "sticky"
    device: str = "cpu"
    atari: dict[str, Any] = field(default_factory=dict)
    warn: Callable[[str], None] = pytest.fail

    def envs(self, seed: int, num_envs: int | None = None) -> Any:
        return make_vec(self.env, num_envs or self.num_envs, seed, self.protocol, num_threads=1, **self.atari)

    def train(
        self, out: Path, steps: int, *, kill_at: int | None = None, agent: DQN | PQN | None = None, **options: Any
    ) -> DQN | PQN | None:
        """Train a new or the given agent, or go on with the run in `out`, up to a step.

        Args:
            kill_at: Call of the environments' `recv` at which the run dies.
        """
        newest = newest_checkpoint(out / "checkpoints", self.warn) if out.exists() else None
        envs = self.envs(seed=0 if newest is None else 99)  # other games, were they not put back
        if newest is not None:
            agent = load(newest, self.device)
        elif agent is None:
            spaces = envs.single_observation_space, envs.single_action_space
            agent = kind_of(self.config)(*spaces, self.config, device=self.device, seed=5)
        calls, recv = 0, envs.recv

        def dying_recv() -> Any:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                raise Killed
            return recv()

        envs.recv = dying_recv
        evaluation_envs = self.envs(seed=1 if newest is None else 98, num_envs=2)
        try:
            resume = newest is not None or (out / "config.json").exists()
            options = OPTIONS | options
            return agent.learn(envs, steps - agent.step, out, evaluation_envs=evaluation_envs, resume=resume, **options)
        except Killed:
            return None
        finally:
            envs.close()
            evaluation_envs.close()


MEMORY: dict[str, Any] = {"lstm": 6, "sequence_length": 7, "sequence_period": 3, "burn_in": 2}
TINY_PQN = AgentConfig(
    algorithm="pqn",
    hidden=8,
    learning_starts=50,
    rollout_length=7,
    minibatches=2,
    optimizer="radam",
    max_grad_norm=10.0,
    channel_norm=True,
    epsilon_steps=500,
)
PARTS: dict[str, dict[str, Any]] = {
    "scalar": {},
    "prioritized": {"prioritized": True, "priority_beta_steps": 400, "priority_uniform": 0.1},
    "noisy categorical": {"head": "categorical", "noisy": True, "dueling": True, "double": True, "epsilon_end": 0.0},
    "quantile munchausen": {"head": "quantile", "munchausen": True},
    "implicit": {"head": "implicit", "prioritized": True},
    "fqf": {"head": "fqf"},
    "rmsprop": {"optimizer": "rmsprop", "n_step": 1},
    "schedules and resets": {"learning_rate_steps": 400, "weight_decay": 0.1, "reset_every": 60, "gradient_steps": 2},
    "another ratio": {"train_every": 7, "max_grad_norm": None},
    "radam and a moving target": {"optimizer": "radam", "target_tau": 0.1, "max_grad_norm": 1.0},
    "hl-gauss": {"head": "categorical", "categorical_loss": "hl_gauss"},
    "bfloat16": {"precision": "bfloat16"},
    "memory": MEMORY | {"lstm_last_action": True, "lstm_last_reward": True, "prioritized": True, "double": True},
    "memory from zeros": MEMORY | {"sequence_state": "zero", "sequence_period": 1, "burn_in": 0, "noisy": True},
}


PARTS_OF_PQN: dict[str, dict[str, Any]] = {
    "scalar": {"learning_rate_steps": 400},
    "memory": {"lstm": 6, "lstm_last_action": True, "lstm_last_reward": True},
    "noisy": {"head": "categorical", "categorical_loss": "hl_gauss", "noisy": True, "dueling": True},
    "overlap": {"overlap": True, "minibatches": 3, "epochs": 3},
    "past rollouts": {"overlap": True, "kept_rollouts": 3, "past_rollouts": Piecewise((0, 0), (90, 2)), "noisy": True},
}


@pytest.mark.parametrize("parts", representative(PARTS_OF_PQN, keep={"memory", "past rollouts"}))
def test_every_part_of_pqn_goes_on_exactly(tmp_path: Path, parts: str) -> None:
    """Killed within rollouts, the first time before the first checkpoint."""
    trained = Trained(config=dataclasses.replace(TINY_PQN, **PARTS_OF_PQN[parts]))
    whole = trained.train(tmp_path / "whole", 300)
    assert whole is not None
    assert whole.updates > 60
    for kill_at in (20, 80, 40):
        assert trained.train(tmp_path / "killed", 300, kill_at=kill_at) is None
    assert trained.train(tmp_path / "killed", 300) is not None
    assert_same(tmp_path / "whole", tmp_path / "killed")
    resumed = json.loads((tmp_path / "killed" / "config.json").read_text())["resumed"]
    assert [entry["exact"] for entry in resumed] == [True, True]


def test_a_run_goes_on_without_its_earlier_rollouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it learns from some of them, which have a file of their own."""
    monkeypatch.setattr("pixelq.agents.runs.replay_files.BLOCK_BYTES", 2**9)
    warnings: list[str] = []
    config, out = dataclasses.replace(TINY_PQN, **PARTS_OF_PQN["past rollouts"]), tmp_path / "run"
    trained = Trained(config=config, warn=warnings.append)
    assert trained.train(out, 300, kill_at=125) is None
    for block in (out / "checkpoints" / "replay").iterdir():
        block.write_bytes(b"")
    agent = trained.train(out, 300)
    assert agent is not None
    assert agent.step >= 300
    assert agent.updates > 60
    (entry,) = json.loads((out / "config.json").read_text())["resumed"]
    assert entry["why_not"].startswith("an empty replay: ")
    assert [warning.split("; ")[-1] for warning in warnings] == ["going on from it with an empty replay"]


@pytest.mark.parametrize("parts", representative(PARTS, keep={"memory"}))
def test_every_part_goes_on_exactly(tmp_path: Path, parts: str) -> None:
    """Killed at three moments, one of them before the first checkpoint."""
    trained = Trained(config=dataclasses.replace(TINY, **PARTS[parts]))
    assert trained.train(tmp_path / "whole", 300) is not None
    for kill_at in (20, 80, 40):
        assert trained.train(tmp_path / "killed", 300, kill_at=kill_at) is None
    assert trained.train(tmp_path / "killed", 300) is not None
    assert_same(tmp_path / "whole", tmp_path / "killed")
    resumed = json.loads((tmp_path / "killed" / "config.json").read_text())["resumed"]
    assert [entry["exact"] for entry in resumed] == [True, True]


@pytest.mark.parametrize("keeps_its_replay", [False, True])
def test_a_run_of_an_agent_that_has_learned_goes_on_from_its_first_step(tmp_path: Path, keeps_its_replay: bool) -> None:
    """Killed before the first checkpoint that is due, it does not begin again with the weights of the seed."""
    trained = Trained()
    for name, kill_at in (("whole", None), ("killed", 20)):
        agent = trained.train(tmp_path / f"first-{name}", 150)
        assert agent is not None
        if not keeps_its_replay:
            agent = DQN.load(tmp_path / f"first-{name}" / "checkpoints" / "latest", "cpu")
        begun = agent.step
        assert (trained.train(tmp_path / name, begun + 130, kill_at=kill_at, agent=agent) is None) == bool(kill_at)
    first = tmp_path / "killed" / "checkpoints" / "latest"
    assert DQN.load(first, "cpu").step == begun
    assert trained.train(tmp_path / "killed", begun + 130) is not None
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_a_run_of_many_interruptions(tmp_path: Path) -> None:
    trained = Trained(env="CartPole-v1", num_envs=3)
    assert trained.train(tmp_path / "whole", 900) is not None
    for _ in range(12):  # at each attempt a little further than the newest checkpoint
        assert trained.train(tmp_path / "killed", 900, kill_at=31) is None
    assert trained.train(tmp_path / "killed", 900) is not None
    assert_same(tmp_path / "whole", tmp_path / "killed")


SHORT = dataclasses.replace(PROTOCOLS["sticky"], max_frames=400)


@pytest.mark.parametrize(
    ("env", "protocol"),
    [
        ("ALE/Pong-v5", SHORT),
        ("ALE/Breakout-v5", dataclasses.replace(PROTOCOLS["nature"], max_frames=600)),
        ("ALE/Breakout-v5", "nature"),
        ("ALE/Qbert-v5", SHORT),
    ],
)
@pytest.mark.slow
def test_an_atari_run_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: str, protocol: Protocol | str
) -> None:
    """With sticky actions, no-op draws, lost lives, truncations, several anchors, and a ring that was overwritten."""
    monkeypatch.setattr("pixelq.envs.anchors.ANCHOR_EVERY", 80)
    monkeypatch.setattr("pixelq.agents.runs.replay_files.BLOCK_BYTES", 2**19)
    config = dataclasses.replace(TINY, encoder="nature", train_every=30, prioritized=True, replay_capacity=450)
    trained = Trained(env, config, num_envs=3, protocol=protocol)
    options = {"evaluate_every": 500, "evaluation_episodes": 1, "checkpoint_every": 150, "log_every": 100}
    assert trained.train(tmp_path / "whole", 1_000, **options) is not None
    for kill_at in (200, 120):
        assert trained.train(tmp_path / "killed", 1_000, kill_at=kill_at, **options) is None
    agent = trained.train(tmp_path / "killed", 1_000, **options)
    assert agent is not None
    assert agent.episodes > 3
    assert_same(tmp_path / "whole", tmp_path / "killed")
    assert len(list((tmp_path / "whole" / "checkpoints" / "replay").iterdir())) > 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "protocol", "frame_stack"),
    [("ALE/Pong-v5", SHORT, 1), pytest.param("ALE/Breakout-v5", "nature", 3, marks=pytest.mark.slow)],
)
def test_a_run_with_memory_in_a_flickering_game_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: str, protocol: Protocol | str, frame_stack: int
) -> None:
    monkeypatch.setattr("pixelq.envs.anchors.ANCHOR_EVERY", 120)
    fields = MEMORY | {"frame_stack": frame_stack}
    config = dataclasses.replace(TINY, encoder="der", train_every=40, replay_capacity=600, **fields)
    trained = Trained(env, config, protocol=protocol, atari={"frame_stack": frame_stack, "flicker": 0.5})
    options = {"evaluate_every": 400, "evaluation_episodes": 1, "checkpoint_every": 150, "log_every": 100}
    assert trained.train(tmp_path / "whole", 800, **options) is not None
    for kill_at in (200, 120):
        assert trained.train(tmp_path / "killed", 800, kill_at=kill_at, **options) is None
    agent = trained.train(tmp_path / "killed", 800, **options)
    assert agent is not None
    assert agent.protocol is not None
    assert agent.protocol.endswith("+flicker=0.5")
    assert agent.episodes > 3
    assert_same(tmp_path / "whole", tmp_path / "killed")
    assert column(tmp_path / "whole" / "metrics.csv", "q_discrepancy")[0] > 0


# --- what cannot be put back, and what may change ---------------------------------------------------------------------


def test_environments_that_cannot_be_put_back_begin_new_episodes(tmp_path: Path) -> None:
    """Gymnasium's own vector environments keep no state: the run goes on, and says that it is not the same."""
    envs = gymnasium.make_vec("CartPole-v1", 2)
    agent = DQN(envs.single_observation_space, envs.single_action_space, TINY, device="cpu", seed=5)
    agent.learn(envs, 300, tmp_path / "run", **OPTIONS)
    loaded = DQN.load(tmp_path / "run" / "checkpoints" / "latest", "cpu")
    loaded.learn(envs, 200, tmp_path / "run", resume=True, **OPTIONS)
    assert loaded.replay is not None
    # The ring was put back; the step that began anew is in it as the end of the episodes before.
    assert loaded.replay.time * 2 > 500
    assert loaded.updates == (loaded.step - TINY.learning_starts) // TINY.train_every
    resumed = json.loads((tmp_path / "run" / "config.json").read_text())["resumed"]
    assert [(entry["step"], entry["exact"]) for entry in resumed] == [(agent.step, False)]
    assert "VectorEnv cannot be restored" in resumed[0]["why_not"]


class Clock(gymnasium.Env[Any, Any]):
    """Shows a number that no seed determines."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(2)
    calls = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.age = -1
        return self.step(0)[0], {}

    def step(self, action: Any) -> Any:
        Clock.calls += 1
        self.age += 1
        return np.full(2, np.sin(Clock.calls), np.float32), 0.0, self.age == 20, False, {}


gymnasium.register("tests/Clock-v0", lambda **_: Clock())


def test_environments_that_no_seed_determines_are_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = Trained(env="tests/Clock-v0")
    assert trained.train(tmp_path / "run", 400, kill_at=120) is None
    assert trained.train(tmp_path / "run", 400, progress=True) is not None
    (entry,) = json.loads((tmp_path / "run" / "config.json").read_text())["resumed"]
    assert entry["exact"] is False
    assert "did not play the same again" in entry["why_not"]
    assert "but not exactly (new episodes: 'tests/Clock-v0' did not play the same again" in capsys.readouterr().err


@pytest.mark.slow
def test_another_number_of_threads_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a number that is chosen stays
    trained = Trained()
    assert trained.train(tmp_path / "run", 300, kill_at=120) is None
    torch.set_num_threads(2)
    try:
        assert trained.train(tmp_path / "run", 300) is not None
    finally:
        torch.set_num_threads(1)
    (entry,) = json.loads((tmp_path / "run" / "config.json").read_text())["resumed"]
    assert (entry["exact"], entry["why_not"]) == (False, "threads was 1 and is 2")


@pytest.mark.slow
def test_a_gpu_goes_on_exactly_only_with_deterministic_algorithms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained()
    for is_deterministic in (False, True):
        same = {"device": "a GPU", "PyTorch": "9.9", "deterministic": is_deterministic, "variables": {}}
        for module in ("runs.machine", "training.resume"):
            monkeypatch.setattr(f"pixelq.agents.{module}.arithmetic", lambda _, same=same: same)
        out = tmp_path / str(is_deterministic)
        assert trained.train(out, 300, kill_at=120) is None
        assert trained.train(out, 300) is not None
        (entry,) = json.loads((out / "config.json").read_text())["resumed"]
        assert entry["exact"] is is_deterministic
        assert entry["why_not"] == (
            None if is_deterministic else "a GPU repeats its sums only with deterministic algorithms"
        )


def test_more_steps_give_the_same_weights(tmp_path: Path) -> None:
    """A run of 300 steps that goes on to 500 learns what a run of 500 does; it has one more evaluation and row."""
    trained = Trained()
    assert trained.train(tmp_path / "whole", 500) is not None
    assert trained.train(tmp_path / "longer", 300) is not None
    assert trained.train(tmp_path / "longer", 500) is not None
    ours, theirs = contents(tmp_path / "whole"), contents(tmp_path / "longer")
    last = max(name.split("/")[1] for name in ours if name.startswith("checkpoints/step_"))
    for file in ("network.safetensors", "learner.safetensors", "agent.json", "rows.zst"):
        assert ours[f"checkpoints/{last}/{file}"] == theirs[f"checkpoints/{last}/{file}"], file


def test_a_table_of_a_version_with_fewer_columns_goes_on_with_all(tmp_path: Path) -> None:
    trained = Trained()
    assert trained.train(tmp_path / "run", 300) is not None
    path = tmp_path / "run" / "metrics.csv"
    before = path.read_text().splitlines()
    assert before[0].endswith(",restarts,q_discrepancy,return_mean_100")
    older = [line.rpartition(",")[0] for line in before]
    path.write_text("".join(line + "\n" for line in older))
    assert trained.train(tmp_path / "run", 500) is not None
    header, *after = path.read_text().splitlines()
    assert header == before[0]
    # The last row, of the first end, is within the interval that went on.
    assert after[: len(before) - 2] == [line + "," for line in older[1:-1]]
    assert not after[-1].endswith(",")
    assert {line.count(",") for line in after} == {before[0].count(",")}
    assert [int(row["step"]) for row in read_run(tmp_path / "run").metrics][-1] == 500


def test_a_run_is_resumed_with_environments_like_its_own(tmp_path: Path) -> None:
    trained = Trained()
    agent = trained.train(tmp_path / "run", 300)
    assert agent is not None
    before = contents(tmp_path / "run")
    with pytest.raises(InvalidCheckpoint, match="does not fit this run: num_envs must be 3, got 2"):
        agent.learn(trained.envs(0, num_envs=3), 10, tmp_path / "run", resume=True)
    with pytest.raises(InvalidRun, match="no run in"):
        agent.learn(trained.envs(0), 10, tmp_path / "other", resume=True)
    loaded = DQN.load(tmp_path / "run", "cpu")
    loaded.step = 7
    with pytest.raises(InvalidCheckpoint, match=r"at step 7, but its run has come further; load the agent from"):
        loaded.learn(trained.envs(0), 10, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before
    assert not (tmp_path / "other").exists()


def test_an_evaluation_that_was_cut_off_is_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained()
    assert trained.train(tmp_path / "whole", 500) is not None

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("pixelq.agents.training.recorder.evaluate", killed)
        assert trained.train(tmp_path / "killed", 500) is None
    assert newest_checkpoint(tmp_path / "killed" / "checkpoints", pytest.fail).name == "step_0000000230"  # type: ignore[union-attr]
    # Then one is whole, but the link to the best was not made.
    with monkeypatch.context() as patched:
        patched.setattr("pixelq.agents.runs.checkpoints.RunCheckpoints.point", killed)
        assert trained.train(tmp_path / "killed", 500) is None
    assert trained.train(tmp_path / "killed", 500) is not None
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_putting_games_back_is_no_time_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, set_state = Trained(), GymnasiumVec.set_state
    assert trained.train(tmp_path / "run", 300, kill_at=120) is None

    def slow_set_state(self: GymnasiumVec, state: Any) -> Any:
        time.sleep(3.0)
        return set_state(self, state)

    monkeypatch.setattr(GymnasiumVec, "set_state", slow_set_state)
    assert trained.train(tmp_path / "run", 300) is not None
    assert column(tmp_path / "run" / "metrics.csv", "wall_seconds")[-1] < 3.0
    assert all(speed > 25 for speed in column(tmp_path / "run" / "metrics.csv", "steps_per_second"))


# --- the replay alone -------------------------------------------------------------------------------------------------


@settings(max_examples=examples(40), deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 60),
    st.integers(1, 2_000),
    st.sampled_from(["plays on", "is cut", "is abandoned"]),
)
@example(1, 1, 3, False, 18, 1, "is cut")
@example(2, 1, 3, False, 18, 1, "is abandoned")
def test_a_replay_from_its_files_is_the_replay(
    tmp_path_factory: pytest.TempPathFactory,
    num_envs: int,
    frame_stack: int,
    n_step: int,
    prioritized: bool,
    steps: int,
    block_bytes: int,
    then: str,
) -> None:
    """Read back after any number of steps, with blocks of any size written at several times, it goes on the same.

    That also holds if the newest row is marked as truncated after it was written to a file.
    """
    folder = tmp_path_factory.mktemp("replay")

    def make() -> Replay:
        return Replay(
            (frame_stack, 3),
            np.dtype(np.uint8),
            capacity=25 * num_envs,
            num_envs=num_envs,
            frame_stack=frame_stack,
            n_step=n_step,
            prioritized=prioritized,
            seed=3,
        )

    rng = np.random.default_rng(steps)

    def play(replays: list[Replay], steps: int) -> None:
        for _ in range(steps):
            obs = rng.integers(256, size=(num_envs, frame_stack, 3), dtype=np.uint8)
            ended = rng.random((2, num_envs)) < 0.15
            outcome = rng.integers(5, size=num_envs), rng.normal(size=num_envs), ended[0], ended[1] & ~ended[0]
            for replay in replays:
                replay.add(obs, *outcome)

    def draw(replay: Replay) -> list[torch.Tensor]:
        batch = replay.sample(6)
        replay.update_priorities(batch.row, batch.obs.float().mean((1, 2)) + batch.reward.abs())
        return [part for part in batch if part is not None]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pixelq.agents.runs.replay_files.BLOCK_BYTES", block_bytes)
        replay = make()
        files = ReplayFiles(folder, replay.ring)
        for part in (steps // 3, steps - steps // 3):
            play([replay], part)
            if len(replay):
                draw(replay)
            blocks, rows = files.write()
            if part == steps // 3 and then == "is cut":
                replay.cut(np.zeros((num_envs, frame_stack, 3), np.uint8))
            elif part == steps // 3 and then == "is abandoned":
                replay.abandon(np.arange(num_envs) == 0)
        checkpoint = folder / "step_0000000001"
        replace_folder(checkpoint, {ROWS: rows}, blocks)
        again = make()
        ReplayFiles(folder, again.ring).read(checkpoint, replay.time)
        again.load_state(replay.state())
    for _ in range(3):
        assert len(again) == len(replay)
        if len(replay):
            for one, other in zip(draw(replay), draw(again), strict=True):
                assert torch.equal(one, other)
        play([replay, again], 9)
    oldest = max(0, replay.time - replay.length)
    one, other = (each.ring.read(oldest, replay.time) for each in (replay, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
