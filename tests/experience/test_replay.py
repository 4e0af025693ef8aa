"""Replay against a naive recorder that keeps every observation whole, against hand computation, and its promises."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelq.agents import Batch, InvalidConfig, Replay
from pixelq.agents.experience.ring import Ring
from pixelq.agents.experience.samplers import PrioritizedSampler, UniformSampler
from pixelq.agents.experience.sum_tree import SumTree
from tests.support.cases import examples

Array = NDArray[Any]
Key = tuple[int, int]  # environment, time step


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Environments, a replay for them, and what befalls both."""

    num_envs: int
    n_step: int
    frame_stack: int
    frame_shape: tuple[int, ...]
    dtype: str
    spare_length: int
    spare_rows: int
    steps: int
    gamma: float
    reward_clip: float | None
    p_end: float
    p_life: float
    p_cut: float
    seed: int
    prioritized: bool = False

    @property
    def observation_shape(self) -> tuple[int, ...]:
        return (self.frame_stack, *self.frame_shape) if self.frame_stack > 1 else self.frame_shape

    @property
    def length(self) -> int:
        return self.frame_stack + self.n_step + self.spare_length

    def replay(self) -> Replay:
        return Replay(
            self.observation_shape,
            np.dtype(self.dtype),
            capacity=self.length * self.num_envs + self.spare_rows % self.num_envs,
            num_envs=self.num_envs,
            frame_stack=self.frame_stack,
            n_step=self.n_step,
            gamma=self.gamma,
            reward_clip=self.reward_clip,
            prioritized=self.prioritized,
            seed=self.seed,
        )


SCENARIOS = st.builds(
    Scenario,
    num_envs=st.integers(1, 5),
    n_step=st.integers(1, 5),
    frame_stack=st.integers(1, 4),
    frame_shape=st.sampled_from([(2, 2), (1, 2, 2)]),
    dtype=st.just("uint8"),
    spare_length=st.integers(0, 20),
    spare_rows=st.integers(0, 4),
    steps=st.integers(0, 70),
    gamma=st.sampled_from([0.99, 0.5, 1.0, 0.0]),
    reward_clip=st.sampled_from([None, 1.0, 0.25]),
    p_end=st.sampled_from([0.0, 0.05, 0.2, 0.6]),
    p_life=st.sampled_from([0.0, 0.2]),
    p_cut=st.sampled_from([0.0, 0.05]),
    seed=st.integers(0, 2**31),
    prioritized=st.booleans(),
)
VECTOR_SCENARIOS = st.builds(
    lambda scenario, dtype: dataclasses.replace(scenario, frame_shape=(3,), dtype=dtype),
    SCENARIOS,
    st.sampled_from(["float32", "float64"]),
)


class FakeEnvs:
    """Environments with next-step autoreset; every newest frame holds a number that no other frame holds.

    They write all their observations into one array, as environments may.
    """

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self.scenario, self.rng, self.counter = scenario, rng, 0
        self.stacks = np.zeros((scenario.num_envs, scenario.frame_stack, *scenario.frame_shape), scenario.dtype)
        self.done = np.zeros(scenario.num_envs, bool)

    def _show(self, env: int, first: bool) -> None:
        self.counter += 1
        if self.scenario.dtype == "uint8":
            frame = np.array([self.counter >> shift & 255 for shift in (0, 8, 16, 24)], np.uint8)
        else:
            frame = np.array([self.counter, -self.counter, self.counter / 3])
        stack = self.stacks[env]
        stack[:-1] = 0 if first else stack[1:].copy()
        stack[-1] = frame.reshape(self.scenario.frame_shape)

    def _observations(self) -> Array:
        return self.stacks if self.scenario.frame_stack > 1 else self.stacks[:, 0]

    def reset(self) -> Array:
        for env in range(self.scenario.num_envs):
            self._show(env, first=True)
        self.done[:] = False
        return self._observations()

    def step(self) -> tuple[Array, Array, Array, Array, Array]:
        """Observations, rewards, terminated, truncated, life_lost."""
        rng, num_envs = self.rng, self.scenario.num_envs
        previously_done = self.done
        ends = (rng.random(num_envs) < self.scenario.p_end) & ~previously_done
        kind = rng.integers(5, size=num_envs)
        terminated, truncated = ends & (kind >= 2), ends & (kind <= 2)  # 2 is both
        life_lost = (rng.random(num_envs) < self.scenario.p_life) & ~previously_done & ~ends
        rewards = np.where(previously_done, 0, rng.uniform(-1.5, 1.5, num_envs)).astype(np.float32)
        for env in range(num_envs):
            self._show(env, first=bool(previously_done[env]))
        self.done = ends
        return self._observations(), rewards, terminated, truncated, life_lost


