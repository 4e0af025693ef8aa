"""Atari games put back where they were: whatever follows equals the game that was never stopped, bit for bit."""

import dataclasses
import functools
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv

from pixelq.envs import PROTOCOLS, InvalidEnv, Protocol, make_vec
from pixelq.envs import anchors as anchors_module
from pixelq.envs.checks import spread_seeds
from tests.support.cases import representative

STICKY, NATURE = PROTOCOLS["sticky"], PROTOCOLS["nature"]
ODD = Protocol("odd", 0.4, 10, True, 0.0, 600)  # sticky, with no-ops, life losses and a time limit of 150 steps
EVERY = 90  # steps to an anchor, in place of 10,000

CASES = {
    "pong, sticky": ("ALE/Pong-v5", dataclasses.replace(STICKY, max_frames=1000)),
    "breakout, nature": ("ALE/Breakout-v5", NATURE),
    "breakout, odd": ("ALE/Breakout-v5", ODD),
    "qbert, sticky": ("ALE/Qbert-v5", STICKY),
}


@pytest.fixture(autouse=True)
def _frequent_anchors(monkeypatch):
    monkeypatch.setattr(anchors_module, "ANCHOR_EVERY", EVERY)


def outcome(step):
    """All that a step returned, as a dictionary of arrays."""
    observations, rewards, terminated, truncated, info = step
    return {"obs": observations, "rewards": rewards, "terminated": terminated, "truncated": truncated, **info}


def assert_same(one, two):
    assert list(one) == list(two)
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], err_msg=name, strict=True)


@dataclasses.dataclass
class Story:
    """A game from its first reset on, and the state after each step; the state of step t is `states[t + 1]`."""

    actions: np.ndarray
    first: np.ndarray
    steps: list
    states: list
    middle: int  # an unseeded reset comes before this step
    after_reset: tuple

    def shown(self, moment):
        """The last observations at a state."""
        return self.first if moment == 0 else self.steps[moment - 1]["obs"]

    def done(self):
        return np.array([step["terminated"] | step["truncated"] for step in self.steps])


@functools.cache
def story(case, length=700, middle=200):
    env_id, protocol = CASES[case]
    envs = make_vec(env_id, 2, 5, protocol, num_threads=2)
    actions = np.random.default_rng(0).integers(0, envs.single_action_space.n, (length, 2))
    first, after_reset, steps = envs.reset()[0], None, []
    states = [envs.get_state()]
    for t, action in enumerate(actions):
        if t == middle:
            after_reset = (envs.reset()[0], envs.get_state())
        steps.append(outcome(envs.step(action)))
        states.append(envs.get_state())
    return Story(actions, first, steps, states, middle, after_reset)


def assert_goes_on(envs, told, moment, length=100):
    """From a state on, `envs` does what the story tells, and has the story's states."""
    for t in range(moment, min(moment + length, len(told.steps))):
        if t == told.middle:
            np.testing.assert_array_equal(envs.reset()[0], told.after_reset[0])
        assert_same(outcome(envs.step(told.actions[t])), told.steps[t])
        if t % 20 == 0:
            assert_same(envs.get_state(), told.states[t + 1])


