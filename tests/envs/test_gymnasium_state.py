"""Gymnasium's environments put back where they were, those that cannot be, and those that break."""

import contextlib

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.envs import EnvironmentFailed, InvalidEnv, make_vec
from pixelq.envs import anchors as anchors_module
from tests.support.cases import examples

EVERY = 40  # steps to an anchor, in place of 10,000


@pytest.fixture(autouse=True, scope="module")
def _frequent_anchors():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchors_module, "ANCHOR_EVERY", EVERY)
        yield


class Scripted(gymnasium.Env):
    """Ends at a random step, and does what the functions given by a test do."""

    def __init__(self, actions=3, start=0, on_reset=None, on_step=None, on_close=None, reward=None):
        self.action_space = Discrete(actions, start=start)
        self.observation_space = Box(0, 1, (2,), np.float64)
        self.on_reset, self.on_step, self.on_close, self.reward = on_reset, on_step, on_close, reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.on_reset:
            self.on_reset()
        return self.np_random.random(2), {"drawn": self.np_random.random()}

    def step(self, action):
        if self.on_step:
            self.on_step(action)
        reward = self.reward() if self.reward else float(action)
        return self.np_random.random(2), reward, self.np_random.random() < 0.1, False, {}

    def close(self):
        if self.on_close:
            self.on_close()


@pytest.fixture
def scripted():
    """Registers a Scripted and returns its id."""
    ids = []

    def register(**kwargs):
        ids.append(f"Scripted{len(ids)}-v0")
        gymnasium.register(ids[-1], entry_point=lambda: Scripted(**kwargs), disable_env_checker=True)
        return ids[-1]

    yield register
    for env_id in ids:
        del gymnasium.registry[env_id]


def random_actions(envs, steps, seed=0):
    return np.random.default_rng(seed).integers(0, envs.single_action_space.n, (steps, envs.num_envs))


def assert_same(one, two):
    """Of states and of infos."""
    assert set(one) == set(two)
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], err_msg=name, strict=True)


def assert_goes_on(envs, others, actions):
    """Both play the same and are of the same state at last."""
    for action in actions:
        *one, info = envs.step(action)
        *two, other_info = others.step(action)
        for array, other in zip(one, two, strict=True):
            np.testing.assert_array_equal(array, other, strict=True)
        assert_same(info, other_info)
    assert_same(envs.get_state(), others.get_state())


@pytest.mark.parametrize("env_id", [pytest.param("CartPole-v1", marks=pytest.mark.slow), "pixelq/Catch-v0"])
def test_goes_on_exactly_from_every_step(env_id):
    envs, used = make_vec(env_id, 3, 1), make_vec(env_id, 3, 2)
    shown, lengths, anchors = [envs.reset()[0]], set(), 0
    for step, action in enumerate(random_actions(envs, 150)):
        state = envs.get_state()
        others = used if step % 3 else make_vec(env_id, 3, 3)
        np.testing.assert_array_equal(others.set_state(state), shown[-1], strict=True)
        assert_same(others.get_state(), state)
        lengths.add(tuple(state["lengths"]))
        anchors = state["anchors"].max()
        if step % 5 == 0:
            later = make_vec(env_id, 3, 4)
            later.set_state(state)
            assert_goes_on(later, others, random_actions(envs, 60, step))
        shown.append(envs.step(action)[0])
    assert anchors >= 2
    assert any(len(set(each)) > 1 for each in lengths) or env_id == "pixelq/Catch-v0"


script = st.lists(st.one_of(st.integers(1, 90), st.just("reset"), st.just("seeded reset")), min_size=1, max_size=8)


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from(["CartPole-v1", "pixelq/Catch-v0"]), script, st.integers(0, 2**31), st.integers(1, 3))
def test_goes_on_exactly_from_any_moment(env_id, events, seed, num_envs):
    envs, others = make_vec(env_id, num_envs, seed), make_vec(env_id, num_envs, 0)
    shown = envs.reset()[0]
    for number, event in enumerate(events):
        if event == "reset":
            shown = envs.reset()[0]
        elif event == "seeded reset":
            shown = envs.reset(seed=seed + number)[0]
        else:
            for action in random_actions(envs, event, number):
                shown = envs.step(action)[0]
        state = envs.get_state()
        np.testing.assert_array_equal(others.set_state(state), shown, strict=True)
        assert_same(others.get_state(), state)
    assert_goes_on(envs, others, random_actions(envs, 120, 99))
    np.testing.assert_array_equal(envs.reset()[0], others.reset()[0])
    assert_goes_on(envs, others, random_actions(envs, 120, 98))