@dataclasses.dataclass
class Row:
    """What one environment showed at one time, and what its step brought."""

    obs: Array
    action: int
    reward: float
    discount_ends: bool
    truncated: bool
    is_final: bool


class Recorder:
    """Everything, in plain lists."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rows: list[list[Row]] = [[] for _ in range(scenario.num_envs)]
        self.keys: dict[int, Key] = {}  # of the number in the newest frame
        self.is_final = [False] * scenario.num_envs

    def add(self, obs: Array, action: Array, reward: Array, terminated: Array, truncated: Array, lost: Array) -> None:
        for env, rows in enumerate(self.rows):
            kept = obs[env].copy() if obs.dtype == np.uint8 else obs[env].astype(np.float32)
            self.keys[number(kept, self.scenario)] = env, len(rows)
            ends = bool(terminated[env] or lost[env])
            rows.append(Row(kept, action[env], reward[env], ends, truncated[env], self.is_final[env]))
            self.is_final[env] = bool(terminated[env] or truncated[env])

    def cut(self, obs: Array) -> None:
        for env, rows in enumerate(self.rows):
            if rows and not self.is_final[env]:
                rows[-1].truncated = True
                self.is_final[env] = True
        if self.rows[0]:
            nothing = np.zeros(len(self.rows))
            self.add(obs, nothing, nothing, nothing, nothing, nothing)

    def samplable(self) -> set[Key]:
        """Rows that are no final observation, with a whole window of frames before and n rows after them."""
        s, time = self.scenario, len(self.rows[0])
        oldest = time - s.length
        return {
            (env, t)
            for env, rows in enumerate(self.rows)
            for t in range(time - s.n_step)
            if not rows[t].is_final and (oldest <= 0 or t - (s.frame_stack - 1) >= oldest)
        }

    def transition(self, key: Key) -> tuple[Array, int, float, float, Array]:
        """Observation, action, n-step reward, discount, next observation, written from the definition."""
        env, start = key
        rows, clip = self.rows[env], self.scenario.reward_clip
        total, discount = 0.0, 1.0
        for t in range(start, start + self.scenario.n_step):
            reward = rows[t].reward if clip is None else min(max(rows[t].reward, -clip), clip)
            total += discount * reward
            discount *= self.scenario.gamma
            if rows[t].discount_ends:
                discount = 0.0
            if rows[t].discount_ends or rows[t].truncated:
                break
        return rows[start].obs, rows[start].action, total, discount, rows[t + 1].obs

    def check(self, batch: Batch) -> list[Key]:
        """Asserts that the transitions are the recorded ones; returns which they are."""
        assert [t.dtype for t in batch[1:4]] == [torch.int64, torch.float32, torch.float32]
        obs, action, reward, discount, next_obs = (tensor.numpy() for tensor in batch[:5])
        keys = [self.keys[number(observation, self.scenario)] for observation in obs]
        for i, key in enumerate(keys):
            expected = self.transition(key)
            assert obs.dtype == next_obs.dtype == expected[0].dtype
            assert obs[i].tobytes() == expected[0].tobytes(), f"observation of {key}"
            assert action[i] == expected[1], f"action of {key}"
            assert abs(reward[i] - expected[2]) < 1e-6, f"reward of {key}"
            assert abs(discount[i] - expected[3]) < 1e-6, f"discount of {key}"
            assert next_obs[i].tobytes() == expected[4].tobytes(), f"next observation of {key}"
        return keys


def number(observation: Array, scenario: Scenario) -> int:
    """What is written in an observation's newest frame."""
    frame = (observation[-1] if scenario.frame_stack > 1 else observation).ravel()
    return int(np.dot(frame, [1, 256, 65536, 1 << 24]) if scenario.dtype == "uint8" else frame[0])


def samplable_rows(replay: Replay) -> torch.Tensor:
    """The sampler's rows, oldest first; where there are priorities, exactly they have one."""
    sampler = replay.sampler
    if not isinstance(sampler, PrioritizedSampler):
        assert isinstance(sampler, UniformSampler)
        return sampler.oldest(len(sampler))
    rows = sampler.uniform_sampler.oldest(len(sampler))
    assert torch.equal(rows.sort().values, sampler.tree.leaves.nonzero()[:, 0])
    return rows


