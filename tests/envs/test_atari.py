"""Atari environments against Gymnasium's own preprocessing, and the protocol that surrounds it."""

import dataclasses
import itertools

import gymnasium
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from hypothesis import given
from hypothesis import strategies as st

from pixelq.envs import PROTOCOLS, AtariVec, Protocol, make_vec
from pixelq.envs.checks import spread_seeds
from tests.support.cases import representative

PLAIN = Protocol("plain", 0.0, 0, False, 0.0, 108_000)


def random_actions(envs, steps, seed=0):
    """Actions [steps, N]."""
    return np.random.default_rng(seed).integers(0, envs.single_action_space.n, (steps, envs.num_envs))


def play(envs, actions, seed=None):
    """Arrays of what `reset` and then each step returned, observations [T + 1, N, ...] and the others [T, N]."""
    first, _ = envs.reset(seed=seed)
    steps = [envs.step(action) for action in actions]
    observations, rewards, terminated, truncated, _ = zip(*steps, strict=True)
    return np.stack([first, *observations]), np.stack(rewards), np.stack(terminated), np.stack(truncated)


def play_reference(env_id, protocol, actions, seed=0):
    """The same from Gymnasium's wrappers, with our rule for who restarts when; `actions` is [T]."""
    raw = gymnasium.make(
        env_id,
        frameskip=1,
        repeat_action_probability=protocol.repeat_action_probability,
        max_num_frames_per_episode=10**9,
    )
    env = FrameStackObservation(AtariPreprocessing(raw, noop_max=0), 4, padding_type="zero")
    raw.unwrapped.ale.setInt("random_seed", int(spread_seeds(seed, 1)[0]))
    raw.unwrapped.load_game()
    observations, rewards, terminated, truncated = [env.reset()[0]], [], [], []
    done, frames = False, 0
    for action in actions:
        if done:
            result, frames = (env.reset()[0], 0.0, False, False, {}), 0
        else:
            result, frames = env.step(int(action)), frames + 4
        ended = result[2]
        cut = frames >= protocol.max_frames and not ended
        done = ended or cut
        for values, value in zip(
            (observations, rewards, terminated, truncated), (*result[:2], ended, cut), strict=True
        ):
            values.append(value)
    env.close()
    return np.stack(observations), np.array(rewards), np.array(terminated), np.array(truncated)


def assert_equals_reference(env_id, protocol, actions, seed=0):
    ours = play(make_vec(env_id, 1, seed, protocol), actions[:, None])
    theirs = play_reference(env_id, protocol, actions, seed)
    for name, our, their in zip(("observations", "rewards", "terminated", "truncated"), ours, theirs, strict=True):
        np.testing.assert_array_equal(our[:, 0], their, err_msg=name)
    return theirs


@pytest.mark.parametrize(
    ("env_id", "stickiness"),
    representative(
        itertools.product(["ALE/Pong-v5", "ALE/Breakout-v5", "ALE/MsPacman-v5"], [0.0, 0.25]),
        keep={("ALE/Pong-v5", 0.25), ("ALE/Breakout-v5", 0.0), ("ALE/MsPacman-v5", 0.25)},
    ),
)
def test_equals_gymnasium_in_every_pixel_reward_and_flag(env_id, stickiness):
    protocol = dataclasses.replace(PLAIN, repeat_action_probability=stickiness)
    actions = np.random.default_rng(1).integers(0, 4, 400)
    _, rewards, terminated, _ = assert_equals_reference(env_id, protocol, actions, seed=3)
    if env_id == "ALE/Pong-v5":
        assert rewards.min() == -1
    if env_id == "ALE/Breakout-v5":
        assert terminated.any()  # the comparison spans a restart
    if env_id == "ALE/MsPacman-v5":
        assert rewards.max() >= 10  # the game's own points, unclipped


def test_time_limit_keeps_the_final_observation_and_restarts_one_step_later():
    protocol = dataclasses.replace(PLAIN, max_frames=400)
    actions = np.random.default_rng(2).integers(0, 4, 330)
    for env_id in ("ALE/Pong-v5", "ALE/Breakout-v5"):
        truncated = assert_equals_reference(env_id, protocol, actions)[3]
        assert np.flatnonzero(truncated).tolist() == [99, 200, 301]  # 100 steps of four frames, and one that restarts