def test_an_anchor_is_a_reset_with_its_seed():
    envs = make_vec("pixelq/Catch-v0", 2, 0)
    envs.reset()
    found = []
    for action in random_actions(envs, 150):
        observations = envs.step(action)[0]
        state = envs.get_state()
        if (state["lengths"] == 0).all():
            for k in range(2):
                words = np.random.SeedSequence([int(state["bases"][k]), int(state["anchors"][k])]).generate_state(1)
                expected = gymnasium.make("pixelq/Catch-v0").reset(seed=int(words[0]) >> 1)[0]
                np.testing.assert_array_equal(observations[k], expected)
            found.append(state["anchors"].tolist())
        assert state["lengths"].max() <= 50  # an episode and the step that resets it take 10
    assert found == [[1, 1], [2, 2], [3, 3]]


def test_before_the_first_anchor_games_are_those_of_gymnasium():
    envs, plain = make_vec("CartPole-v1", 1, 0), gymnasium.make("CartPole-v1")
    observations, _ = envs.reset()
    np.testing.assert_array_equal(observations[0], plain.reset(seed=int(envs.get_state()["bases"][0]))[0])
    done = False
    for action in random_actions(envs, EVERY):
        expected = plain.reset()[0] if done else plain.step(action[0])[0]
        observations, _, terminated, truncated, _ = envs.step(action)
        np.testing.assert_array_equal(observations[0], expected)
        done = terminated[0] or truncated[0]


@pytest.mark.parametrize(("actions", "start"), [(300, 0), (2, 5), (256, 0), (255, 0)])
def test_any_number_of_actions_counted_from_anywhere(scripted, actions, start):
    env_id = scripted(actions=actions, start=start)
    envs, others = make_vec(env_id, 3, 0), make_vec(env_id, 3, 1)
    envs.reset()
    for action in random_actions(envs, 33):
        envs.step(action)
    envs.reset()
    envs.step(np.full(3, actions - 1))
    state = envs.get_state()
    assert state["actions"].dtype == (np.uint8 if actions < 256 else np.uint16)
    others.set_state(state)
    assert_goes_on(envs, others, random_actions(envs, 200, 1))