def everything_samplable(replay: Replay) -> Batch:
    return replay.gather(samplable_rows(replay))


def play(scenario: Scenario) -> Iterator[tuple[Replay, Recorder]]:
    """Plays the scenario, with a stop now and then and at the end."""
    rng = np.random.default_rng(scenario.seed)
    envs, replay, recorder = FakeEnvs(scenario, rng), scenario.replay(), Recorder(scenario)
    obs = envs.reset()
    for _ in range(scenario.steps):
        if rng.random() < scenario.p_cut:
            if rng.random() < 0.5:  # the cut may come when the row has begun
                replay.observe(obs)
            replay.cut(obs)
            recorder.cut(obs)
            obs = envs.reset()
        action, shown = rng.integers(18, size=scenario.num_envs), obs.copy()
        replay.observe(shown)
        assert torch.equal(replay.latest(), torch.as_tensor(shown, dtype=replay.ring.frames.dtype))
        begun = everything_samplable(replay) if len(replay) else None
        obs, reward, terminated, truncated, life_lost = envs.step()
        replay.complete(action, reward, terminated, truncated, life_lost if scenario.p_life else None)
        recorder.add(shown, action, reward, terminated, truncated, life_lost)
        if begun is not None:  # with the rows begun, all could be drawn that can be once they are complete
            assert set(recorder.check(begun)) == recorder.samplable()
        shown[:] = 77
        if rng.random() < 0.1:
            yield replay, recorder
    yield replay, recorder


def assert_replay_is_the_recorder(scenario: Scenario) -> None:
    for replay, recorder in play(scenario):
        expected = recorder.samplable()
        assert len(replay) == len(expected)
        keys = recorder.check(everything_samplable(replay))
        assert len(keys) == len(set(keys))
        assert set(keys) == expected
        if expected:
            batch = replay.sample(8)
            recorder.check(batch)
            replay.update_priorities(batch.row, torch.arange(8.0))
        else:
            with pytest.raises(ValueError, match=f"replay is empty: a transition needs {scenario.n_step} steps"):
                replay.sample(8)


@settings(max_examples=examples(400), deadline=None)
@given(SCENARIOS)
def test_every_samplable_transition_of_images_is_the_recorded_one(scenario: Scenario) -> None:
    assert_replay_is_the_recorder(scenario)


@settings(max_examples=examples(100), deadline=None)
@given(VECTOR_SCENARIOS)
def test_every_samplable_transition_of_vectors_is_the_recorded_one(scenario: Scenario) -> None:
    assert_replay_is_the_recorder(scenario)


def transitions_of(story: str, n_step: int, frame_stack: int, capacity: int = 100) -> dict[int, tuple[Any, ...]]:
    """One environment's transitions by the number in their newest frame; γ is ½.

    Row k shows the number k and its step is worth k. The story has a letter for each step: `.` goes on, `L` loses a
    life, `T` terminates, `X` is truncated, and the letter after an end is the step that only resets, worth nothing.
    """
    shape = (frame_stack, 1) if frame_stack > 1 else (1,)
    replay = Replay(
        shape, np.dtype(np.uint8), capacity=capacity, num_envs=1, frame_stack=frame_stack, n_step=n_step, gamma=0.5
    )
    done = False
    for k, letter in enumerate(story, start=1):
        reward = np.array([0 if done else k])
        flags = (np.array([letter == kind]) for kind in "TXL")
        replay.add(np.full((1, *shape), k, np.uint8), np.array([k % 3]), reward, *flags)
        done = letter in "TX"
    batch = everything_samplable(replay)
    columns = (tensor.flatten(1).tolist() if tensor.ndim > 1 else tensor.tolist() for tensor in batch[:5])
    return {transition[0][-1]: transition for transition in zip(*columns, strict=True)}


def test_truncation_bootstraps_from_the_final_observation_by_hand() -> None:
    # Row 5 is the final observation; the new episode starts at row 6.
    assert transitions_of("...X.....", n_step=3, frame_stack=1) == {
        1: ([1], 1, 1 + 2 / 2 + 3 / 4, 1 / 8, [4]),
        2: ([2], 2, 2 + 3 / 2 + 4 / 4, 1 / 8, [5]),
        3: ([3], 0, 3 + 4 / 2, 1 / 4, [5]),
        4: ([4], 1, 4, 1 / 2, [5]),
        6: ([6], 0, 6 + 7 / 2 + 8 / 4, 1 / 8, [9]),
    }


