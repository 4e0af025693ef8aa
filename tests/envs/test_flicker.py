"""Atari observations of any depth, and frames that the player does not get to see."""

import dataclasses
import json
import zlib

import gymnasium
import numpy as np
import pytest

from pixelq.agents import DQN, AgentConfig, InvalidRun
from pixelq.agents.experience.replay import Replay
from pixelq.envs import InvalidEnv, Protocol, make_filmed, make_vec
from pixelq.envs import anchors as anchors_module
from pixelq.envs.flicker import uniform
from pixelq.scripts.main import run
from tests.support.cases import representative

BREAKOUT = "ALE/Breakout-v5"  # no frame of it is black by itself
ODD = Protocol("odd", 0.4, 10, True, 0.0, 150)  # sticky, with no-ops, life losses and a time limit of 38 steps
UNEVEN = dataclasses.replace(ODD, max_frames=520)  # some games end before the limit, at different steps
OLD_TEXT = (  # as from before there were depths and flicker, but for the least number of no-ops
    "('ALE/Breakout-v5', Protocol(name='nature', repeat_action_probability=0.0, noop_max=30, "
    "life_loss_ends_return=True, evaluation_epsilon=0.05, max_frames=108000, noop_min=1), "
    "('NOOP', 'FIRE', 'RIGHT', 'LEFT'))"
)
STEPS, N = 260, 3
RESET = 140  # before this step some tests reset all games, when their logs have different lengths
EVERY = 60  # steps to an anchor, in place of 10,000


@pytest.fixture(autouse=True)
def _frequent_anchors(monkeypatch):
    monkeypatch.setattr(anchors_module, "ANCHOR_EVERY", EVERY)


def make(seed=5, protocol=ODD, **options):
    return make_vec(BREAKOUT, N, seed, protocol, num_threads=1, **options)


def actions(steps=STEPS):
    return np.random.default_rng(0).choice(4, (steps, N), p=[0.1, 0.7, 0.1, 0.1])  # they serve most of the time


@dataclasses.dataclass
class Told:
    """What a game returned: observations and states [T + 1], the rest [T]; `fresh` [T + 1, N]: an episode began."""

    observations: np.ndarray
    rest: list
    states: list
    fresh: np.ndarray


def tell(envs, steps=STEPS, reset_before=None):
    observations, states = [envs.reset()[0]], [envs.get_state()]
    rest, fresh, done = [], [np.ones(N, bool)], np.zeros(N, bool)
    for t, action in enumerate(actions(steps)):
        if t == reset_before:
            envs.reset()
            done[:] = False  # the reset's own observations are not told
        shown, rewards, terminated, truncated, info = envs.step(action)
        observations.append(shown)
        rest.append({"rewards": rewards, "terminated": terminated, "truncated": truncated, **info})
        states.append(envs.get_state())
        fresh.append(done)
        done = terminated | truncated
    return Told(np.stack(observations), rest, states, np.stack(fresh))


def is_blank(frames):
    """Of frames [..., 84, 84]."""
    return (frames == 0).all(axis=(-1, -2))


def assert_same(one, two):
    assert list(one) == list(two)
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], err_msg=name, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", representative([ODD, UNEVEN], keep=[ODD]))
def test_the_game_is_the_same_and_shown_frames_too(protocol):
    plain, flickering = tell(make(protocol=protocol)), tell(make(protocol=protocol, flicker=0.5))
    for one, other in zip(plain.rest, flickering.rest, strict=True):
        assert_same(one, other)
    assert protocol is ODD or sum(step["rewards"].sum() for step in plain.rest) > 0
    assert not is_blank(plain.observations[:, :, -1]).any()
    hidden = is_blank(flickering.observations)
    np.testing.assert_array_equal(flickering.observations[~hidden], plain.observations[~hidden])
    hidden_newest = hidden[:, :, -1]
    assert abs(hidden_newest.mean() - 0.5) < 4 * np.sqrt(0.25 / hidden_newest.size)
    assert 0 < hidden_newest[flickering.fresh].mean() < 1  # an episode's first frame flickers as well
    assert is_blank(flickering.observations[:, :, :-1][flickering.fresh]).all()
    assert flickering.fresh.sum() >= (21 if protocol is ODD else 6)
    agreement = (hidden_newest[:, 0] == hidden_newest[:, 1]).mean()  # a coin for each environment
    assert abs(agreement - 0.5) < 4 * np.sqrt(0.25 / len(hidden_newest))