def test_environments_that_have_not_begun_are_not_stepped(scripted):
    steps = []

    def refuse_nothing(action):
        assert action != 0
        steps.append(action)

    env_id = scripted(on_step=refuse_nothing)
    envs = make_vec(env_id, 3, 0)
    envs.reset()
    for action in 1 + random_actions(envs, 70) // 2:
        envs.step(action)
    state = envs.get_state()
    assert len(set(state["lengths"])) == 3
    steps.clear()
    others = make_vec(env_id, 3, 1)
    others.set_state(state)
    assert 0.5 * state["lengths"].sum() < len(steps) <= state["lengths"].sum()
    assert_goes_on(envs, others, 1 + random_actions(envs, 70, 1) // 2)


class Restless:
    """What is not determined by seed and actions: it counts calls over all environments there ever were."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *_):
        self.calls += 1
        return float(self.calls > 60)


def test_an_environment_that_does_not_play_the_same_again_is_refused(scripted):
    env_id = scripted(reward=Restless())  # the observations are the same
    envs = make_vec(env_id, 1, 0)
    envs.reset()
    for action in random_actions(envs, 30):
        envs.step(action)
    state = envs.get_state()
    others = make_vec(env_id, 1, 1)
    others.set_state(state)  # these rewards were the same once more
    for _ in range(2):
        with pytest.raises(InvalidEnv, match=rf"^'{env_id}' did not play the same again; its seed and actions do not"):
            others.set_state(state)
        with pytest.raises(RuntimeError, match="the environment was not reset; call reset first"):
            others.step(np.zeros(1, np.int64))
        with pytest.raises(RuntimeError, match="the environment was not reset; call reset first"):
            others.get_state()
    others.reset()
    others.step(np.zeros(1, np.int64))


def test_a_state_of_another_environment_is_refused():
    envs = make_vec("CartPole-v1", 2)
    envs.reset()
    with pytest.raises(InvalidEnv, match="'Acrobot-v1' did not play the same again"):
        make_vec("Acrobot-v1", 2).set_state(envs.get_state())


class Fault:
    """Raises when it is called for the n-th time."""

    def __init__(self, at, error=None):
        self.calls, self.at, self.error = 0, at, error or ZeroDivisionError("division by zero\nand more")

    def __call__(self, *_):
        self.calls += 1
        if self.calls == self.at:
            raise self.error


def test_an_error_of_an_environment_is_one_sentence_and_restart_goes_on(scripted):
    closed = []

    def refuse():
        closed.append(1)
        raise OSError("it does not close")

    fault = Fault(at=200)
    env_id = scripted(on_step=fault, on_close=refuse)
    envs = make_vec(env_id, 3, 0)
    envs.reset()
    actions = random_actions(envs, 400)
    with pytest.raises(EnvironmentFailed) as caught:
        [envs.step(action) for action in actions]
    assert str(caught.value) == f"'{env_id}' failed: ZeroDivisionError: division by zero"
    assert caught.value.__cause__ is fault.error
    for use in (envs.get_state, lambda: envs.step(actions[0])):
        with pytest.raises(RuntimeError, match="the environment was not reset; call reset first"):
            use()
    with pytest.raises(RuntimeError, match="recv was called without send"):
        envs.recv()
    before = envs._log.get_state(np.zeros(3, np.uint32))["anchors"]
    old = envs._envs
    observations = envs.restart()
    assert envs._envs is not old
    assert len(closed) == 3
    state = envs.get_state()
    np.testing.assert_array_equal(state["anchors"], before + 1)
    assert state["lengths"].tolist() == [0, 0, 0]
    others = make_vec(env_id, 3, 8)
    np.testing.assert_array_equal(others.set_state(state), observations, strict=True)
    assert_goes_on(envs, others, actions[:100])
    for each in (envs, others):
        each._envs.closed = True  # or they complain when they are collected


def test_an_error_in_the_first_reset(scripted):
    env_id = scripted(on_reset=Fault(at=2, error=KeyError()))
    envs = make_vec(env_id, 2, 0)
    with pytest.raises(EnvironmentFailed, match=rf"^'{env_id}' failed: KeyError$"):
        envs.reset()
    observations = envs.restart()
    others = make_vec(env_id, 2, 1)
    np.testing.assert_array_equal(others.set_state(envs.get_state()), observations)
    assert_goes_on(envs, others, random_actions(envs, 100))


def test_after_an_error_a_reset_has_new_seeds_too(scripted):
    env_id = scripted(on_step=Fault(at=50))
    envs = make_vec(env_id, 2, 0)
    envs.reset()
    with pytest.raises(EnvironmentFailed):
        [envs.step(action) for action in random_actions(envs, 50)]
    observations, _ = envs.reset()
    assert envs.get_state()["lengths"].tolist() == [0, 0]
    others = make_vec(env_id, 2, 1)
    np.testing.assert_array_equal(others.set_state(envs.get_state()), observations)
    assert_goes_on(envs, others, random_actions(envs, 100))


def test_an_error_while_a_state_is_restored(scripted):
    fault = Fault(at=100)
    env_id = scripted(on_step=fault)
    envs = make_vec(env_id, 2, 0)
    envs.reset()
    for action in random_actions(envs, 30):
        envs.step(action)
    fault.calls = 80
    with pytest.raises(InvalidEnv, match="did not play the same again") as caught:
        envs.set_state(envs.get_state())
    assert isinstance(caught.value.__cause__, EnvironmentFailed)
    envs.restart()
    others = make_vec(env_id, 2, 1)
    others.set_state(envs.get_state())
    assert_goes_on(envs, others, random_actions(envs, 100))


def test_restart_forgets_what_was_sent_and_makes_the_same_environments():
    envs = make_vec("CartPole-v1", 2, 0)
    envs.reset()
    envs.send(np.zeros(2, np.int64))
    observations = envs.restart()
    assert observations.shape == (2, 4)
    assert envs.get_state()["anchors"].tolist() == [1, 1]
    assert (envs.restart() != observations).all()
    envs.close()
    with pytest.raises(RuntimeError, match="the environment is closed; make a new one"):
        envs.restart()


def test_when_a_state_can_be_had():
    envs = make_vec("CartPole-v1", 2, 0)
    with pytest.raises(RuntimeError, match="the environment was not reset; call reset first"):
        envs.get_state()
    envs.reset()
    state = envs.get_state()
    envs.send(np.zeros(2, np.int64))
    for use in (envs.get_state, lambda: envs.set_state(state)):
        with pytest.raises(RuntimeError, match=r"(get|set)_state was called between send and recv; call recv first"):
            use()
    envs.recv()
    envs.close()
    for use in (envs.get_state, lambda: envs.set_state(state)):
        with pytest.raises(RuntimeError, match="the environment is closed; make a new one"):
            use()


NUMBERS = st.one_of(
    st.integers(-3, 60), st.sampled_from([255, 256, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63), -(2**31)])
)
DTYPES = "int8 uint8 int32 >i8 int64 uint32 uint64 float32 float64 bool U9 O M8[s]".split()


@st.composite
def mutations(draw, state):
    """The state with one to three things changed in it."""
    changed = {name: array.copy() for name, array in state.items()}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(changed) or [""]))
        array = changed.get(name)
        kind = draw(st.sampled_from(["value", "order", "dtype", "shape", "drop", "add", "other"]))
        if kind == "drop":
            changed.pop(name, None)
        elif kind == "add":
            changed[draw(st.text(max_size=3))] = np.zeros(2)
        elif kind == "other":
            changed[name] = draw(st.sampled_from([None, [0, 1], "text", b"bytes", 3, {}, [[1], [2, 3]]]))
        elif not isinstance(array, np.ndarray):
            continue
        elif kind == "dtype":
            dtype = draw(st.sampled_from(DTYPES))
            with (
                np.errstate(all="ignore"),
                contextlib.suppress(ValueError, TypeError, OverflowError),
            ):  # not every type goes into every other
                changed[name] = array.astype(dtype)
        elif kind == "shape":
            flat = array.reshape(-1)
            shapes = [flat[:-1], flat[1:], flat[None], flat[:, None], flat[:0], np.zeros((), array.dtype)]
            changed[name] = draw(st.sampled_from([*shapes, np.repeat(flat, 2), np.tile(flat, 1000)]))
        elif kind == "order":
            changed[name] = array.reshape(-1)[draw(st.permutations(range(array.size)))]
        elif array.size and array.dtype.kind in "iu":
            index = draw(st.integers(0, array.size - 1))
            array.reshape(-1)[index] = np.array(draw(NUMBERS) % 2**64, np.uint64).astype(array.dtype)
    return changed


@settings(max_examples=examples(400), deadline=None)
@given(st.data())
def test_no_state_does_anything_but_play_the_same_or_be_refused(data):
    envs = make_vec("pixelq/Catch-v0", 2, 3)
    envs.reset()
    shown = [envs.step(action)[0] for action in random_actions(envs, 47)][-1]
    changed = data.draw(mutations(envs.get_state()))
    with contextlib.suppress(InvalidEnv):
        np.testing.assert_array_equal(make_vec("pixelq/Catch-v0", 2, 3).set_state(changed), shown)


@pytest.mark.parametrize("state", [None, [], "text", {}, {1: 2}])
def test_what_is_no_state_at_all_is_refused(state):
    envs = make_vec("pixelq/Catch-v0", 2)
    names = "bases, anchors, lengths, actions, crcs"
    with pytest.raises(InvalidEnv, match=f"the state of environments must hold the arrays {names} and nothing else"):
        envs.set_state(state)
