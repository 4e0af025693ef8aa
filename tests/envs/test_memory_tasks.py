"""The T-maze and the repetition of earlier symbols, whose optimal returns are known."""

import warnings
from collections import deque

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from pixelq.envs import InvalidEnv, RepeatPrevious, TMaze, make_filmed, make_vec

NORTH, EAST, SOUTH, WEST = range(4)
UP, DOWN, CORRIDOR, JUNCTION = np.eye(4, dtype=np.float32)
IDS = ["pixelq/TMaze-v0", "pixelq/RepeatPrevious-v0"]


def play(env, seed, policy):
    """The return, the length and the last two flags of one episode."""
    observation, _ = env.reset(seed=seed)
    total, steps, terminated, truncated = 0.0, 0, False, False
    while not (terminated or truncated):
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        total, steps = total + reward, steps + 1
    return total, steps, terminated, truncated


class Remembering:
    """Goes to the junction and turns as the cue said."""

    def __init__(self):
        self.turn = None

    def __call__(self, observation):
        if observation[:2].any():
            self.turn = NORTH if observation[0] else SOUTH
        return self.turn if observation[3] else EAST


def northward(observation):
    """Without memory."""
    return NORTH if observation[3] else EAST


def seed_of(cue, length=5):
    """A seed whose episode starts with that cue."""
    return next(seed for seed in range(100) if (TMaze(length).reset(seed=seed)[0] == cue).all())


@given(st.integers(1, 60), st.integers(0, 2**31))
def test_the_optimal_return_of_the_maze_is_four(length, seed):
    assert play(TMaze(length), seed, Remembering()) == (4.0, length + 1, True, False)


def test_default_length():
    assert play(TMaze(), 0, Remembering()) == (4.0, 51, True, False)


def test_without_memory_the_maze_gives_half():
    returns = [play(TMaze(4), seed, northward)[:2] for seed in range(400)]
    assert set(returns) == {(4.0, 5), (-0.1, 5)}
    assert np.mean([total for total, _ in returns]) == pytest.approx(1.95, abs=4 * 2.05 / 20)  # four standard errors


@pytest.mark.parametrize(("cue", "right", "wrong"), [(UP, NORTH, SOUTH), (DOWN, SOUTH, NORTH)])
def test_the_maze_by_hand(cue, right, wrong):
    steps = [
        (NORTH, CORRIDOR, -0.1),  # the cue is seen once
        (WEST, CORRIDOR, -0.1),  # a wall
        (EAST, CORRIDOR, 0.0),
        (WEST, CORRIDOR, -0.1),  # to the first cell, where it sees corridor
        (SOUTH, CORRIDOR, -0.1),
        *[(EAST, CORRIDOR, 0.0)] * 4,
        (EAST, JUNCTION, 0.0),
        (EAST, JUNCTION, -0.1),
        (WEST, CORRIDOR, -0.1),
        (EAST, JUNCTION, 0.0),
    ]
    for turn, outcome in ((right, 4.0), (wrong, -0.1)):
        env = TMaze(length=5)
        observation, info = env.reset(seed=seed_of(cue))
        np.testing.assert_array_equal(observation, cue, strict=True)
        assert info == {}
        for action, seen, paid in steps:
            observation, *others = env.step(action)
            np.testing.assert_array_equal(observation, seen, strict=True)
            assert others == [paid, False, False, {}]
        assert env.step(turn)[1:] == (outcome, True, False, {})


@given(st.integers(1, 6), st.integers(0, 99), st.lists(st.integers(0, 3), min_size=18, max_size=18))
def test_the_maze_equals_a_walk(length, seed, actions):
    env = TMaze(length)
    is_up = bool(env.reset(seed=seed)[0][0])
    cell = 0
    for count, action in enumerate(actions[: 3 * length], start=1):
        at_junction = cell == length
        moved = min(max(cell + {EAST: 1, WEST: -1}.get(action, 0), 0), length)
        ends = at_junction and action in (NORTH, SOUTH)
        reward = (4.0 if action == (NORTH if is_up else SOUTH) else -0.1) if ends else 0.0 if moved > cell else -0.1
        observation, *others = env.step(action)
        assert others == [reward, ends, not ends and count == 3 * length, {}]
        np.testing.assert_array_equal(observation, JUNCTION if moved == length else CORRIDOR)
        cell = moved
        if ends:
            return