@pytest.mark.slow
def test_share_of_blank_frames():
    envs = make_vec(BREAKOUT, 4, 1, "sticky", frame_stack=1, flicker=0.2)
    assert envs.flicker == 0.2
    shown = [envs.reset()[0]]
    shown += [envs.step(np.zeros(4, np.int64))[0] for _ in range(500)]
    blank = is_blank(np.stack(shown)[:, :, 0])
    assert abs(blank.mean() - 0.2) < 4 * np.sqrt(0.16 / blank.size)
    assert np.abs(blank.mean(0) - 0.2).max() < 4 * np.sqrt(0.16 / 501)


@pytest.mark.slow
def test_coins_are_those_of_anchor_and_step():
    told = tell(make(protocol=UNEVEN, flicker=0.3), reset_before=RESET)
    for shown, state in zip(told.observations, told.states, strict=True):
        seeds = [
            anchors_module._anchor_seed(b, a) for b, a in zip(state["bases"].tolist(), state["anchors"], strict=True)
        ]
        expected = uniform(np.array(seeds), state["lengths"]) < 0.3
        np.testing.assert_array_equal(is_blank(shown[:, -1]), expected)
    assert told.states[-1]["anchors"].tolist() == [1, 1, 1]
    assert len(set(told.states[-1]["lengths"])) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("frame_stack", representative([2, 4, 16], keep=[2]))
@pytest.mark.parametrize("flicker", representative([0.0, 0.4], keep=[0.4]))
def test_older_places_hold_what_was_the_newest(frame_stack, flicker):
    told = tell(make(frame_stack=frame_stack, flicker=flicker), 100)
    assert told.observations.shape == (101, N, frame_stack, 84, 84)
    first = np.zeros(N, int)  # the step at which the running episode began
    for t, shown in enumerate(told.observations):
        first[told.fresh[t]] = t
        for k in range(N):
            for back in range(frame_stack):
                past = told.observations[t - back, k, -1] if t - back >= first[k] else 0
                np.testing.assert_array_equal(shown[k, -1 - back], np.broadcast_to(past, (84, 84)))
    assert told.fresh.sum() >= 2 * N


@pytest.mark.slow
@pytest.mark.parametrize("flicker", representative([0.0, 0.4], keep=[0.4]))
def test_newest_frames_do_not_depend_on_the_depth(flicker):
    four = tell(make(flicker=flicker), 120)
    for frame_stack in (1, 7):
        other = tell(make(frame_stack=frame_stack, flicker=flicker), 120)
        np.testing.assert_array_equal(other.observations[:, :, -1], four.observations[:, :, -1])
        for one, two in zip(other.rest, four.rest, strict=True):
            assert_same(one, two)


