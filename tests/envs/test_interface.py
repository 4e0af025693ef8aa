"""Abilities and metadata of environments, with and without wrappers around them."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv, VectorWrapper
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import FlattenObservation, RecordEpisodeStatistics, TransformObservation

from pixelq.envs import (
    GYMNASIUM,
    PROTOCOLS,
    BackgroundStepping,
    Restartable,
    Restorable,
    background_stepping,
    env_id,
    frame_stack_of,
    frames_per_step,
    make_filmed,
    make_vec,
    protocol_of,
    restartable,
    restorable,
    with_flicker,
)
from pixelq.envs.interface import has_time_limit, resting
from pixelq.envs.protocols import NO_LIMIT

PONG = "ALE/Pong-v5"


class HandingOn(VectorWrapper):
    """Doubles the rewards of a step, and hands every other attribute on to the environments inside."""

    def step(self, actions):
        observations, rewards, *rest = self.env.step(actions)
        return observations, 2 * rewards, *rest

    def __getattr__(self, name):
        return getattr(self.env, name)


class Stepping(HandingOn):
    """A wrapper that defines the two halves of its step itself."""

    def send(self, actions):
        self.env.send(actions)

    def recv(self):
        observations, rewards, *rest = self.env.recv()
        return observations, 2 * rewards, *rest


@pytest.mark.parametrize(
    ("make", "abilities"),
    [
        (lambda: make_vec(PONG, 2), (True, True, False)),
        (lambda: make_filmed(PONG), (True, False, False)),
        (lambda: make_vec("CartPole-v1", 2), (True, True, True)),
        (lambda: gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync"), (False, False, False)),
        (lambda: RecordEpisodeStatistics(make_vec("CartPole-v1", 2)), (False, False, False)),
        (lambda: HandingOn(make_vec("CartPole-v1", 2)), (False, False, False)),
        (lambda: Stepping(make_vec("CartPole-v1", 2)), (True, False, False)),
    ],
)
def test_abilities(make, abilities):
    envs = make()
    found = (background_stepping(envs), restorable(envs), restartable(envs))
    assert [each is envs for each in found] == list(abilities)
    assert [each is None for each in found] == [not has for has in abilities]
    for each, interface in zip(found, (BackgroundStepping, Restorable, Restartable), strict=True):
        assert each is None or isinstance(each, interface)
    envs.close()


def test_a_wrapper_that_hands_on_methods_keeps_its_own_step():
    envs = HandingOn(make_vec("CartPole-v1", 2))
    assert callable(envs.send)  # the instance has it, and it would bypass the doubled rewards
    envs.reset()
    envs.send(np.zeros(2, np.int64))
    assert envs.recv()[1].tolist() == [1.0, 1.0]
    assert envs.step(np.zeros(2, np.int64))[1].tolist() == [2.0, 2.0]
    assert background_stepping(envs) is None
    stepping = background_stepping(Stepping(make_vec("CartPole-v1", 2)))
    stepping.reset()
    stepping.send(np.zeros(2, np.int64))
    assert stepping.recv()[1].tolist() == [2.0, 2.0]


def test_half_an_ability_is_none():
    class Half:
        def send(self, actions):
            raise AssertionError

        def get_state(self):
            raise AssertionError

    assert (background_stepping(Half()), restorable(Half()), restartable(Half())) == (None, None, None)


def test_an_attribute_of_the_instance_is_no_ability():
    envs = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    envs.restart = envs.reset
    assert restartable(envs) is None
    envs.close()


def metadata(envs):
    return env_id(envs), protocol_of(envs), frame_stack_of(envs, -1), frames_per_step(envs)


def test_metadata():
    flickering = with_flicker("nature", 0.5)
    assert metadata(make_vec(PONG, 2)) == (PONG, PROTOCOLS["sticky"], 4, 4)
    assert metadata(make_vec(PONG, 2, protocol=flickering, frame_stack=2)) == (PONG, flickering, 2, 4)
    assert metadata(make_filmed(PONG, protocol=flickering, frame_stack=3)) == (PONG, flickering, 3, 4)
    assert metadata(make_vec("CartPole-v1", 2)) == ("CartPole-v1", GYMNASIUM, 1, 1)


def test_metadata_of_environments_that_have_none():
    envs = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    assert metadata(envs) == (None, None, -1, 1)
    assert frame_stack_of(envs) == 1
    envs.close()


def test_metadata_through_wrappers():
    assert metadata(RecordEpisodeStatistics(make_vec(PONG, 2))) == (PONG, PROTOCOLS["sticky"], 4, 4)
    assert metadata(RecordEpisodeStatistics(make_filmed(PONG))) == (PONG, PROTOCOLS["sticky"], 4, 4)
    changed = FlattenObservation(make_vec(PONG, 2))  # still four frames a step, but no stack
    assert metadata(changed) == (PONG, PROTOCOLS["sticky"], -1, 4)
    inside = make_vec(PONG, 2)  # of the same space, but the newest frame is the first
    reversed_ = RecordEpisodeStatistics(TransformObservation(inside, lambda obs: obs[:, ::-1]))
    assert metadata(reversed_) == (PONG, PROTOCOLS["sticky"], -1, 4)
    assert frame_stack_of(changed) == 1


def test_a_wrapper_that_changes_the_observations_may_have_metadata_of_its_own():
    changed = FlattenObservation(make_vec(PONG, 2))
    changed.frame_stack = 1
    changed.protocol = PROTOCOLS["nature"]
    assert metadata(changed) == (PONG, PROTOCOLS["nature"], 1, 4)


def test_foreign_attributes_of_the_same_names_are_not_metadata():
    envs = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    envs.env_id, envs.protocol, envs.frame_stack, envs.frames_per_step = 7, "tcp", None, lambda: 4
    assert metadata(envs) == (None, None, -1, 1)
    envs.close()


class Resting(HandingOn):
    """A wrapper that lets its environments rest itself."""

    def rest(self, mask):
        self.env.rest(mask)


def test_who_can_rest():
    for make, is_able in (
        (lambda: make_vec(PONG, 2), True),
        (lambda: make_vec("CartPole-v1", 2), True),
        (lambda: make_filmed(PONG), False),
        (lambda: HandingOn(make_vec("CartPole-v1", 2)), False),
        (lambda: Resting(make_vec("CartPole-v1", 2)), True),
    ):
        envs = make()
        assert resting(envs) is (envs if is_able else None)
        envs.close()


def test_time_limits_are_known_also_behind_wrappers():
    endless = replace(PROTOCOLS["sticky"], name="endless", max_frames=NO_LIMIT)
    for make, has_limit in (
        (lambda: make_vec(PONG, 1), True),
        (lambda: make_vec(PONG, 1, protocol=endless), False),
        (lambda: FlattenObservation(make_vec(PONG, 1)), True),
        (lambda: make_vec("CartPole-v1", 1), True),
        (lambda: make_vec("pixelq/Catch-v0", 1), False),
        (lambda: make_vec("pixelq/Catch-v0", 1, max_episode_steps=3), True),
        (lambda: HandingOn(make_vec("pixelq/Catch-v0", 1, max_episode_steps=3)), True),
        (lambda: SyncVectorEnv([lambda: TimeLimit(gymnasium.make("pixelq/Catch-v0"), 3)]), True),
        (lambda: SyncVectorEnv([lambda: gymnasium.make("pixelq/Catch-v0")]), False),
    ):
        envs = make()
        assert has_time_limit(envs) is has_limit
        envs.close()