@pytest.mark.slow
def test_time_limit_on_and_just_before_the_step_that_ends_the_game():
    actions = np.random.default_rng(3).integers(0, 4, 500)
    last = int(
        np.flatnonzero(play_reference("ALE/Breakout-v5", PLAIN, actions)[2])[0]
    )  # its index; it is step last + 1
    both = assert_equals_reference("ALE/Breakout-v5", dataclasses.replace(PLAIN, max_frames=4 * last + 4), actions)
    assert both[2][last]
    assert not both[3][last]
    # Here the game ends in the hidden step between our truncation and our restart.
    before = assert_equals_reference("ALE/Breakout-v5", dataclasses.replace(PLAIN, max_frames=4 * last), actions)
    assert before[3][last - 1]
    assert not before[2][: last + 2].any()


def test_the_hidden_step_of_a_restart_scores_nothing():
    actions = np.zeros(200, np.int64)
    scored = int(np.flatnonzero(play_reference("ALE/Pong-v5", PLAIN, actions)[1])[0])  # the opponent's first point
    protocol = dataclasses.replace(PLAIN, max_frames=4 * scored)
    _, rewards, _, truncated = assert_equals_reference("ALE/Pong-v5", protocol, actions)
    assert truncated[scored - 1]
    assert not rewards[: scored + 1].any()


def test_max_frames_counts_after_the_no_ops_and_for_each_environment_alone():
    protocol = dataclasses.replace(PROTOCOLS["nature"], max_frames=203)  # 51 steps of four frames reach it
    envs = make_vec("ALE/Pong-v5", 6, 0, protocol)
    _, info = envs.reset()
    starts = info["episode_frame_number"]
    assert starts.min() >= 1
    assert starts.max() <= 30
    assert len(set(starts)) > 1
    for step in range(1, 52):
        _, _, terminated, truncated, info = envs.step(np.zeros(6, np.int64))
        assert truncated.all() == (step == 51)
        assert truncated.any() == (step == 51)
        assert not terminated.any()
    np.testing.assert_array_equal(info["episode_frame_number"], starts + 204)
    restarts = envs.step(np.zeros(6, np.int64))[4]["episode_frame_number"]
    assert restarts.min() >= 1
    assert restarts.max() <= 30


def starts_of(envs, steps):
    """Return the numbers of no-ops with which the episodes of random play start."""
    starts = [*envs.reset()[1]["episode_frame_number"]]
    done = np.zeros(envs.num_envs, np.bool_)
    for action in random_actions(envs, steps):
        before = done
        _, _, terminated, truncated, info = envs.step(action)
        starts += [*info["episode_frame_number"][before]]
        done = terminated | truncated
    return np.array(starts)


@pytest.mark.slow
def test_no_ops_are_drawn_from_1_to_30_evenly():
    protocol = dataclasses.replace(PROTOCOLS["nature"], max_frames=4)  # one step
    starts = starts_of(make_vec("ALE/Pong-v5", 4, 0, protocol, num_threads=1), 120)
    assert len(starts) == 4 * 61
    counts = np.bincount(starts, minlength=31)
    assert counts[0] == 0
    assert len(counts) == 31
    # χ² with 29 degrees of freedom is above 59 once in a thousand times.
    expected = len(starts) / 30
    assert ((counts[1:] - expected) ** 2 / expected).sum() < 59


@pytest.mark.slow
@pytest.mark.parametrize(
    ("max_frames", "steps"),
    [(40, 60), (108_000, 350)],
    ids=["truncated", "terminated"],
)
def test_no_episode_starts_without_a_no_op_however_the_last_one_ended(max_frames, steps):
    """Of one or two no-ops the emulator draws 0 in a third of all cases, in each kind of restart."""
    protocol = dataclasses.replace(PROTOCOLS["nature"], noop_max=2, max_frames=max_frames)
    envs = make_vec("ALE/Breakout-v5", 3, 0, protocol, num_threads=1)
    starts = starts_of(envs, steps)
    assert len(starts) >= 7
    assert set(starts) == {1, 2}
    state = envs.get_state()
    observations = envs.step(np.zeros(3, np.int64))[0]
    again = make_vec("ALE/Breakout-v5", 3, 1, protocol, num_threads=1)
    again.set_state(state)
    np.testing.assert_array_equal(again.step(np.zeros(3, np.int64))[0], observations)


def test_sticky_protocol_starts_without_no_ops():
    _, info = make_vec("ALE/Pong-v5", 4).reset()
    assert info["episode_frame_number"].tolist() == [0, 0, 0, 0]
    assert "life_lost" not in info


