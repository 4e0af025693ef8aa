"""Environments other than Atari, ids that lead nowhere, and filming."""

import cv2
import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from pixelq.envs import GYMNASIUM, PROTOCOLS, EnvironmentFailed, InvalidEnv, make_filmed, make_vec
from pixelq.envs.checks import spread_seeds


class Counter(gymnasium.Env):
    """Observes the number of steps, ends at the third, and is made as wrong as a test wants."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, start=0, observation=Box(0, 9, (2,)), picture=None, render_mode=None):  # noqa: B008
        self.action_space = Discrete(2, start=start)
        self.observation_space = observation
        self.picture, self.render_mode = picture, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.full(2, self.steps, np.float32), float(action), self.steps == 3, False, {}

    def render(self):
        if isinstance(self.picture, Exception):
            raise self.picture
        return self.picture


@pytest.fixture
def counter():
    """Registers a Counter and returns its id."""
    ids = []

    def register(max_episode_steps=None, **kwargs):
        ids.append(f"Counter{len(ids)}-v0")
        gymnasium.register(
            ids[-1], entry_point=lambda **given: Counter(**given), kwargs=kwargs, max_episode_steps=max_episode_steps
        )
        return ids[-1]

    yield register
    for env_id in ids:
        del gymnasium.registry[env_id]


def test_cartpole_equals_gymnasium_with_our_seeds():
    envs = make_vec("CartPole-v1", 3, seed=5)
    singles = [gymnasium.make("CartPole-v1") for _ in range(3)]
    observations, _ = envs.reset()
    expected = [env.reset(seed=int(seed))[0] for env, seed in zip(singles, spread_seeds(5, 3), strict=True)]
    np.testing.assert_array_equal(observations, expected)
    done, ended = np.zeros(3, np.bool_), 0
    for actions in np.random.default_rng(0).integers(0, 2, (200, 3)):
        observations, rewards, terminated, truncated, _ = envs.step(actions)
        for k, env in enumerate(singles):
            result = (env.reset()[0], 0.0, False, False) if done[k] else env.step(actions[k])[:4]
            np.testing.assert_array_equal(observations[k], result[0])
            assert (rewards[k], terminated[k], truncated[k]) == result[1:]
        done = terminated | truncated
        ended += done.sum()
    assert ended > 10


def test_seeds_of_constructor_and_reset():
    envs, other = make_vec("CartPole-v1", 2, seed=0), make_vec("CartPole-v1", 2, seed=1)
    first = envs.reset()[0]
    assert (envs.reset()[0] != first).any()
    np.testing.assert_array_equal(envs.reset(seed=0)[0], first)
    assert (other.reset()[0][0] != first[1]).any()  # `seed + k` would make these two the same


def test_attributes_and_types():
    envs = make_vec("CartPole-v1", 2, protocol="nature")
    assert envs.protocol is GYMNASIUM
    assert (envs.protocol.evaluation_epsilon, envs.protocol.life_loss_ends_return) == (0.0, False)
    assert (envs.num_envs, envs.frame_stack, envs.frames_per_step, envs.env_id) == (2, 1, 1, "CartPole-v1")
    assert envs.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.NEXT_STEP
    assert envs.action_meanings == ("0", "1")
    envs.reset()
    observations, rewards, terminated, truncated, _ = envs.step(np.array([0, 1], np.int32))
    types = [(array.dtype.name, array.shape) for array in (observations, rewards, terminated, truncated)]
    assert types == [("float32", (2, 4)), ("float32", (2,)), ("bool", (2,)), ("bool", (2,))]


def test_termination_wins_over_truncation_and_the_step_after_restarts(counter):
    envs = make_vec(counter(max_episode_steps=3), 1)
    envs.reset()
    steps = [envs.step(np.array([1])) for _ in range(5)]
    assert [step[0][0, 0] for step in steps] == [1, 2, 3, 0, 1]
    assert [step[1][0] for step in steps] == [1, 1, 1, 0, 1]
    assert [bool(step[2][0]) for step in steps] == [False, False, True, False, False]
    assert not any(step[3][0] for step in steps)
    cut = make_vec(counter(max_episode_steps=2), 1)
    cut.reset()
    steps = [cut.step(np.array([1])) for _ in range(3)]
    assert [step[0][0, 0] for step in steps] == [1, 2, 0]
    assert [bool(step[3][0]) for step in steps] == [False, True, False]


def test_a_function_that_gives_the_same_environment_again_is_refused(counter):
    one = gymnasium.make(counter())
    with pytest.raises(InvalidEnv, match="cannot be made: it gives the same environment again; make a new one at each"):
        make_vec(lambda: one, 2)
    assert make_vec(lambda: one, 1).num_envs == 1


def test_misuse_of_a_gymnasium_environment(counter):
    envs = make_vec(counter(), 2)
    with pytest.raises(RuntimeError, match="not reset; call reset first"):
        envs.step(np.zeros(2, np.int64))
    envs.reset()
    with pytest.raises(RuntimeError, match="recv was called without send"):
        envs.recv()
    with pytest.raises(ValueError, match=r"actions must be in 0\.\.1, got 0\.\.2"):
        envs.step(np.array([0, 2]))
    actions = np.array([0, 1])
    envs.send(actions)
    actions[:] = 0
    with pytest.raises(RuntimeError, match="send was called twice"):
        envs.send(actions)
    with pytest.raises(RuntimeError, match="reset was called between send and recv"):
        envs.reset()
    assert envs.recv()[1].tolist() == [0, 1]
    with pytest.raises(InvalidEnv, match="seed must be a non-negative integer, got -1"):
        envs.reset(seed=-1)
    with pytest.raises(ValueError, match="reset takes no options"):
        envs.reset(options={"x": 1})
    envs.close()
    for use in (envs.reset, envs.recv, envs.frame, lambda: envs.step(actions)):
        with pytest.raises(RuntimeError, match="the environment is closed; make a new one"):
            use()


@pytest.mark.parametrize(
    ("env_id", "sentence"),
    [
        ("PongNoFrameskip-v4", "'PongNoFrameskip-v4' brings its own frame skip and stickiness; use 'ALE/Pong-v5'"),
        ("MsPacman-v0", "'MsPacman-v0' brings its own frame skip and stickiness; use 'ALE/MsPacman-v5'"),
        ("ALE/Pong-v4", "unknown environment 'ALE/Pong-v4'; did you mean 'ALE/Pong-v5'?"),
        ("Pong-ramNoFrameskip-v4", "unknown environment 'Pong-ramNoFrameskip-v4'; did you mean 'ALE/Pong-v5'?"),
        ("ms_pacman", "unknown environment 'ms_pacman'; did you mean 'ALE/MsPacman-v5'?"),
        ("CartPole", "unknown environment 'CartPole'; did you mean 'CartPole-v1'?"),
        ("zzz", "unknown environment 'zzz'; give an id that Gymnasium knows, such as 'ALE/Pong-v5'"),
        ("no_such_module:X-v0", "the module 'no_such_module' cannot be imported: No module named 'no_such_module'"),
        ("Pendulum-v1", "'Pendulum-v1' has actions Box(-2.0, 2.0, (1,), float32); give an environment with Discrete"),
    ],
)
def test_ids_that_lead_nowhere(env_id, sentence):
    for make in (make_vec, make_filmed):
        with pytest.raises(InvalidEnv) as caught:
            make(env_id)
        assert str(caught.value).startswith(sentence)


def test_actions_count_from_zero_whatever_the_environment_calls_them(counter):
    envs = make_vec(counter(start=5), 2)
    assert envs.single_action_space == Discrete(2)
    assert envs.action_space == gymnasium.spaces.MultiDiscrete([2, 2])
    envs.reset()
    assert envs.step(np.array([0, 1]))[1].tolist() == [5.0, 6.0]  # the reward is the action it was given


def test_environments_of_the_wrong_shape(counter):
    with pytest.raises(InvalidEnv, match=r"has observations Text.*; give an environment with a Box, Discrete"):
        make_vec(counter(observation=gymnasium.spaces.Text(3)))


@pytest.mark.filterwarnings("ignore:.*RGB-array rendering")
def test_a_missing_package_or_picture_is_said_in_one_sentence(counter):
    error = gymnasium.error.DependencyNotInstalled("pygame is not installed, run `pip install pygame`\nand more")
    missing = counter(picture=error)
    assert make_vec(missing, 1).reset()[0].shape == (1, 2)  # only filming needs it
    with pytest.raises(InvalidEnv, match=r"cannot be filmed: pygame is not installed, run `pip install pygame`$"):
        make_filmed(missing)
    with pytest.raises(InvalidEnv, match=r"cannot be filmed: render\(\) returned a NoneType, not a picture uint8"):
        make_filmed(counter())


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        ("text", "a str"),
        ([np.zeros((4, 4, 3), np.uint8)], "a list"),
        (np.zeros((4, 4), np.uint8), r"uint8 \[4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 \[4, 4, 4\]"),
        (np.zeros((3, 4, 4), np.uint8), r"uint8 \[3, 4, 4\]"),
        (np.full((4, 4, 3), 0.5, np.float32), r"float32 \[4, 4, 3\]"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*RGB-array rendering")
def test_other_pictures_are_refused(counter, picture, found):
    sentence = rf"render\(\) returned {found}, not a picture uint8 \[height, width, 3\]"
    with pytest.raises(InvalidEnv, match=f"cannot be filmed: {sentence}"):
        make_filmed(counter(picture=picture))


class Growing(Counter):
    """Its pictures grow."""

    def render(self):
        return np.zeros((4 + self.steps, 4, 3), np.uint8)


def test_a_picture_of_another_size_ends_a_film():
    film = make_filmed(Growing)
    film.reset()
    assert film.frame().shape == (4, 4, 3)
    film.step(np.array([0]))
    with pytest.raises(EnvironmentFailed, match=r"render\(\) returned a picture \[5, 4, 3\] after one \[4, 4, 3\]"):
        film.frame()


def test_film_of_a_gymnasium_environment(counter):
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    film = make_filmed(counter(picture=picture))
    with pytest.raises(RuntimeError, match="there is no picture yet; call reset first"):
        film.frame()
    film.reset()
    np.testing.assert_array_equal(film.frame(), picture)
    catch = make_filmed("pixelq/Catch-v0", seed=3)
    observations, _ = catch.reset()
    np.testing.assert_array_equal(catch.frame()[::16, ::16, 0], observations[0, 0])
    with pytest.raises(RuntimeError, match="there is no picture; make the environment with make_filmed"):
        make_vec("pixelq/Catch-v0", 1).frame()


def grey(picture):
    """The 84×84 picture that an agent sees of a colour picture, but for rounding and the order of pooling."""
    return cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (84, 84), interpolation=cv2.INTER_AREA)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "protocol"),
    [pytest.param("ALE/Pong-v5", "sticky", marks=pytest.mark.slow), ("ALE/Breakout-v5", "nature")],
)
def test_film_shows_the_very_game_that_is_played(env_id, protocol):
    film, envs = make_filmed(env_id, 4, protocol), make_vec(env_id, 1, 4, protocol)
    np.testing.assert_array_equal(film.reset()[0], envs.reset()[0])
    assert film.protocol is PROTOCOLS[protocol]
    ended, moved, last = 0, 0, film.frame()
    for actions in np.random.default_rng(0).integers(0, envs.single_action_space.n, (500, 1)):
        *played, info = envs.step(actions)
        *filmed, film_info = film.step(actions)
        for one, two in zip([*played, *info.values()], [*filmed, *film_info.values()], strict=True):
            np.testing.assert_array_equal(one, two)
        assert film.frame().shape == (210, 160, 3)
        assert np.abs(grey(film.frame()).astype(int) - played[0][0, -1]).mean() < 0.5
        ended += played[2][0]
        moved += (film.frame() != last).any()
        last = film.frame()
    assert moved > 400
    assert ended or env_id == "ALE/Pong-v5"


def test_film_notices_that_it_shows_another_game():
    film = make_filmed("ALE/Breakout-v5")
    film.reset()
    film._colour.step(np.array([1]))
    actions = np.random.default_rng(0).integers(0, 4, (500, 1))
    with pytest.raises(RuntimeError, match="the film is no longer of the game being played"):
        [film.step(action) for action in actions]


def test_film_has_the_screen_of_the_game_and_closes():
    film = make_filmed("ALE/Pooyan-v5", full_action_space=True)
    with pytest.raises(RuntimeError, match="there is no picture yet; call reset first"):
        film.frame()
    film.reset(seed=1)
    assert film.frame().shape == (220, 160, 3)
    assert film.single_action_space.n == 18
    film.step(np.array([17]))
    assert (film.num_envs, film.frame_stack, film.frames_per_step, film.env_id) == (1, 4, 4, "ALE/Pooyan-v5")
    film.close()
    with pytest.raises(RuntimeError, match="the environment is closed"):
        film.reset()


@pytest.mark.parametrize("make", [make_vec, make_filmed])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "ALE/Pong-v5"])
def test_episodes_are_truncated_at_a_given_step(make, env_id):
    envs = make(env_id, seed=1, max_episode_steps=6, **({"num_envs": 2} if make is make_vec else {}))
    envs.reset()
    for step in [*range(1, 8), *range(1, 8)]:  # the step after the sixth resets
        _, _, terminated, truncated, _ = envs.step(np.arange(envs.num_envs) % 2)
        assert truncated.tolist() == [step == 6] * envs.num_envs
        assert not terminated.any()
    assert envs.protocol.rules == ("sticky" if env_id.startswith("ALE") else "gymnasium")
    envs.close()


@pytest.mark.parametrize("limit", [0, -3, 2.5, True, 10**9])
def test_a_time_limit_is_a_number_of_steps(limit):
    for env_id in ("CartPole-v1", "ALE/Pong-v5"):
        with pytest.raises(InvalidEnv, match="max_episode_steps must be a"):
            make_vec(env_id, 1, max_episode_steps=limit)