@pytest.mark.slow
@pytest.mark.parametrize(("frame_stack", "flicker"), representative([(4, 0.5), (1, 0.3), (10, 0.7)], keep=[(1, 0.3)]))
def test_goes_on_exactly_from_any_moment(frame_stack, flicker):
    told = tell(make(protocol=UNEVEN, frame_stack=frame_stack, flicker=flicker), reset_before=RESET)
    renewed = [int(np.flatnonzero(told.fresh[1:, k])[0]) + 1 for k in range(2)]  # with a new anchor each
    assert 70 < renewed[1] < renewed[0] < RESET
    assert len(set(told.states[-1]["lengths"])) >= 2
    used = make(77, UNEVEN, frame_stack=frame_stack, flicker=flicker)
    for moment in (0, 47, renewed[1] - 1, renewed[1], renewed[0], renewed[0] + 2, RESET, RESET + 1, 190):
        np.testing.assert_array_equal(used.set_state(told.states[moment]), told.observations[moment])
        assert_same(used.get_state(), told.states[moment])
        for t in range(moment, min(moment + 60, STEPS)):
            if t == RESET:
                used.reset()
            shown, rewards, terminated, truncated, info = used.step(actions()[t])
            np.testing.assert_array_equal(shown, told.observations[t + 1])
            assert_same({"rewards": rewards, "terminated": terminated, "truncated": truncated, **info}, told.rest[t])


@pytest.mark.slow
def test_states_of_other_depths_and_coins_are_refused():
    makers = [{}, {"flicker": 0.5}, {"flicker": 0.25}, {"frame_stack": 1}, {"frame_stack": 1, "flicker": 0.5}]
    envs = [make_vec(BREAKOUT, 1, 3, **options) for options in makers]
    states = []
    for each in envs:
        each.reset()
        states.append(each.get_state())
    assert len({int(state["crcs"][0]) for state in states}) == len(makers)
    for k, each in enumerate(envs):
        for other, state in enumerate(states):
            if other == k:
                each.set_state(state)
                continue
            with pytest.raises(InvalidEnv, match="did not play the same again; the state is of other arguments"):
                each.set_state(state)


@pytest.mark.parametrize("options", [{}, {"frame_stack": 4, "flicker": 0}])
def test_checksums_of_four_steady_frames_are_those_of_old_states(options):
    envs = make_vec(BREAKOUT, 2, 3, "nature", **options)
    envs.reset()
    for step in range(1, 8):
        shown, *_, info = envs.step(np.ones(2, np.int64))
        counters = [info[name] for name in ("env_id", "lives", "frame_number", "episode_frame_number")]
        rows = np.stack([*counters, np.full(2, 4 * step), np.zeros(2, np.int64)], axis=1)
        game = zlib.crc32(OLD_TEXT.encode())
        expected = [zlib.crc32(row, zlib.crc32(frames, game)) for row, frames in zip(rows, shown, strict=True)]
        assert envs.get_state()["crcs"].tolist() == expected


@pytest.mark.slow
def test_the_film_shows_all_and_the_player_what_flickers():
    film, steady = (make_filmed(BREAKOUT, 4, ODD, frame_stack=3, flicker=flicker) for flicker in (0.5, 0.0))
    envs = make_vec(BREAKOUT, 1, 4, ODD, frame_stack=3, flicker=0.5)
    assert (film.frame_stack, film.flicker, steady.flicker) == (3, 0.5, 0.0)
    assert film.single_observation_space == gymnasium.spaces.Box(0, 255, (3, 84, 84), np.uint8)
    shown = film.reset()[0]
    np.testing.assert_array_equal(shown, envs.reset()[0])
    steady.reset()
    blank = 0
    for action in actions(90)[:, :1]:
        shown = film.step(action)[0]
        np.testing.assert_array_equal(shown, envs.step(action)[0])
        steady.step(action)
        np.testing.assert_array_equal(film.frame(), steady.frame())
        assert film.frame().max() > 0
        blank += is_blank(shown[0, -1])
    assert 25 < blank < 65


@pytest.mark.parametrize("frame_stack", representative([1, 3], keep=[3]))
def test_the_replay_gives_back_what_was_shown(frame_stack):
    envs = make(frame_stack=frame_stack, flicker=0.4)
    shape = envs.single_observation_space.shape
    assert (envs.frame_stack, shape) == (frame_stack, (frame_stack, 84, 84))
    replay = Replay(shape, np.dtype(np.uint8), capacity=N * 40, num_envs=N, frame_stack=envs.frame_stack)
    shown = envs.reset()[0]
    for action in actions(90):
        replay.observe(shown)
        np.testing.assert_array_equal(replay.latest().numpy(), shown)
        following, rewards, terminated, truncated, _ = envs.step(action)
        replay.complete(action, rewards, terminated, truncated)
        shown = following
    assert replay.ring.frames.shape[1:] == ((1, 84, 84) if frame_stack == 1 else (84, 84))