def test_the_maze_is_truncated_in_time_but_not_when_it_was_solved_in_time():
    total, *others = play(TMaze(4), 0, lambda observation: WEST)
    assert total == pytest.approx(-1.2)
    assert others == [12, False, True]
    env = TMaze(1)
    env.reset(seed=0)
    env.step(NORTH)
    env.step(EAST)
    assert env.step(NORTH)[2:4] == (True, False)  # the third step


class Repeating:
    """Names what was shown `delay` steps before; until then 0."""

    def __init__(self, delay):
        self.seen = deque(maxlen=delay + 1)

    def __call__(self, observation):
        self.seen.append(int(observation.argmax()))
        return self.seen[0] if len(self.seen) == self.seen.maxlen else 0


@given(st.integers(2, 9), st.integers(0, 12), st.integers(1, 40), st.integers(0, 2**31))
def test_the_optimal_return_of_repeating_is_one_for_each_answer(num_values, delay, answers, seed):
    env = RepeatPrevious(num_values, delay, delay + answers)
    total, *others = play(env, seed, Repeating(delay))
    assert total == answers
    assert others == [delay + answers, True, False]


@given(st.integers(2, 5), st.integers(0, 6), st.integers(1, 20), st.integers(0, 99), st.data())
def test_every_answer_is_judged_by_the_symbol_of_so_many_steps_before(num_values, delay, answers, seed, data):
    env = RepeatPrevious(num_values, delay, delay + answers)
    symbols = [env.reset(seed=seed)[0].argmax()]
    for t in range(delay + answers):
        action = data.draw(st.integers(0, num_values - 1))
        observation, reward, terminated, truncated, info = env.step(action)
        expected = 0.0
        if t >= delay:
            expected = 1.0 if action == symbols[t - delay] else -1 / (num_values - 1)
        assert reward == pytest.approx(expected, abs=1e-15)
        assert (terminated, truncated, info) == (t == delay + answers - 1, False, {})
        symbols.append(observation.argmax())
        np.testing.assert_array_equal(observation, np.eye(num_values, dtype=np.float32)[symbols[-1]], strict=True)


@pytest.mark.parametrize("policy", [lambda observation: 2, lambda observation: int(observation.argmax())])
def test_without_memory_repeating_gives_nothing(policy):
    returns = [play(RepeatPrevious(), seed, policy)[0] for seed in range(400)]
    deviation = np.sqrt(56 / 3)  # of the sum of 56 answers, of which each is 1 or −1/3
    assert np.std(returns) == pytest.approx(deviation, rel=0.2)
    assert np.mean(returns) == pytest.approx(0.0, abs=4 * deviation / 20)  # four standard errors


def test_symbols_are_uniform_and_decided_by_the_seed():
    env = RepeatPrevious(num_values=5, length=2000)
    shown = []
    for seed in (3, 3, 4):
        symbols = [env.reset(seed=seed)[0].argmax()] + [env.step(0)[0].argmax() for _ in range(2000)]
        shown.append(symbols)
    assert shown[0] == shown[1] != shown[2]
    assert np.abs(np.bincount(shown[0], minlength=5) / 2001 - 0.2).max() < 4 * np.sqrt(0.16 / 2001)


def test_cues_are_uniform_and_decided_by_the_seed():
    env = TMaze()
    cues = [env.reset(seed=seed)[0][0] for seed in (3, None, None, None, None, 3, None, None, None, None)]
    assert cues[:5] == cues[5:]
    assert np.mean([env.reset()[0][0] for _ in range(400)]) == pytest.approx(0.5, abs=0.1)  # four standard errors


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_accepts_it(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(env_id, render_mode="rgb_array").unwrapped, skip_close_check=True)


