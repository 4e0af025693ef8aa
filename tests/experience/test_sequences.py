"""Sequences of the replay against a naive recorder that keeps every step of every environment in plain lists."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixelq.agents import AgentConfig, InvalidConfig, Replay
from pixelq.agents.experience.batches import Sequences
from pixelq.agents.experience.replay import make_replay
from pixelq.agents.experience.windows import SequenceWindow
from tests.experience.test_replay import SCENARIOS, FakeEnvs, Recorder, Scenario, samplable_rows
from tests.support.cases import examples

STATE_SIZE = 3


@dataclasses.dataclass(frozen=True)
class Sequencing:
    """A scenario of environments, and how sequences are taken from it."""

    scenario: Scenario
    length: int
    period: int
    burn_in: int
    stores: bool
    spare_periods: int

    @property
    def ring_length(self) -> int:
        """Time steps of the ring: at least those with which one sequence is always whole, in whole periods."""
        s = self.scenario
        least = max(s.frame_stack, 2) + s.n_step + self.length
        return (-(-least // self.period) + 1 + self.spare_periods) * self.period

    def replay(self) -> Replay:
        s = self.scenario
        return Replay(
            s.observation_shape,
            np.dtype(s.dtype),
            capacity=self.ring_length * s.num_envs + s.spare_rows % s.num_envs,
            num_envs=s.num_envs,
            frame_stack=s.frame_stack,
            n_step=s.n_step,
            gamma=s.gamma,
            reward_clip=s.reward_clip,
            prioritized=s.prioritized,
            sequences={
                "length": self.length,
                "period": self.period,
                "burn_in": self.burn_in,
                "state_size": STATE_SIZE,
                "stores": self.stores,
            },
            seed=s.seed,
        )


@st.composite
def sequencings(draw: st.DrawFn) -> Sequencing:
    length = draw(st.integers(1, 8))
    return Sequencing(
        draw(SCENARIOS),
        length,
        period=draw(st.integers(1, length)),
        burn_in=draw(st.integers(0, length - 1)),
        stores=draw(st.booleans()),
        spare_periods=draw(st.integers(0, 3)),
    )


class SequenceRecorder(Recorder):
    """Also the states, and what a sequence must hold."""

    def __init__(self, sequencing: Sequencing) -> None:
        super().__init__(sequencing.scenario)
        self.sequencing = sequencing
        self.states: list[torch.Tensor] = []  # [N, 2, H] of each time step

    def starts(self) -> list[tuple[int, int]]:
        """Time step and environment of every sequence that is whole, in the order of writing."""
        s, time = self.scenario, len(self.rows[0])
        behind, ahead = max(s.frame_stack - 1, 1), self.sequencing.length + s.n_step - 1
        oldest = time - self.sequencing.ring_length
        first = oldest + behind if oldest > 0 else 0
        times = [t for t in range(0, time - ahead, self.sequencing.period) if t >= first]
        return [(t, env) for t in times for env in range(s.num_envs)]

    def check(self, batch: Sequences, column: int, time: int, env: int) -> None:  # type: ignore[override]
        """Asserts that a column of a batch is the sequence that starts there."""
        q, rows = self.sequencing, self.rows[env]
        window = q.length + self.scenario.n_step
        learned = q.length - q.burn_in
        segment = batch.segment
        assert segment.obs.shape[0] == window
        for k in range(window):
            row, before = rows[time + k], rows[time + k - 1] if time + k else None
            assert segment.obs[k, column].numpy().tobytes() == row.obs.tobytes()
            starts = before is None or before.is_final
            assert bool(segment.episode_start[k, column]) == starts
            if before is not None:
                assert int(segment.last.action[k, column]) == before.action
                assert float(segment.last.reward[k, column]) == before.reward
        for k in range(learned):
            row, place = rows[time + q.burn_in + k], k * len(batch.segment.state[0]) + column
            assert bool(batch.is_step[k, column]) == (not row.is_final)
            if row.is_final:
                continue
            _, action, reward, discount, next_obs = self.transition((env, time + q.burn_in + k))
            assert int(batch.action[place]) == action
            assert abs(float(batch.reward[place]) - reward) < 1e-6
            assert abs(float(batch.discount[place]) - discount) < 1e-6
            after = segment.obs[q.burn_in + int(batch.next_step[k, column]), column]
            assert after.numpy().tobytes() == next_obs.tobytes()
        state = torch.stack([part[column] for part in segment.state])
        assert torch.equal(state, self.states[time][env] if q.stores else torch.zeros(2, STATE_SIZE))


def play(sequencing: Sequencing) -> Iterator[tuple[Replay, SequenceRecorder]]:
    """Plays the scenario, with a stop now and then and at the end."""
    scenario = sequencing.scenario
    rng = np.random.default_rng(scenario.seed)
    draws = torch.Generator().manual_seed(scenario.seed)
    envs, replay, recorder = FakeEnvs(scenario, rng), sequencing.replay(), SequenceRecorder(sequencing)
    obs = envs.reset()
    for _ in range(scenario.steps):
        state = torch.randn(scenario.num_envs, 2, STATE_SIZE, generator=draws)
        if rng.random() < scenario.p_cut and recorder.rows[0]:
            if rng.random() < 0.5:
                replay.observe(obs, (state[:, 0], state[:, 1]))
            else:  # the row begins with the cut, which knows no state
                state = torch.zeros_like(state)
            replay.cut(obs)
            recorder.cut(obs)
            recorder.states.append(state)
            obs = envs.reset()
            continue
        action, shown = rng.integers(18, size=scenario.num_envs), obs.copy()
        replay.observe(shown, (state[:, 0], state[:, 1]))
        obs, reward, terminated, truncated, life_lost = envs.step()
        replay.complete(action, reward, terminated, truncated, life_lost if scenario.p_life else None)
        recorder.add(shown, action, reward, terminated, truncated, life_lost)
        recorder.states.append(state)
        if rng.random() < 0.1:
            yield replay, recorder
    yield replay, recorder


@settings(max_examples=examples(300), deadline=None)
@given(sequencings())
def test_every_sequence_is_the_recorded_one(sequencing: Sequencing) -> None:
    for replay, recorder in play(sequencing):
        expected = recorder.starts()
        assert len(replay) == len(expected)
        if not expected:
            with pytest.raises(ValueError, match="replay is empty: a sequence needs"):
                replay.sample(8)
            continue
        rows = samplable_rows(replay)
        num_envs, length = sequencing.scenario.num_envs, sequencing.ring_length
        assert rows.tolist() == [t % length * num_envs + env for t, env in expected]
        everything = replay.gather(rows)
        assert isinstance(everything, Sequences)
        for column, (time, env) in enumerate(expected):
            recorder.check(everything, column, time, env)
        batch = replay.sample(8)
        assert batch.row is not None
        known = dict(zip(rows.tolist(), expected, strict=True))
        for column, row in enumerate(batch.row.tolist()):
            recorder.check(batch, column, *known[row])
        replay.update_priorities(batch.row, torch.arange(8.0))


@settings(max_examples=examples(100), deadline=None)
@given(sequencings())
def test_a_replay_of_sequences_goes_on_from_its_state(sequencing: Sequencing) -> None:
    *_, (replay, _) = play(sequencing)
    other = sequencing.replay()
    oldest = max(0, replay.time - replay.length)
    other.ring.write(oldest, replay.ring.read(oldest, replay.time))
    other.load_state(replay.state())
    assert samplable_rows(other).tolist() == samplable_rows(replay).tolist()
    if len(replay):
        for one, same in zip(tensors(replay.sample(6)), tensors(other.sample(6)), strict=True):
            assert torch.equal(one, same)


def tensors(batch: Any) -> list[torch.Tensor]:
    parts = [batch.segment.obs, batch.segment.episode_start, *batch.segment.last, *batch.segment.state]
    return parts + [part for part in batch[2:] if part is not None]


def test_stored_states_take_a_row_for_each_period() -> None:
    config = AgentConfig(lstm=16, replay_capacity=8_000, batch_size=4)
    replay = make_replay((1, 4), np.dtype(np.float32), config, num_envs=2, frame_stack=1, device="cpu", seed=0)  # type: ignore[arg-type]
    assert isinstance(replay.window, SequenceWindow)
    assert replay.window.states.shape == (100, 2, 2, 16)
    zeros = dataclasses.replace(config, sequence_state="zero")
    bare = make_replay((1, 4), np.dtype(np.float32), zeros, num_envs=2, frame_stack=1, device="cpu", seed=0)  # type: ignore[arg-type]
    assert replay.nbytes - bare.nbytes == 100 * 2 * 2 * 16 * 4


@settings(max_examples=examples(50))
@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 3), st.integers(1, 3))
@example(5, 5, 1, 1)
def test_the_smallest_replay_that_is_accepted_holds_a_sequence(
    length: int, period: int, n_step: int, num_envs: int
) -> None:
    sequences = {"length": length, "period": min(period, length), "burn_in": 0, "state_size": 1, "stores": False}

    def make(capacity: int) -> Replay:
        shape, dtype = (1,), np.dtype(np.float32)
        return Replay(shape, dtype, capacity=capacity, num_envs=num_envs, n_step=n_step, sequences=sequences)

    capacity = 1
    while True:
        try:
            replay = make(capacity)
            break
        except InvalidConfig:
            capacity += 1
    no, found = np.zeros(num_envs, bool), []
    for _ in range(6 * (length + n_step + period)):
        replay.add(np.zeros((num_envs, 1), np.float32), np.zeros(num_envs, int), np.zeros(num_envs), no, no)
        found.append(len(replay))
    assert min(found) >= 0
    assert max(found) > 0


def test_a_replay_that_never_holds_a_batch_is_refused() -> None:
    """A window of 2 + 1 + 80 steps is 3 periods of 40; a batch of 5 from 2 environments starts in 3 more."""
    config = AgentConfig(lstm=16, batch_size=5, replay_capacity=6 * 40 * 2)
    make_replay((4,), np.dtype(np.float32), config, num_envs=2, frame_stack=1, device="cpu", seed=0)  # type: ignore[arg-type]
    small = dataclasses.replace(config, replay_capacity=6 * 40 * 2 - 1)
    message = "replay_capacity must be at least 480 with 2 environments and batches of 5 sequences, got 479"
    with pytest.raises(InvalidConfig, match=message):
        make_replay((4,), np.dtype(np.float32), small, num_envs=2, frame_stack=1, device="cpu", seed=0)  # type: ignore[arg-type]


def test_states_that_do_not_fit_into_memory_are_refused_in_a_sentence() -> None:
    config = AgentConfig(lstm=10**12, frame_stack=1, batch_size=2, replay_capacity=800)  # 10 slots of 2 environments
    with pytest.raises(
        InvalidConfig, match=r"no memory for a replay of 160000\.0 GB, .* GB are free; lower replay_capacity or lstm"
    ):
        make_replay((4,), np.dtype(np.float32), config, num_envs=2, frame_stack=1, device="cpu", seed=0)


@settings(max_examples=examples(100), deadline=None)
@given(sequencings(), st.integers(1, 30))
def test_the_history_of_a_sequence_is_what_was_before_it(sequencing: Sequencing, most: int) -> None:
    *_, (replay, recorder) = play(sequencing)
    window, expected = replay.window, recorder.starts()
    if not expected:
        return
    assert isinstance(window, SequenceWindow)
    history = window.history(samplable_rows(replay), most)
    oldest = replay.time - replay.length + window.behind if replay.time > replay.length else 0
    assert not history.state[0].any()
    for column, (time, env) in enumerate(expected):
        learned, rows = time + sequencing.burn_in, recorder.rows[env]
        for k in range(most):
            t = learned - (most - 1) + k
            if t < oldest:
                continue
            is_first = t == oldest or t == 0 or rows[t - 1].is_final
            assert bool(history.episode_start[k, column]) == is_first
            assert history.obs[k, column].numpy().tobytes() == rows[t].obs.tobytes()
