"""Observations of which only a part is seen."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st

from pixelq.envs import InvalidEnv, MaskObservation, make_filmed, make_vec
from pixelq.envs import anchors as anchors_module

ID = "pixelq/CartPoleWithoutVelocities-v0"


class Numbers(gymnasium.Env):
    """Observes n random numbers, of which the k-th is in [k, k + 1]."""

    def __init__(self, shape):
        low = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
        self.observation_space = Box(low, low + 1, dtype=np.float64)
        self.action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action):
        return self._observe(), 0.0, False, False, {}

    def _observe(self):
        return self.observation_space.low + self.np_random.random(self.observation_space.shape)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.permutations(range(n)), st.integers(1, n))))
def test_keeps_the_given_entries_in_the_given_order(drawn):
    size, order, count = drawn
    kept = order[:count]
    masked, plain = MaskObservation(Numbers((size,)), kept), Numbers((size,))
    space = masked.observation_space
    assert (space.shape, space.dtype) == ((count,), np.float64)
    assert space.low.tolist() == kept
    assert space.high.tolist() == [k + 1 for k in kept]
    shown, whole = masked.reset(seed=0)[0], plain.reset(seed=0)[0]
    for _ in range(3):
        np.testing.assert_array_equal(shown, [whole[k] for k in kept], strict=True)
        assert space.contains(shown)
        shown, whole = masked.step(0)[0], plain.step(0)[0]


@pytest.mark.parametrize("indices", [[], [0, 0], [3], [-1], [0.0], [True]])
def test_indices_that_cannot_be(indices):
    with pytest.raises(InvalidEnv) as caught:
        MaskObservation(Numbers((3,)), indices)
    assert str(caught.value) == f"indices must be distinct integers in 0..2, at least one, got {indices}"


def test_observations_that_cannot_be_masked():
    with pytest.raises(InvalidEnv, match=r"^the observation space must be a Box with one axis, got Box"):
        MaskObservation(Numbers((2, 3)), [0])
    with pytest.raises(InvalidEnv, match="with one axis, got Discrete"):
        MaskObservation(gymnasium.make("FrozenLake-v1"), [0])


def test_cartpole_without_velocities_is_cartpole_but_for_what_is_seen():
    envs, whole = make_vec(ID, 3, 5), make_vec("CartPole-v1", 3, 5)
    space = whole.single_observation_space
    assert envs.single_observation_space == Box(space.low[[0, 2]], space.high[[0, 2]], dtype=np.float32)
    np.testing.assert_array_equal(envs.reset()[0], whole.reset()[0][:, [0, 2]], strict=True)
    ended = 0
    for action in np.random.default_rng(0).integers(0, 2, (200, 3)):
        shown, *outcome, _ = envs.step(action)
        everything, *expected, _ = whole.step(action)
        np.testing.assert_array_equal(shown, everything[:, [0, 2]], strict=True)
        np.testing.assert_array_equal(outcome, expected)
        ended += expected[1].sum()
    assert ended > 10


def test_an_episode_takes_at_most_500_steps():
    envs, whole = make_vec(ID, 1, 0), make_vec("CartPole-v1", 1, 0)
    envs.reset()
    state = whole.reset()[0]
    for step in range(1, 501):
        action = (state @ np.array([0.1, 0.5, 1.0, 1.0], np.float32) > 0).astype(np.int64)  # it balances
        state = whole.step(action)[0]
        _, rewards, terminated, truncated, _ = envs.step(action)
        assert (rewards[0], terminated[0], truncated[0]) == (1.0, False, step == 500)


def test_goes_on_exactly_from_any_moment(monkeypatch):
    monkeypatch.setattr(anchors_module, "ANCHOR_EVERY", 40)
    envs, others = make_vec(ID, 3, 1), make_vec(ID, 3, 2)
    shown, rng = envs.reset()[0], np.random.default_rng(0)
    for step in range(150):
        if step % 10 == 3:
            state = envs.get_state()
            np.testing.assert_array_equal(others.set_state(state), shown, strict=True)
        action = rng.integers(0, 2, 3)
        shown, *outcome, _ = envs.step(action)
        if step >= 3:
            again, *expected, _ = others.step(action)
            np.testing.assert_array_equal(shown, again, strict=True)
            np.testing.assert_array_equal(outcome, expected)
    assert envs.get_state()["anchors"].min() >= 1
    with pytest.raises(InvalidEnv, match="did not play the same again"):
        make_vec("CartPole-v1", 3, 1).set_state(envs.get_state())


def test_is_filmed_and_made_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs, film, whole = make_vec(ID, 1, 3), make_filmed(ID, 3), make_filmed("CartPole-v1", 3)
        np.testing.assert_array_equal(film.reset()[0], envs.reset()[0])
        whole.reset()
        for _ in range(5):
            np.testing.assert_array_equal(film.step(np.array([1]))[0], envs.step(np.array([1]))[0])
            whole.step(np.array([1]))
            np.testing.assert_array_equal(film.frame(), whole.frame())
    assert film.frame().shape == (400, 600, 3)
    made = gymnasium.make(ID)
    assert (made.spec.id, made.spec.max_episode_steps, made.observation_space.shape) == (ID, 500, (2,))
    again = gymnasium.make(made.spec)  # Gymnasium can make it again from what it wrote down
    np.testing.assert_array_equal(again.reset(seed=1)[0], made.reset(seed=1)[0])