def moments(told):
    """Every kind of moment that a state may be of."""
    done, anchors = told.done(), np.array([state["anchors"] for state in told.states])
    ends = np.flatnonzero(done.any(axis=1))
    renewed = np.flatnonzero((np.diff(anchors, axis=0) > 0).any(axis=1))
    renewed = renewed[renewed > told.middle]
    last_end = ends[ends < len(told.steps) - 60][-1]
    return {
        "after the first reset": 0,
        "in the first episode": 33,
        "just before a reset in the middle": told.middle,
        "soon after that reset": told.middle + 2,
        "on the step that ended an episode": last_end + 1,
        "on the step after it": last_end + 2,
        "on the step with a new anchor": renewed[0] + 1,
        "before the step with a new anchor": renewed[-1],
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", representative(CASES, keep=["pong, sticky"]))
def test_goes_on_exactly_from_every_kind_of_moment(case):
    env_id, protocol = CASES[case]
    told = story(case)
    assert told.states[-1]["anchors"].min() >= 2
    used = make_vec(env_id, 2, 77, protocol, num_threads=1)
    for name, moment in moments(told).items():
        envs = make_vec(env_id, 2, 5, protocol, num_threads=1) if name.startswith("on the step that") else used
        np.testing.assert_array_equal(envs.set_state(told.states[moment]), told.shown(moment), err_msg=name)
        assert_same(envs.get_state(), told.states[moment])
        assert_goes_on(envs, told, moment)


@pytest.mark.slow
@pytest.mark.parametrize("case", representative(["breakout, nature", "breakout, odd"], keep=["breakout, odd"]))
def test_goes_on_exactly_from_a_reset_in_the_middle(case):
    env_id, protocol = CASES[case]
    told = story(case)
    observations, state = told.after_reset
    envs = make_vec(env_id, 2, 0, protocol)
    np.testing.assert_array_equal(envs.set_state(state), observations)
    told = dataclasses.replace(told, middle=-1)
    assert_goes_on(envs, told, story(case).middle)


@pytest.mark.slow
def test_stories_tell_of_what_can_happen():
    """Without this the comparisons might be of games in which nothing does."""
    told = {case: story(case) for case in CASES}
    terminated = {case: sum(step["terminated"].sum() for step in told[case].steps) for case in CASES}
    truncated = {case: sum(step["truncated"].sum() for step in told[case].steps) for case in CASES}
    assert min(terminated[case] for case in ("breakout, nature", "qbert, sticky")) >= 2
    assert min(truncated[case] for case in ("pong, sticky", "breakout, odd")) >= 2
    assert sum(step["life_lost"].sum() for step in told["breakout, nature"].steps) >= 10
    lengths = [state["lengths"] for state in told["breakout, odd"].states]
    assert any((pair > 0).all() and pair[0] != pair[1] for pair in lengths)
    # The reset in the middle renewed one log and is written down in the other.
    assert told["breakout, nature"].after_reset[1]["lengths"].tolist() == [0, 71]
    assert told["breakout, nature"].after_reset[1]["actions"][-1] == 4


@pytest.mark.slow
def test_an_anchor_is_a_reset_with_its_seed_and_comes_with_the_first_episode_after_enough_steps():
    told = story("breakout, nature")
    done = told.done()
    for t in range(1, len(told.steps)):
        if t == told.middle:
            continue
        before, after = told.states[t], told.states[t + 1]
        is_due = done[t - 1] & (before["lengths"] + 1 > EVERY)
        np.testing.assert_array_equal(after["anchors"] - before["anchors"], is_due)
        np.testing.assert_array_equal(after["lengths"], np.where(is_due, 0, before["lengths"] + 1))
    # From its second anchor on, an environment plays the native game of that seed.
    start = next(t for t in range(len(told.steps)) if told.states[t + 1]["anchors"][0] == 2)
    stop = next(t for t in range(start, len(told.steps)) if told.states[t + 1]["anchors"][0] == 3)
    assert told.middle < start < stop - EVERY
    seed = int(np.random.SeedSequence([int(spread_seeds(5, 2)[0]), 2]).generate_state(1)[0]) >> 1
    native = AtariVectorEnv("breakout", 1, noop_max=31, use_fire_reset=False, reward_clipping=False)
    observations, info = native.reset(seed=np.array([seed]))
    for t in range(start, stop):
        np.testing.assert_array_equal(observations[0], told.steps[t]["obs"][0])
        assert info["frame_number"][0] == told.steps[t]["frame_number"][0]
        observations, _, _, _, info = native.step(told.actions[t + 1, :1])
    assert told.steps[start]["rewards"][0] == 0
    assert not done[start, 0]
    assert not told.steps[start]["life_lost"][0]


def test_looking_at_the_state_changes_nothing():
    told = story("breakout, odd")
    envs = make_vec("ALE/Breakout-v5", 2, 5, ODD, num_threads=1)
    envs.reset()
    for t in range(told.middle):
        assert_same(outcome(envs.step(told.actions[t])), told.steps[t])


@pytest.mark.slow
def test_resets_without_seeds_keep_the_log_short():
    envs = make_vec("ALE/Breakout-v5", 2, 0, NATURE)
    lengths = []
    for _ in range(12):
        envs.reset()
        lengths.append(int(envs.get_state()["lengths"].max()))
        for _ in range(20):
            observations = envs.step(np.array([1, 2]))[0]
    assert lengths == [0, 21, 42, 63, 84, 0, 21, 42, 63, 84, 0, 21]
    state = envs.get_state()
    np.testing.assert_array_equal(make_vec("ALE/Breakout-v5", 2, 0, NATURE).set_state(state), observations)


CHILD = """
import hashlib, sys
import numpy as np
from pixelq.envs import Protocol, make_vec, anchors
anchors.ANCHOR_EVERY = {every}
envs = make_vec("ALE/Breakout-v5", 2, 123, {protocol}, num_threads=1)
with np.load({path!r}) as file:
    arrays = dict(file)
actions = arrays.pop("then")
digest = hashlib.sha256(envs.set_state(arrays).tobytes())
for action in actions:
    observations, rewards, terminated, truncated, info = envs.step(action)
    for array in (observations, rewards, terminated, truncated, *info.values()):
        digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_goes_on_exactly_in_another_process(tmp_path):
    told, moment = story("breakout, odd"), 400
    np.savez(tmp_path / "state.npz", **told.states[moment], then=told.actions[moment : moment + 300])
    digest = hashlib.sha256(told.shown(moment).tobytes())
    for step in told.steps[moment : moment + 300]:
        for array in step.values():
            digest.update(array.tobytes())
    code = CHILD.format(every=EVERY, protocol=repr(ODD), path=str(tmp_path / "state.npz"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest.hexdigest()


@pytest.mark.slow
def test_a_state_of_other_arguments_is_refused_and_reset_goes_on():
    state = story("breakout, nature").states[60]
    others = [
        make_vec("ALE/Pong-v5", 2, 5, NATURE, full_action_space=True),
        make_vec("ALE/Breakout-v5", 2, 5, dataclasses.replace(NATURE, repeat_action_probability=0.01)),
    ]
    for envs in others:
        with pytest.raises(InvalidEnv, match=r"'ALE/\w+-v5' did not play the same again; the state is of other arg"):
            envs.set_state(state)
        for use in (envs.get_state, lambda envs=envs: envs.step(np.zeros(2, np.int64))):
            with pytest.raises(RuntimeError, match="the environment was not reset; call reset first"):
                use()
        envs.reset()
        envs.step(np.zeros(2, np.int64))
        again = make_vec(envs.env_id, 2, 9, envs.protocol, full_action_space=len(envs.action_meanings) == 18)
        again.set_state(envs.get_state())
        np.testing.assert_array_equal(again.step(np.ones(2, int))[0], envs.step(np.ones(2, int))[0])


def test_a_state_from_before_no_ops_started_at_1_is_refused():
    protocol = dataclasses.replace(NATURE, max_frames=100)
    old, envs = (make_vec("ALE/Breakout-v5", 1, 5, protocol, num_threads=1) for _ in range(2))
    assert ", noop_min=1" in old._game
    old._game = old._game.replace(", noop_min=1", "")
    old.reset()
    with pytest.raises(InvalidEnv, match=r"did not play the same again; .* or an older pixelq$"):
        envs.set_state(old.get_state())
    old._game = envs._game
    envs.set_state(old.get_state())


def test_a_damaged_state_is_refused_and_the_game_goes_on():
    told, moment = story("breakout, odd"), 200
    envs = make_vec("ALE/Breakout-v5", 2, 5, ODD)
    envs.set_state(told.states[moment])
    state = told.states[moment]
    damages = {
        "actions": [state["actions"] + np.uint8(200), state["actions"][:-1], state["actions"].astype(np.int64), None],
        "lengths": [state["lengths"] + 1, state["lengths"] * -1, np.array([2**62, 2**62]), state["lengths"][:1]],
        "bases": [state["bases"] - 2**31, state["bases"] + 2**31, state["bases"].astype(np.int32)],
        "anchors": [np.array([-1, 0]), np.array([2**31, 0])],
        "crcs": [state["crcs"].astype(np.int64), state["crcs"].tolist()],
    }
    for name, values in damages.items():
        for value in values:
            with pytest.raises(InvalidEnv, match=rf"^the state's (lengths|{name}) "):
                envs.set_state({**state, name: value})
    assert_goes_on(envs, told, moment, 60)
    with pytest.raises(InvalidEnv, match="did not play the same again"):
        envs.set_state({**state, "crcs": state["crcs"] ^ np.uint32(1)})


def test_when_a_state_can_be_had():
    state, actions = story("breakout, nature").states[10], np.zeros(2, np.int64)
    envs = make_vec("ALE/Breakout-v5", 2, 0, NATURE)
    with pytest.raises(RuntimeError, match="the environment was not reset; call reset first"):
        envs.get_state()
    envs.set_state(state)
    envs.send(actions)
    with pytest.raises(RuntimeError, match="get_state was called between send and recv; call recv first"):
        envs.get_state()
    with pytest.raises(RuntimeError, match="set_state was called between send and recv; call recv first"):
        envs.set_state(state)
    envs.recv()
    envs.get_state()
    envs.close()
    for use in (envs.get_state, lambda: envs.set_state(state)):
        with pytest.raises(RuntimeError, match="the environment is closed; make a new one"):
            use()