def test_ignored_actions_leave_no_trace():
    protocol = dataclasses.replace(PROTOCOLS["sticky"], max_frames=100)
    actions = np.random.default_rng(4).integers(0, 4, (104, 2))
    others = actions.copy()
    others[np.arange(104) % 26 == 25] = 3 - others[np.arange(104) % 26 == 25]
    envs = make_vec("ALE/Breakout-v5", 2, 0, protocol)
    one = play(envs, actions, seed=7)
    two = play(envs, others, seed=7)
    assert one[3][25::26].sum() == 0
    assert one[3][24::26].all()
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_life_lost_equals_the_native_signal_and_the_game_goes_on():
    nature = PROTOCOLS["nature"]
    envs = AtariVec("ALE/Breakout-v5", 4, 0, nature)
    native = AtariVectorEnv(
        "breakout", 4, noop_max=31, use_fire_reset=False, reward_clipping=False, life_loss_info=True
    )
    _, info = envs.reset()
    native.reset(seed=spread_seeds(0, 4))
    lives, lost, ended = info["lives"], 0, 0
    for action in random_actions(envs, 450):
        observations, rewards, terminated, truncated, info = envs.step(action)
        expected = native.step(action)
        np.testing.assert_array_equal(observations, expected[0])
        np.testing.assert_array_equal(rewards, expected[1])
        np.testing.assert_array_equal(terminated | info["life_lost"], expected[2])
        assert not (info["life_lost"] & terminated).any()
        assert not truncated.any()
        np.testing.assert_array_equal((lives - info["lives"])[info["life_lost"]], 1)
        lives, lost, ended = info["lives"], lost + info["life_lost"].sum(), ended + terminated.sum()
    assert ended >= 4
    assert lost >= 4 * ended  # five lives a game, of which the last ends it


class ScriptedNative:
    """Stands in for the native environment: one environment with the given lives, and no picture."""

    def __init__(self, lives):
        self.lives, self.sent = [np.array([value], np.int32) for value in lives], []

    def reset(self, *, seed=None, options=None):
        info = {"lives": self.lives[len(self.sent)].copy(), "episode_frame_number": np.ones(1, np.int32)}
        return np.zeros((1, 4, 84, 84), np.uint8), info

    def send(self, actions):
        self.sent.append(actions.tolist())

    def recv(self):
        observations, info = self.reset()
        return observations, np.zeros(1, np.int32), np.zeros(1, np.bool_), np.zeros(1, np.bool_), info


def test_a_restart_with_fewer_lives_is_no_life_lost_and_plays_no_action():
    envs = make_vec("ALE/Breakout-v5", 1, 0, dataclasses.replace(PROTOCOLS["nature"], max_frames=12))
    envs._native = native = ScriptedNative([3, 3, 2, 4, 3, 2, 2, 0])  # an extra life, and then the fourth step restarts
    envs.reset()
    actions = np.array([[1], [2], [3], [1], [2], [3], [1]])
    steps = [envs.step(action) for action in actions]
    assert [bool(step[3][0]) for step in steps] == [False, False, True, False, False, False, True]
    assert [bool(step[4]["life_lost"][0]) for step in steps] == [False, True, False, False, True, False, False]
    assert native.sent == [[1], [2], [3], [0], [2], [3], [1]]
    assert actions[3] == 1  # the caller's array is as it was


def test_newest_frames_rebuild_every_stack():
    protocol = dataclasses.replace(PROTOCOLS["nature"], max_frames=120)
    envs = make_vec("ALE/Breakout-v5", 3, 5, protocol)
    observations, _, terminated, truncated = play(envs, random_actions(envs, 100))
    done = terminated | truncated
    assert done.any()
    for step in range(1, 101):
        fresh = done[step - 2] if step > 1 else np.zeros(3, np.bool_)
        np.testing.assert_array_equal(observations[step, fresh, :3], 0)
        np.testing.assert_array_equal(observations[step, ~fresh, :3], observations[step - 1, ~fresh, 1:])
    assert observations[:, :, -1].reshape(303, -1).max(-1).min() > 0  # no newest frame is blank


def test_same_seed_is_identical_for_any_number_of_copies_and_threads():
    protocol = dataclasses.replace(PROTOCOLS["sticky"], max_frames=100)
    four, one = make_vec("ALE/Pong-v5", 4, 11, protocol, num_threads=1), make_vec("ALE/Pong-v5", 1, 11, protocol)
    again = make_vec("ALE/Pong-v5", 4, 11, protocol, num_threads=2)
    actions = random_actions(four, 70)
    first, second, alone = play(four, actions), play(again, actions), play(one, actions[:, :1])
    for a, b, c in zip(first, second, alone, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[:, :1], c)
    for other in range(1, 4):
        assert (first[0][:, 0] != first[0][:, other]).any()