def test_spaces_of_other_depths():
    envs = make_vec(BREAKOUT, 2, frame_stack=16)
    assert envs.single_observation_space == gymnasium.spaces.Box(0, 255, (16, 84, 84), np.uint8)
    assert envs.observation_space.shape == (2, 16, 84, 84)
    assert (envs.frame_stack, envs.flicker, make_vec(BREAKOUT, 1).flicker) == (16, 0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"frame_stack": 0}, "frame_stack must be an integer of at least 1, got 0"),
        ({"frame_stack": 17}, "frame_stack must be at most 16, got 17"),
        ({"frame_stack": 2.0}, "frame_stack must be an integer of at least 1, got 2.0"),
        ({"flicker": 1.0}, "flicker must be a probability in [0, 1), got 1.0"),
        ({"flicker": -0.1}, "flicker must be a probability in [0, 1), got -0.1"),
        ({"flicker": float("nan")}, "flicker must be a probability in [0, 1), got nan"),
        ({"flicker": True}, "flicker must be a probability in [0, 1), got True"),
        ({"flicker": "0.5"}, "flicker must be a probability in [0, 1), got '0.5'"),
    ],
)
def test_what_is_out_of_range_is_refused(options, sentence):
    for function in (make_vec, make_filmed):
        with pytest.raises(InvalidEnv) as caught:
            function(BREAKOUT, **options)
        assert str(caught.value) == sentence


def test_other_environments_do_not_flicker():
    for function in (make_vec, make_filmed):
        for flicker in (0.5, -1.0, 2):
            with pytest.raises(InvalidEnv, match=r"^only Atari games flicker; leave flicker out$"):
                function("CartPole-v1", flicker=flicker)
    with pytest.warns(UserWarning, match=r"^only images are stacked, so frame_stack 7 has no effect"):
        envs = make_vec("CartPole-v1", 2, frame_stack=7)
    assert (envs.frame_stack, envs.flicker, envs.protocol.flicker) == (1, 0.0, 0.0)
    assert envs.reset()[0].shape == (2, 4)


@pytest.mark.slow
def test_a_run_begun_in_python_goes_on_flickering(tmp_path, capsys):
    shape = {
        "batch_size": 4,
        "learning_starts": 64,
        "replay_capacity": 500,
        "hidden": 8,
        "encoder": "der",
        "frame_stack": 1,
    }

    def games(flicker):
        return make_vec("ALE/Pong-v5", 2, seed=0, frame_stack=1, flicker=flicker)

    envs = games(0.25)
    agent = DQN(envs.single_observation_space, envs.single_action_space, AgentConfig(**shape), device="cpu", seed=0)
    agent.learn(envs, 60, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["protocol"] == "sticky+flicker=0.25"
    with pytest.raises(InvalidRun, match=r"sticky\+flicker=0\.25.*sticky"):
        DQN.load(tmp_path / "run", "cpu").learn(games(0.0), 60, tmp_path / "run", resume=True)
    few = ["--evaluation-episodes", "1", "--final-episodes", "1", "--evaluate-every", "10000"]
    assert run("train", ["--resume", "--out", str(tmp_path / "run"), "--steps", "120", *few]) == 0
    assert DQN.load(tmp_path / "run", "cpu").protocol == "sticky+flicker=0.25"
    out = capsys.readouterr().out
    assert "sticky with 25% of the frames black" in out
    assert "at 0.0 million frames" not in out  # no published agent beside it
