"""Catch, whose optimal return is known."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from pixelq.envs import Catch, InvalidEnv, make_vec


def play(env, seed, policy):
    """The return and the length of one episode."""
    observation, _ = env.reset(seed=seed)
    total, steps, done = 0.0, 0, False
    while not done:
        observation, reward, done, truncated, _ = env.step(policy(observation))
        assert not truncated
        total, steps = total + reward, steps + 1
    return total, steps


def follow(observation):
    """The optimal policy; the ball is the topmost pixel and the paddle the bottommost."""
    rows, columns = np.nonzero(observation[0])
    return int(np.sign(columns[rows.argmin()] - columns[rows.argmax()])) + 1


def test_observations_by_hand():
    env = Catch(rows=4, columns=3)
    observation, _ = env.reset(seed=0)
    ball = int(np.flatnonzero(observation[0, 0])[0])
    for step, (action, paddle) in enumerate([(0, 0), (0, 0), (2, 1)], start=1):  # left, left into the wall, right
        expected = np.zeros((1, 4, 3), np.uint8)
        expected[0, step, ball] = expected[0, 3, paddle] = 255
        observation, reward, terminated, truncated, _ = env.step(action)
        np.testing.assert_array_equal(observation, expected)
        assert (terminated, truncated) == (step == 3, False)
        assert reward == (0 if step < 3 else 1 if ball == 1 else -1)


@given(st.integers(2, 12), st.data())
def test_the_optimal_return_is_one(rows, data):
    env = Catch(rows, data.draw(st.integers(1, 2 * rows - 1)))
    assert play(env, data.draw(st.integers(0, 2**31)), follow) == (1.0, rows - 1)


def test_standing_still_catches_one_column_in_five():
    env = Catch()
    returns = [play(env, seed, lambda observation: 1)[0] for seed in range(500)]
    assert set(returns) == {-1.0, 1.0}
    assert np.mean(returns) == pytest.approx(2 / 5 - 1, abs=0.1)  # three standard errors


def test_seed_decides_the_columns():
    env, columns = Catch(), []
    for seed in (3, 3, None, None, None, 3, None, None, None):
        observation, _ = env.reset(seed=seed)
        columns.append(int(np.flatnonzero(observation[0, 0])[0]))
    assert columns[1:5] == columns[5:]
    assert columns[0] == columns[1]
    drawn = [int(np.flatnonzero(env.reset()[0][0, 0])[0]) for _ in range(300)]
    assert np.bincount(drawn, minlength=5).min() > 30


def test_gymnasium_accepts_it():
    check_env(gymnasium.make("pixelq/Catch-v0", render_mode="rgb_array").unwrapped, skip_close_check=True)


def test_as_a_vector_environment():
    envs = make_vec("pixelq/Catch-v0", 8, seed=0)
    assert envs.single_observation_space == gymnasium.spaces.Box(0, 255, (1, 10, 5), np.uint8)
    observations, _ = envs.reset()
    assert len(set(observations[:, 0, 0].argmax(-1).tolist())) > 1
    for step in range(1, 21):
        observations, rewards, terminated, _, _ = envs.step(np.array([follow(o) for o in observations]))
        assert terminated.tolist() == [step in (9, 19)] * 8
        assert rewards.tolist() == [float(step in (9, 19))] * 8


@pytest.mark.parametrize(
    ("rows", "columns", "sentence"),
    [
        (1, 1, "rows must be at least 2, got 1"),
        (3, 6, "columns must be in [1, 5] (at most 2 · rows − 1), got 6"),
        (3, 0, "columns must be in [1, 5] (at most 2 · rows − 1), got 0"),
    ],
)
def test_sizes_that_cannot_be_won_are_refused(rows, columns, sentence):
    with pytest.raises(InvalidEnv) as caught:
        Catch(rows, columns)
    assert str(caught.value) == sentence


def test_render_modes():
    with pytest.raises(InvalidEnv, match="render_mode must be None or 'rgb_array', got 'human'"):
        Catch(render_mode="human")
    env = Catch(render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert env.render().shape == (160, 80, 3)
    np.testing.assert_array_equal(env.render()[8::16, 8::16, 1], observation[0])