@pytest.mark.parametrize(("end", "restart"), [("T", 6), ("L", 5)])
def test_termination_and_a_lost_life_have_discount_zero_by_hand(end: str, restart: int) -> None:
    transitions = transitions_of(f"...{end}.....", n_step=3, frame_stack=1)
    assert {k: t[2:4] for k, t in transitions.items() if k <= 4} == {
        1: (2.75, 1 / 8),
        2: (4.5, 0),
        3: (5, 0),
        4: (4, 0),
    }
    assert min(k for k in transitions if k > 4) == restart
    assert transitions[6][2:] == (11.5, 1 / 8, [9])


def test_stacks_restart_after_a_reset_and_not_after_a_lost_life_by_hand() -> None:
    stacks = {k: (t[0], t[4]) for k, t in transitions_of("..L.X.....", n_step=1, frame_stack=3).items()}
    assert stacks == {
        1: ([0, 0, 1], [0, 1, 2]),
        2: ([0, 1, 2], [1, 2, 3]),
        3: ([1, 2, 3], [2, 3, 4]),
        4: ([2, 3, 4], [3, 4, 5]),
        5: ([3, 4, 5], [4, 5, 6]),
        7: ([0, 0, 7], [0, 7, 8]),
        8: ([0, 7, 8], [7, 8, 9]),
        9: ([7, 8, 9], [8, 9, 10]),
    }


def test_overwritten_windows_are_not_sampled_by_hand() -> None:
    # Rows 5 to 12 remain of 12; a stack of three starts at 7 at the earliest, and two steps follow 10 at the latest.
    assert sorted(transitions_of("." * 12, n_step=2, frame_stack=3, capacity=8)) == [7, 8, 9, 10]


def test_an_episode_of_one_step_follows_another() -> None:
    transitions = transitions_of("T.X.T...", n_step=2, frame_stack=2)
    assert {k: (t[0], t[2], t[3], t[4]) for k, t in transitions.items()} == {
        1: ([0, 1], 1, 0, [1, 2]),
        3: ([0, 3], 3, 1 / 2, [3, 4]),
        5: ([0, 5], 5, 0, [5, 6]),
    }


def test_a_second_training_does_not_continue_the_first_ones_episodes() -> None:
    replay = Replay((2, 1), np.dtype(np.uint8), capacity=40, num_envs=2, frame_stack=2, n_step=2, gamma=0.5)
    no, one = np.zeros(2, bool), np.ones(2)
    replay.cut(np.zeros((2, 2, 1), np.uint8))  # of a replay without rows: nothing
    assert replay.time == 0
    for k in (1, 2):
        ends = np.array([False, k == 2])
        replay.add(np.array([[[0], [k]], [[0], [10 + k]]], np.uint8), one, one, ends, no)
    replay.cut(np.array([[[2], [3]], [[12], [13]]], np.uint8))
    for k in (4, 5, 6):
        replay.add(np.array([[[0], [k]], [[0], [10 + k]]], np.uint8), one, one, no, no)
    obs, _, reward, discount, next_obs, *_ = everything_samplable(replay)
    found = zip(obs.flatten(1).tolist(), reward.tolist(), discount.tolist(), next_obs.flatten(1).tolist(), strict=True)
    assert list(found) == [
        ([0, 1], 1.5, 0.25, [2, 3]),
        ([0, 11], 1.5, 0.0, [12, 13]),
        ([1, 2], 1.0, 0.5, [2, 3]),
        ([11, 12], 1.0, 0.0, [12, 13]),
        ([0, 4], 1.5, 0.25, [5, 6]),
        ([0, 14], 1.5, 0.25, [15, 16]),
    ]


UNIFORM = Scenario(3, 2, 2, (2, 2), "uint8", 46, 0, 137, 0.99, 1.0, 0.15, 0.1, 0.0, 7)


def filled(scenario: Scenario = UNIFORM) -> tuple[Replay, Recorder]:
    *_, last = play(scenario)
    return last


def test_sampling_is_uniform() -> None:
    replay, recorder = filled()
    draws = Counter(key for _ in range(200) for key in recorder.check(replay.sample(150)))
    expected, freedom = 30_000 / len(replay), len(replay) - 1
    assert freedom > 100
    assert set(draws) == recorder.samplable()
    chi_square = sum((count - expected) ** 2 / expected for count in draws.values())
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5  # mean and deviation of χ²; a round robin is too even