@pytest.mark.parametrize(("env_id", "size", "best", "length"), [(IDS[0], 4, 4.0, 51), (IDS[1], 4, 56.0, 64)])
def test_as_a_vector_environment(env_id, size, best, length):
    envs = make_vec(env_id, 6, seed=1)
    assert envs.single_observation_space == Box(0, 1, (size,), np.float32)
    assert envs.single_action_space == Discrete(size)
    policies = [Remembering() if best == 4.0 else Repeating(8) for _ in range(6)]
    observations, _ = envs.reset()
    assert len(set(observations.argmax(1).tolist())) > 1
    total = np.zeros(6)
    for step in range(1, length + 1):
        actions = np.array([policy(observation) for policy, observation in zip(policies, observations, strict=True)])
        observations, rewards, terminated, truncated, _ = envs.step(actions)
        total += rewards
        assert terminated.all() == terminated.any() == (step == length)
        assert not truncated.any()
    np.testing.assert_allclose(total, best, rtol=1e-6)


@pytest.mark.parametrize("env_id", IDS)
def test_goes_on_exactly_from_the_middle_of_an_episode(env_id):
    envs, others = make_vec(env_id, 3, 1), make_vec(env_id, 3, 2)
    shown, rng = envs.reset()[0], np.random.default_rng(0)
    for _ in range(99):
        shown = envs.step(rng.integers(0, 4, 3))[0]
    np.testing.assert_array_equal(others.set_state(envs.get_state()), shown)
    for actions in rng.integers(0, 4, (120, 3)):
        for one, other in zip(envs.step(actions)[:4], others.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: TMaze(0), "length must be an integer of at least 1, got 0"),
        (lambda: TMaze(2.5), "length must be an integer of at least 1, got 2.5"),
        (lambda: TMaze(render_mode="human"), "render_mode must be None or 'rgb_array', got 'human'"),
        (lambda: RepeatPrevious(num_values=1), "num_values must be an integer of at least 2, got 1"),
        (lambda: RepeatPrevious(delay=-1), "delay must be an integer of at least 0, got -1"),
        (lambda: RepeatPrevious(length=0), "length must be an integer of at least 1, got 0"),
        (lambda: RepeatPrevious(4, 8, 8), "length must be greater than delay, which is 8, got 8"),
        (lambda: RepeatPrevious(render_mode="ansi"), "render_mode must be None or 'rgb_array', got 'ansi'"),
    ],
)
def test_what_cannot_be_is_refused(make, sentence):
    with pytest.raises(InvalidEnv) as caught:
        make()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("cue", "goal"), [(UP, 0), (DOWN, 2)])
def test_picture_of_the_maze(cue, goal):
    env = TMaze(5, render_mode="rgb_array")
    env.reset(seed=seed_of(cue))
    env.step(EAST)
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((48, 96, 3), np.uint8)
    cells = picture[8::16, 8::16]
    np.testing.assert_array_equal(picture, cells.repeat(16, 0).repeat(16, 1))
    assert np.argwhere((cells == 255).all(-1)).tolist() == [[1, 1]]
    assert np.argwhere((cells == (0, 160, 0)).all(-1)).tolist() == [[goal, 5]]
    assert (cells > 0).any(-1).sum() == 8


def test_picture_of_repeating():
    film = make_filmed("pixelq/RepeatPrevious-v0", seed=0)
    observation = film.reset()[0][0]
    assert film.frame().shape == (32, 64, 3)
    first = symbol = int(observation.argmax())
    for t in range(10):
        cells = film.frame()[8::16, 8::16]
        assert np.argwhere((cells[0] == 255).all(-1)).tolist() == [[symbol]]
        below = np.argwhere(cells[1].any(-1)).tolist()
        assert below == ([[first]] if t else [])
        if t:
            expected = {8: (64, 64, 64), 9: (0, 160, 0)}.get(t)
            assert expected is None or tuple(cells[1, first]) == expected
        symbol = int(film.step(np.array([first]))[0][0].argmax())
