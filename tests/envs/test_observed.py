"""What agents see of observations that are no Box, and of pictures that are prepared."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, OneOf, Sequence, Space, Text, Tuple

from pixelq.agents.storage import validation
from pixelq.envs import InvalidEnv, make_filmed, make_vec, observed
from pixelq.envs.interface import all_inside, notes_of, wrapper_with_statistics
from pixelq.envs.observed import value_notes

PIXELS = Box(0, 255, (2, 3, 3), np.uint8)


def showing(space: Space[Any], *shown: Any, picture: Any = None) -> type[gymnasium.Env[Any, Any]]:
    """Return an environment that shows the given observations in turn, or else random ones, and ends after three."""

    class Showing(gymnasium.Env[Any, Any]):
        action_space = Discrete(2)
        observation_space = space

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            space.seed(seed)
            self.steps = -1
            return self.show(), {}

        def step(self, action: Any) -> Any:
            return self.show(), 1.0, self.steps == 3, False, {}

        def show(self) -> Any:
            self.steps += 1
            return shown[self.steps % len(shown)] if shown else space.sample()

    return Showing


@pytest.mark.parametrize(
    ("space", "shown", "flat", "dtype"),
    [
        (Discrete(4), 2, [0, 0, 1, 0], "int64"),
        (Discrete(3, start=5), 6, [0, 1, 0], "int64"),
        (MultiDiscrete([2, 3]), [1, 0], [0, 1, 1, 0, 0], "int64"),
        (MultiBinary(3), [1, 0, 1], [1, 0, 1], "int8"),
        (Tuple([Discrete(2), Box(-1, 1, (2,), np.float32)]), (1, np.float32([0.5, -1])), [0, 1, 0.5, -1], "float64"),
        (
            Dict(b=Discrete(2), a=Dict(x=MultiBinary(2), y=Box(0, 9, (1, 2), np.int64))),
            {"b": 0, "a": {"x": np.int8([1, 1]), "y": np.int64([[7, 8]])}},
            [1, 0, 1, 1, 7, 8],
            "int64",
        ),
        (Dict(a=PIXELS), {"a": np.arange(18, dtype=np.uint8).reshape(2, 3, 3)}, [*range(18)], "uint8"),
    ],
)
def test_other_spaces_are_laid_out_as_one_vector(space: Any, shown: Any, flat: list[float], dtype: str) -> None:
    envs = make_vec(showing(space, shown if isinstance(shown, int | tuple | dict) else np.array(shown)), 2)
    observations, _ = envs.reset()
    assert isinstance(envs.single_observation_space, Box)
    assert (envs.single_observation_space.shape, observations.dtype.name) == ((len(flat),), dtype)
    assert observations.tolist() == [flat, flat]
    assert envs.step(np.array([0, 1]))[0].tolist() == [flat, flat]
    assert envs.frame_stack == 1


@pytest.mark.parametrize("space", [Box(0, 1, (), np.float32), Box(0, 1, (3,), bool), Box(-5, 5, (2, 2), np.int16)])
def test_boxes_stay_as_they_are(space: Box) -> None:
    envs = make_vec(showing(space), 2)
    assert envs.single_observation_space == space
    assert envs.reset()[0].dtype == space.dtype


def test_gymnasium_s_own_tables_can_be_played() -> None:
    for env_id, size, ones in (("FrozenLake-v1", 16, 1), ("Blackjack-v1", 45, 3), ("Taxi-v4", 500, 1)):
        observations, _ = make_vec(env_id, 2).reset()
        assert observations.shape == (2, size)
        assert (observations == 1).sum(1).tolist() == [ones, ones]


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (Text(4), "has observations Text"),
        (Graph(Box(0, 1, (2,)), None), "has observations Graph"),
        (OneOf([Discrete(2), Discrete(3)]), "has observations OneOf"),
        (Box(0, 1, (0,)), "has observations of 0 numbers; give an environment with 1 to 16,777,216"),
        (
            Box(0, 255, (2500, 2500, 3), np.uint8),
            "has observations of 18,750,000 numbers; give an environment with 1 to",
        ),
        (Dict(), "has observations of 0 numbers; give an environment with 1 to 16,777,216"),
        (Discrete(2**24 + 1), "has observations of 16,777,217 numbers; give an environment with 1 to 16,777,216"),
        (
            Tuple([Discrete(2), Sequence(Discrete(2))]),
            r"with Sequence\(.* as '1', which cannot be laid out as numbers;",
        ),
        (
            Dict(a=Discrete(2), b=Dict(c=Text(3))),
            r"with Text\(.* as 'b.c', which .*; keep the others by the wrapper gymnasium.wrappers.FilterObservation "
            r"with \['a'\]$",
        ),
    ],
)
def test_what_is_no_number_is_refused_in_a_sentence(space: Any, sentence: str) -> None:
    with pytest.raises(InvalidEnv, match=sentence):
        make_vec(showing(space), 1)


def test_pictures_become_grey_smaller_and_stacked() -> None:
    red, green = np.zeros((2, 4, 6, 3), np.uint8)
    red[..., 0], green[..., 1] = 200, 100
    red[:2] = 0
    envs = make_vec(
        showing(Box(0, 255, (4, 6, 3), np.uint8), red, green), 2, frame_size=2, grayscale=True, frame_stack=3
    )
    assert (envs.frame_stack, envs.single_observation_space.shape) == (3, (3, 2, 2))
    first, _ = envs.reset()
    # 200 · 0.2125 = 42 and 100 · 0.7154 = 71; each new pixel is the mean of 2 × 3 old ones.
    assert first[0].tolist() == [[[0, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [42, 42]]]
    second = envs.step(np.array([0, 0]))[0]
    assert second[1].tolist() == [[[0, 0], [0, 0]], [[0, 0], [42, 42]], [[71, 71], [71, 71]]]
    for _ in range(3):
        last = envs.step(np.array([0, 0]))[0]
    assert last[:, :2].max() == 0  # the stack starts anew with the episode


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((8, 6), {"frame_size": 4}, (4, 4)),
        ((8, 6), {"grayscale": True}, (8, 6)),
        ((8, 6, 1), {"frame_size": 4, "grayscale": True}, (4, 4, 1)),
        ((8, 6, 3), {"frame_size": 4}, (4, 4, 3)),
        ((8, 6, 3), {"frame_stack": 2}, (2, 8, 6, 3)),
        ((8, 6, 3), {"frame_stack": 2, "grayscale": True}, (2, 8, 6)),
        ((8, 8, 3), {"frame_size": 8}, (8, 8, 3)),
        ((2048, 8193), {"frame_size": 8}, (8, 8)),  # more numbers than an agent may see
    ],
)
def test_shapes_of_prepared_pictures(shape: tuple[int, ...], options: Any, expected: tuple[int, ...]) -> None:
    envs = make_vec(showing(Box(0, 255, shape, np.uint8)), 1, **options)
    assert envs.single_observation_space.shape == expected
    assert envs.reset()[0].shape == (1, *expected)
    assert envs.frame_stack == options.get("frame_stack", 1)


@pytest.mark.parametrize(
    ("env", "options", "sentence"),
    [
        ("CartPole-v1", {"frame_size": 84}, "leave out frame_size, which needs pictures, a Box uint8"),
        ("FrozenLake-v1", {"grayscale": True}, r"has observations Discrete\(16\); leave out grayscale"),
        (showing(Box(0, 1, (8, 8, 3), np.float32)), {"frame_size": 4}, "leave out frame_size, which needs pictures"),
        (showing(Box(0, 255, (4, 8, 8), np.uint8)), {"grayscale": True}, "leave out grayscale, which needs pictures"),
        ("CartPole-v1", {"frame_size": 0}, "frame_size must be an integer of at least 1, got 0"),
        ("CartPole-v1", {"frame_size": 1000}, "frame_size must be at most 512, got 1,000"),
        ("CartPole-v1", {"frame_stack": 17}, "frame_stack must be at most 16, got 17"),
        ("CartPole-v1", {"grayscale": "yes"}, "grayscale must be True or False, got 'yes'"),
    ],
)
def test_a_preparation_that_does_not_fit_is_refused(env: Any, options: Any, sentence: str) -> None:
    with pytest.raises(InvalidEnv, match=sentence):
        make_vec(env, 1, **options)


@pytest.mark.parametrize("make", [make_vec, make_filmed])
def test_arguments_of_atari_games_alone_are_checked_everywhere(make: Any) -> None:
    for value, sentence in (
        (True, "only Atari games have all joystick actions; leave full_action_space out"),
        ("x", "full_action_space must be True or False, got 'x'"),
        (None, "full_action_space must be True or False, got None"),
    ):
        with pytest.raises(InvalidEnv) as caught:
            make("pixelq/Catch-v0", full_action_space=value)
        assert str(caught.value) == sentence
    made = make("pixelq/Catch-v0", full_action_space=False, grayscale=np.False_)
    assert made.arguments == {}


def test_numbers_of_threads_are_checked_everywhere() -> None:
    for env in ("CartPole-v1", "ALE/Pong-v5"):
        with pytest.raises(InvalidEnv, match=r"^num_threads must be an integer of at least 0, got -3$"):
            make_vec(env, 1, num_threads=-3)
    assert make_vec("CartPole-v1", 1, num_threads=3).arguments == {}


def test_stacked_pictures_are_restored_exactly() -> None:
    class Noise(showing(Box(0, 255, (8, 8, 3), np.uint8))):  # type: ignore[misc]
        def show(self) -> Any:
            self.steps += 1
            return self.np_random.integers(0, 256, (8, 8, 3), np.uint8)

    envs = make_vec(Noise, 2, frame_size=4, grayscale=True, frame_stack=3)
    envs.reset()
    for _ in range(6):
        before = envs.step(np.array([0, 1]))[0]
    state, after = envs.get_state(), [envs.step(np.array([1, 0]))[0] for _ in range(5)]
    again = make_vec(Noise, 2, seed=1, frame_size=4, grayscale=True, frame_stack=3)
    np.testing.assert_array_equal(again.set_state(state), before)
    np.testing.assert_array_equal([again.step(np.array([1, 0]))[0] for _ in range(5)], after)


@pytest.mark.parametrize(
    ("space", "notes"),
    [
        (Box(0, 255, (8, 8, 3), np.float32), ["the observations are pictures of float32 in [0, 255], and networks"]),
        (Box(0, 255, (8, 8), np.int64), ["the observations are pictures of int64 in [0, 255], and networks"]),
        (Box(0, 1, (8, 8), np.float32), []),
        (Box(0, 255, (8,), np.float32), ["the observations are float32 in [0, 255], and networks do not scale these"]),
        (Box(np.float32([0, 0]), np.float32([1, 255]), dtype=np.float32), []),
        (Box(0, 9, (4,), np.uint8), ["the observations are uint8 of at most 9, and networks divide uint8 by 255"]),
        (Box(0, 255, (4,), np.uint8), []),
        (Dict(a=PIXELS), []),
        (Dict(a=PIXELS, b=Discrete(2)), []),
        (
            Dict(a=Box(0, 255, (100, 100, 3), np.uint8)),
            ["the observations are laid out as 30,000 numbers for a network"],
        ),
        (Discrete(20_000), []),
        (Discrete(200_000), ["the observations become one-hot vectors of 200,000 numbers, for which"]),
        (MultiBinary(20_001), ["the observations become vectors of 20,001 numbers, for which"]),
    ],
)
def test_suspicious_spaces_get_a_sentence(space: Any, notes: list[str]) -> None:
    found = notes_of(make_vec(showing(space), 1))
    assert [one.startswith(other) for one, other in zip(found, notes, strict=True)] == [True] * len(notes)


@pytest.mark.parametrize(
    ("shown", "note"),
    [
        (np.full((1, 8, 8), 200, np.float32), "the first observations are float32 from 200 to 200, and networks"),
        (np.full((1, 8, 8), -3, np.float32), None),
        (np.full((1, 8), 200, np.float32), None),
        (np.full((1, 7, 7, 3), 10, np.uint8), "the first observations are uint8 of at most 10, and networks divide"),
        (np.zeros((1, 7, 7, 3), np.uint8), None),
        (np.full((1, 7, 7, 3), 16, np.uint8), None),
        (np.full((1, 7), 1, bool), None),
    ],
)
def test_suspicious_values_get_a_sentence(shown: Any, note: str | None) -> None:
    found = value_notes(shown)
    assert len(found) == (note is not None)
    assert all(one.startswith(str(note)) for one in found)


def test_colours_beside_other_observations_get_a_sentence() -> None:
    space = Dict(a=PIXELS, b=Discrete(2), c=Tuple([PIXELS]))
    unscaled = make_vec(showing(space), 1).unscaled  # type: ignore[union-attr]
    assert unscaled == ("a", "c.0")
    assert make_vec(showing(Dict(a=PIXELS)), 1).unscaled == ()  # type: ignore[union-attr]
    assert make_vec(showing(PIXELS), 1).unscaled == ()  # type: ignore[union-attr]
    (note,) = value_notes(np.array([[11, 1]]), unscaled)
    assert note.startswith("the observations in 'a' and 'c.0' may be colours of up to 255, and are not scaled")
    assert value_notes(np.array([[10, 1]]), unscaled) == value_notes(np.array([[11, 1]])) == ()


def test_wrappers_with_statistics_are_found_wherever_they_are() -> None:
    wrappers, vector = gymnasium.wrappers, gymnasium.wrappers.vector
    cartpole = lambda: gymnasium.make("CartPole-v1")  # noqa: E731
    assert wrapper_with_statistics(all_inside(make_vec(cartpole, 1))) is None
    for wrap in (wrappers.NormalizeObservation, wrappers.NormalizeReward):
        inside = make_vec(lambda wrap=wrap: wrappers.TimeAwareObservation(wrap(cartpole())), 1)  # type: ignore[misc]
        assert wrapper_with_statistics(all_inside(inside)) == wrap.__name__
    normalized = vector.NormalizeObservation(make_vec("CartPole-v1", 1))
    assert wrapper_with_statistics(all_inside(normalized)) == "NormalizeObservation"


def test_the_largest_observations_are_those_that_a_saved_agent_may_have() -> None:
    """Rooms forbid the two modules to share the number."""
    assert observed.MOST_NUMBERS == validation.MOST_NUMBERS