@pytest.mark.parametrize("prioritized", [False, True])
def test_samples_depend_on_the_seed_alone(prioritized: bool) -> None:
    torch.manual_seed(0)
    untouched = torch.random.get_rng_state()
    first, second = (filled(dataclasses.replace(UNIFORM, prioritized=prioritized))[0].sample(64) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), untouched)
    for one, two in zip(first, second, strict=True):
        assert (one is None and two is None) or torch.equal(one, two)
    assert (first.weight is not None) == prioritized
    other, _ = filled(dataclasses.replace(UNIFORM, prioritized=prioritized))
    assert isinstance(other.sampler, UniformSampler | PrioritizedSampler)
    assert other.sampler.generator.initial_seed() == UNIFORM.seed
    other.sampler.generator.manual_seed(8)
    assert not torch.equal(other.sample(64).obs, first.obs)


def storage_bytes(thing: Any) -> int:
    """Bytes of every tensor and array that the replay keeps, its sampler's too."""
    total = 0
    for value in vars(thing).values():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, torch.Tensor):
                total += part.untyped_storage().nbytes()
            elif isinstance(part, np.ndarray):
                total += part.nbytes
            elif isinstance(part, Ring | UniformSampler | PrioritizedSampler | SumTree):
                total += storage_bytes(part)
    return total


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("num_envs", [1, 8])
def test_a_million_atari_rows_take_less_than_7_1_gigabytes(num_envs: int, prioritized: bool) -> None:
    options: dict[str, Any] = {"frame_stack": 4, "n_step": 3, "prioritized": prioritized}
    replay = Replay((4, 84, 84), np.dtype(np.uint8), capacity=1000, num_envs=num_envs, **options)
    frame = 84 * 84
    beside = (1 + num_envs) * frame + 16 * num_envs  # the blank frame, and what lies ready to cross to the device
    assert 1000 * frame < replay.nbytes <= 7_100 * 1000 + beside
    assert replay.nbytes <= storage_bytes(replay) <= replay.nbytes + 200  # a few numbers for each environment
    before = storage_bytes(replay)
    obs, no = np.zeros((num_envs, 4, 84, 84), np.uint8), np.zeros(num_envs, bool)
    for _ in range(1000 // num_envs + 9):
        replay.add(obs, np.zeros(num_envs, int), np.zeros(num_envs), no, no)
    replay.sample(4)
    assert storage_bytes(replay) == before
    assert not [value for value in vars(replay).values() if isinstance(value, list | dict)]
    assert not [value for value in vars(replay.sampler).values() if isinstance(value, list | dict)]


def test_rewards_stay_raw_in_the_ring() -> None:
    replay, recorder = filled()
    newest = (replay.time - 1) % replay.length * replay.num_envs
    raw = torch.stack([torch.as_tensor(rows[-1].reward) for rows in recorder.rows])
    assert torch.equal(replay.ring.reward[newest : newest + 3], raw)
    assert replay.ring.reward.abs().max() > 1.0


@pytest.mark.parametrize(("frame_stack", "n_step", "least"), [(1, 1, 8), (4, 3, 28)])
def test_a_capacity_without_room_for_one_transition_is_refused(frame_stack: int, n_step: int, least: int) -> None:
    def make(capacity: int) -> Replay:
        return Replay(
            (frame_stack, 1), np.dtype(np.uint8), capacity=capacity, num_envs=4, frame_stack=frame_stack, n_step=n_step
        )

    message = f"^replay_capacity must be at least {least} with 4 environments, got {least - 1} rows; "
    with pytest.raises(InvalidConfig, match=message):
        make(least - 1)
    replay = make(least)
    obs, no = np.zeros((4, frame_stack, 1), np.uint8), np.zeros(4, bool)
    for _ in range(3 * least):
        replay.add(obs, np.zeros(4, int), np.zeros(4), no, no)
    assert len(replay) == 4


def test_too_much_memory_is_refused_in_one_sentence() -> None:
    with pytest.raises(InvalidConfig, match=r"no memory for a replay of 7070000000\.0 GB, .*; lower replay_cap"):
        Replay((4, 84, 84), np.dtype(np.uint8), capacity=10**15, num_envs=1, frame_stack=4)
