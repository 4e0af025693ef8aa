"""MinAtar's games: a stand-in for the package, which need not be installed, and the games where it is."""

import importlib.util
import sys
import types

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from pixelq.envs import InvalidEnv, make_filmed, make_vec
from pixelq.envs import anchors as anchors_module

IS_INSTALLED = importlib.util.find_spec("minatar") is not None
GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")


class Moves:
    """What MinAtar's `Environment` keeps beyond an episode: its generator, and the action that may be repeated."""

    def __init__(self):
        self.random, self.last_action, self.position = np.random.RandomState(), 0, 0


class Walk(gymnasium.Env):
    """A walk along the first line of ten channels, in MinAtar's form; half of the actions are repeated."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (Gymnasium's attribute)

    def __init__(self, render_mode=None):
        self.render_mode, self.game = render_mode, Moves()
        self.observation_space, self.action_space = Box(0, 1, (10, 10, 10), np.bool_), Discrete(3)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.game.random = np.random.RandomState(seed)
        self.game.position = 0
        return self.state(), {}

    def step(self, action):
        game = self.game
        if game.random.rand() < 0.5:
            action = game.last_action
        game.last_action = action
        game.position += int(action)
        is_over = game.position > 8
        game.position = min(game.position, 9)
        return self.state(), float(action), is_over, False, {}

    def state(self):
        state = np.zeros((10, 10, 10), bool)
        state[0, self.game.position, 3] = True
        state[9, 2, [1, 7]] = True  # two objects in one cell
        return state

    def render(self):
        return np.zeros((10, 10, 3))


@pytest.fixture
def walk(monkeypatch):
    """The id of a Walk that a stand-in for the package registers, under the name of one of its games."""
    package, module = types.ModuleType("minatar"), types.ModuleType("minatar.gym")
    module.register_envs = lambda: gymnasium.register("MinAtar/Breakout-v1", entry_point=Walk)
    monkeypatch.setitem(sys.modules, "minatar", package)
    monkeypatch.setitem(sys.modules, "minatar.gym", module)
    kept = {name: spec for name, spec in gymnasium.registry.items() if name.startswith("MinAtar/")}
    for name in kept:
        del gymnasium.registry[name]
    yield "MinAtar/Breakout-v1"
    del gymnasium.registry["MinAtar/Breakout-v1"]
    gymnasium.registry.update(kept)


def test_observations_are_pictures_with_the_channels_first(walk):
    envs = make_vec(walk, 2)
    observations = envs.reset()[0]
    assert envs.single_observation_space == Box(0, 255, (10, 10, 10), np.uint8)
    assert (observations.dtype, envs.notes, envs.frame_stack) == (np.uint8, (), 1)
    np.testing.assert_array_equal(np.argwhere(observations[0] == 255), [[1, 9, 2], [3, 0, 0], [7, 9, 2]])
    assert np.unique(observations).tolist() == [0, 255]


def test_a_module_before_the_id_is_left_out(walk):
    assert make_vec(f"minatar.gym:{walk}", 1).env_id == walk


def test_film(walk):
    film = make_filmed(walk)
    film.reset()
    picture = film.frame()
    cells = picture[8::16, 8::16]
    np.testing.assert_array_equal(picture, cells.repeat(16, 0).repeat(16, 1))
    np.testing.assert_array_equal(np.argwhere(cells.any(-1)), [[0, 0], [9, 2]])
    assert len({tuple(cells[at]) for at in ((0, 0), (9, 2), (5, 5))}) == 3
    assert film.metadata["render_fps"] == 20


def assert_goes_on(env_id, steps):
    """The state of games that have been seeded anew several times is restored, and they play on the same."""
    envs, others = make_vec(env_id, 3, 1), make_vec(env_id, 3, 2)
    shown, rng = envs.reset()[0], np.random.default_rng(0)
    actions = rng.integers(0, envs.single_action_space.n, (2 * steps, 3))
    for each in actions[:steps]:
        shown = envs.step(each)[0]
    np.testing.assert_array_equal(others.set_state(envs.get_state()), shown)
    for each in actions[steps:]:
        for one, other in zip(envs.step(each)[:4], others.step(each)[:4], strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_last_action_is_forgotten_where_a_game_is_seeded(walk, monkeypatch):
    monkeypatch.setattr(anchors_module, "ANCHOR_EVERY", 20)
    assert_goes_on(walk, 90)


@pytest.mark.skipif(not IS_INSTALLED, reason="needs minatar")
@pytest.mark.parametrize("game", GAMES)
def test_games(game, monkeypatch):
    monkeypatch.setattr(anchors_module, "ANCHOR_EVERY", 40)
    envs = make_vec(f"MinAtar/{game}-v1", 2)
    observations = envs.reset()[0]
    assert observations.shape == (2, {"Freeway": 7, "Seaquest": 10, "SpaceInvaders": 6}.get(game, 4), 10, 10)
    assert np.unique(observations).tolist() == [0, 255]
    assert_goes_on(f"MinAtar/{game}-v1", 200)


@pytest.mark.skipif(IS_INSTALLED, reason="needs that minatar is not installed")
def test_a_missing_package_is_named():
    with pytest.raises(InvalidEnv, match=r"^'MinAtar/Breakout-v1' needs the package minatar; pip install 'pixelq\["):
        make_vec("MinAtar/Breakout-v1")


def test_a_broken_package_is_named(walk, monkeypatch):
    monkeypatch.setattr(sys.modules["minatar.gym"], "register_envs", lambda: 1 / 0)
    with pytest.raises(InvalidEnv, match=r"needs the package minatar, which cannot be imported: division by zero"):
        make_vec(walk)
    gymnasium.register(walk, entry_point=Walk)  # for the fixture