def test_seeds_of_constructor_and_reset():
    envs, other = make_vec("ALE/Pong-v5", 2, 0), make_vec("ALE/Pong-v5", 2, 1)
    actions = random_actions(envs, 60)
    actions[:, 1] = actions[:, 0]
    first = play(envs, actions)[0]
    assert (play(envs, actions)[0] != first).any()  # a reset without a seed goes on with the generators
    np.testing.assert_array_equal(play(envs, actions, seed=0)[0], first)
    np.testing.assert_array_equal(play(other, actions, seed=0)[0], first)
    assert (play(other, actions, seed=1)[0][:, 0] != first[:, 1]).any()  # `seed + k` would make these two the same


@given(st.integers(0, 2**40), st.integers(3, 200))
def test_seeds_are_spread(seed, num_envs):
    seeds = spread_seeds(seed, num_envs)
    assert seeds.dtype == np.int32
    assert seeds.min() >= 0
    both = set(seeds.tolist()) | set(spread_seeds(seed + 1, num_envs).tolist())
    assert len(both) >= 2 * num_envs - 1  # two of 400 draws from 31 bits may be the same, once in 30,000 times
    np.testing.assert_array_equal(seeds[: num_envs // 2], spread_seeds(seed, num_envs // 2))


def test_send_and_recv_equal_step():
    envs, halves = make_vec("ALE/Breakout-v5", 2, 3, "nature"), make_vec("ALE/Breakout-v5", 2, 3, "nature")
    np.testing.assert_array_equal(envs.reset()[0], halves.reset()[0])
    for action in random_actions(envs, 60):
        *whole, info = envs.step(action)
        mutable = action.copy()
        halves.send(mutable)
        mutable[:] = 0  # the caller's array is the caller's again
        *parts, info_of_parts = halves.recv()
        for one, two in zip([*whole, *info.values()], [*parts, *info_of_parts.values()], strict=True):
            np.testing.assert_array_equal(one, two)
        assert (
            list(info)
            == list(info_of_parts)
            == ["env_id", "lives", "frame_number", "episode_frame_number", "life_lost"]
        )


def test_spaces_types_and_attributes():
    envs = make_vec("ALE/Breakout-v5", 2, 0, "nature")
    assert envs.single_observation_space == gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    assert envs.single_action_space == gymnasium.spaces.Discrete(4)
    assert envs.observation_space.shape == (2, 4, 84, 84)
    assert envs.action_space == gymnasium.spaces.MultiDiscrete([4, 4])
    assert envs.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.NEXT_STEP
    assert (envs.num_envs, envs.frame_stack, envs.frames_per_step) == (2, 4, 4)
    assert (envs.env_id, envs.spec.id, envs.protocol) == ("ALE/Breakout-v5", "ALE/Breakout-v5", PROTOCOLS["nature"])
    assert envs.action_meanings == ("NOOP", "FIRE", "RIGHT", "LEFT")
    envs.reset()
    observations, rewards, terminated, truncated, info = envs.step(np.array([1, 3], np.uint8))
    arrays = (observations, rewards, terminated, truncated, info["life_lost"], info["lives"])
    types = [(array.dtype.name, array.shape) for array in arrays]
    assert types == [("uint8", (2, 4, 84, 84)), ("float32", (2,)), *3 * [("bool", (2,))], ("int32", (2,))]
    full = make_vec("ALE/Breakout-v5", 1, full_action_space=True)
    assert full.single_action_space == gymnasium.spaces.Discrete(18)
    assert full.action_meanings[17] == "DOWNLEFTFIRE"


def test_protocols_are_the_papers():
    assert dataclasses.astuple(PROTOCOLS["sticky"]) == ("sticky", 0.25, 0, False, 0.001, 108_000, 0.0, False)
    assert dataclasses.astuple(PROTOCOLS["nature"]) == ("nature", 0.0, 30, True, 0.05, 108_000, 0.0, False)
    assert dataclasses.astuple(PROTOCOLS["100k"]) == ("100k", 0.0, 30, True, 0.001, 108_000, 0.0, False)
    assert list(PROTOCOLS) == ["sticky", "nature", "100k", "envpool"]
