"""Action masks as environments give them: types, places, and what is refused."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList

from pixelq.envs import EnvironmentFailed, make_vec
from pixelq.envs.action_masks import ActionMasks
from tests.support.masked_envs import Corridor, UnmaskedCorridor

ROWS = np.array([[1, 0, 1, 0], [0, 1, 1, 1]])


class WithMethod(UnmaskedCorridor):
    """Masks by the method that sb3-contrib asks for; it is not asked at an episode's end."""

    def action_masks(self) -> Any:
        assert self.place < self.LENGTH - 1
        return self.allowed().astype(bool)


def vector(env: Any = UnmaskedCorridor, num_envs: int = 2) -> Any:
    return SyncVectorEnv([env] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.float32])
def test_masks_of_any_type_are_read(dtype: Any) -> None:
    masks = ActionMasks(vector(), 4).read({"action_mask": ROWS.astype(dtype)})
    assert masks is not None
    assert masks.dtype == np.bool_
    np.testing.assert_array_equal(masks, ROWS)


def test_lists_are_read_too() -> None:
    for info in (
        {"action_mask": np.array([list(ROWS[0]), None, list(ROWS[1])], object)[[0, 2]]},
        [{"action_mask": row} for row in ROWS],
        [{"action_mask": row.tolist()} for row in ROWS],
        {"action_mask": [row.tolist() for row in ROWS]},
    ):
        np.testing.assert_array_equal(ActionMasks(vector(), 4).read(info), ROWS)


def test_the_environments_own_array_is_copied() -> None:
    given = ROWS.astype(bool)
    masks = ActionMasks(vector(), 4).read({"action_mask": given})
    given[:] = False
    np.testing.assert_array_equal(masks, ROWS)


def test_without_masks_there_are_none() -> None:
    for envs in (vector(), make_vec(UnmaskedCorridor, 2)):
        masks = ActionMasks(envs, 4)
        assert masks.read(envs.reset()[1]) is None
        assert masks.read(envs.step(np.array([1, 1]))[4]) is None


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ({"action_mask": ROWS[:, :3]}, r"^'SyncVectorEnv' must give an action mask of shape \(2, 4\), got \(2, 3\)$"),
        ([{"action_mask": ROWS[0]}, {"action_mask": [1]}], r"action mask of shape \(4,\), got \(1,\)$"),
        ({"action_mask": 2 * ROWS}, r"action mask of 0 and 1, got \[\[2, 0, 2, 0\], \[0, 2, 2, 2\]\]$"),
        ({"action_mask": ROWS + np.nan}, "action mask of 0 and 1, got"),
        ({"action_mask": ["abcd", "abcd"]}, r"action mask of shape \(4,\), got \(\)$"),
        (
            {"action_mask": ROWS * [[1], [0]]},
            r"^'SyncVectorEnv' must .* mask that allows an action, got none in environment 1$",
        ),
        ({}, "^'SyncVectorEnv' gave no info"),
        ({"action_mask": ROWS, "_action_mask": np.array([True, False])}, "in environment 1; it must give it always or"),
    ],
)
def test_masks_that_cannot_be_used_are_refused(info: Any, sentence: str) -> None:
    masks = ActionMasks(vector(), 4)
    masks.read({"action_mask": ROWS})
    with pytest.raises(EnvironmentFailed, match=sentence):
        masks.read(info)


def test_masks_that_come_later_are_refused() -> None:
    masks = ActionMasks(vector(), 4)
    assert masks.read({}) is None
    with pytest.raises(EnvironmentFailed, match=r"gave info.*but not at the first reset; it must give it always or"):
        masks.read({"action_mask": ROWS})


def test_where_no_action_is_chosen_no_mask_is_needed() -> None:
    masks, needless = ActionMasks(vector(), 4), np.array([False, True])
    masks.read({"action_mask": ROWS})
    for info in (
        {"action_mask": ROWS * [[1], [0]]},
        {"action_mask": ROWS, "_action_mask": np.array([True, False])},
        [{"action_mask": ROWS[0]}, {}],
    ):
        np.testing.assert_array_equal(masks.read(info, needless), [[1, 0, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(masks.read({}, np.array([True, True])), np.ones((2, 4)))


@pytest.mark.parametrize("made", [vector, lambda env: make_vec(env, 2), lambda env: DictInfoToList(vector(env))])
@pytest.mark.parametrize("env", [Corridor, WithMethod])
def test_masks_follow_the_environment_through_its_resets(made: Any, env: Any) -> None:
    envs = made(env)
    masks, place, done = ActionMasks(envs, 4), np.zeros(2, int), np.zeros(2, bool)
    read, rng = masks.read(envs.reset(seed=0)[1]), np.random.default_rng(0)
    ends = 0
    for _ in range(100):
        for k in range(2):
            twin = Corridor()
            twin.place = int(place[k])
            expected = np.ones(4) if done[k] else twin.allowed()
            np.testing.assert_array_equal(read[k], expected)
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in read])
        obs, _, terminated, _, info = envs.step(actions)
        read, place, done = masks.read(info, terminated), obs.argmax(1), terminated
        ends += int(done.sum())
    assert ends > 10


def test_the_method_of_a_vector_environment_is_asked() -> None:
    class Vector(SyncVectorEnv):
        def action_masks(self) -> Any:
            return ROWS

    envs = Vector([UnmaskedCorridor] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    np.testing.assert_array_equal(ActionMasks(envs, 4).read({}), ROWS)


def test_environments_at_rest_keep_their_masks() -> None:
    envs = make_vec(Corridor, 2)
    masks = ActionMasks(envs, 4)
    masks.read(envs.reset()[1])
    read = masks.read(envs.step(np.array([1, 1]))[4])
    envs.rest(np.array([True, False]))
    for _ in range(3):
        after = masks.read(envs.step(np.array([0, 3]))[4])  # the first action would be forbidden
        assert read is not None
        assert after is not None
        np.testing.assert_array_equal(after[0], read[0])
    assert after[1].tolist() == [False, True, True, True]  # the other is at the second place all the time


def test_taxi_has_masks() -> None:
    envs = gymnasium.make_vec("Taxi-v4", 3, vectorization_mode="sync")
    masks = ActionMasks(envs, 6)
    read, rng = masks.read(envs.reset(seed=0)[1]), np.random.default_rng(0)
    for _ in range(60):
        states = [env.unwrapped for env in envs.unwrapped.envs]  # type: ignore[attr-defined]
        for row, taxi in zip(read, states, strict=True):
            np.testing.assert_array_equal(row, taxi.action_mask(taxi.s) == 1)
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in read])
        read = masks.read(envs.step(actions)[4])
