"""Insight: recorded episodes, activations, saliency and the map of states."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v2 as imageio
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from pixelq.agents import AgentConfig, InvalidRun, evaluate
from pixelq.agents.acting.policy import Policy
from pixelq.agents.errors import MissingExtra, how_to_install
from pixelq.agents.evaluation.episode import Game, film_episode
from pixelq.agents.insight.activations import feature_maps, first_filters, last_hidden
from pixelq.agents.insight.recording import RecordedEpisode, best_seed, record_episode, states_of
from pixelq.agents.insight.saliency import Saliency, gaussian_blur, gaussian_mask, saliency
from pixelq.agents.insight.state_map import embed, map_states, spread
from pixelq.envs import make_vec
from tests.support.cases import examples

pytestmark = pytest.mark.filterwarnings("ignore:.*No render fps was declared")
CATCH = "pixelq/Catch-v0"


def make_policy(shape: tuple[int, ...] = (1, 10, 5), actions: int = 3, dtype: Any = np.uint8, **config: Any) -> Policy:
    space = Box(0, 255, shape, dtype)
    return Policy(space, Discrete(actions), AgentConfig(**{"hidden": 16, **config}), device="cpu", seed=1)


def pixels(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


# --- an episode -------------------------------------------------------------------------------------------------------


class Counting(gymnasium.Env[Any, Any]):
    """An environment whose observation and picture are the number of steps, with rewards 1, 2, 3, …"""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (Gymnasium's attribute)
    observation_space = Box(0, 1000, (1,), np.float32)
    action_space = Discrete(2)
    length = 5
    screen = (6, 8)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.full(1, self.steps, np.float32), float(self.steps), self.steps == self.length, False, {}

    def render(self) -> Any:
        return np.full((*self.screen, 3), self.steps % 256, np.uint8)


gymnasium.register("tests/Counting-v0", Counting)


def counted(monkeypatch: pytest.MonkeyPatch, length: int, **options: Any) -> RecordedEpisode:
    monkeypatch.setattr(Counting, "length", length)
    return record_episode(make_policy((1,), 2, np.float32), Game("tests/Counting-v0"), **options)


def film_of(path: Path) -> tuple[NDArray[np.uint8], float]:
    with imageio.get_reader(path) as reader:
        return np.stack([np.asarray(frame) for frame in reader]), reader.get_meta_data()["fps"]


def test_an_episode_is_recorded_as_it_was_played(tmp_path: Path) -> None:
    policy = make_policy()
    episode = record_episode(policy, Game(CATCH, seed=7), tmp_path / "new" / "film.mp4")
    assert (episode.fps, episode.seed, episode.action_names) == (5, 7, ("0", "1", "2"))
    assert (episode.q_values.shape, episode.q_values.dtype) == ((9, 3), np.float32)
    assert episode.states.tolist() == list(range(9))
    np.testing.assert_allclose(episode.q_values, policy.q_values(episode.observations), atol=1e-6)
    np.testing.assert_array_equal(episode.actions, episode.q_values.argmax(1))
    np.testing.assert_array_equal(episode.values, episode.q_values[range(9), episode.actions])
    assert episode.rewards[:-1].tolist() == [0.0] * 8
    assert episode.total == episode.rewards[-1] == evaluate(policy, make_vec(CATCH, 1, 7), 1).returns[0]
    envs = make_vec(CATCH, 1, 7)
    obs, _ = envs.reset()
    for t, action in enumerate(episode.actions):
        np.testing.assert_array_equal(episode.observations[t], obs[0])
        np.testing.assert_array_equal(episode.pictures[t, ::16, ::16, 0], obs[0, 0])
        obs, reward, *_ = envs.step(np.array([action]))
        assert reward[0] == episode.rewards[t]
    assert episode.video is not None
    frames, fps = film_of(episode.video)
    assert (frames.shape, fps) == ((10, 480, 240, 3), 5)
    shown = frames.mean(-1).reshape(10, 10, 48, 5, 48).mean((2, 4)) > 128
    np.testing.assert_array_equal(shown[:9], episode.observations[:, 0] == 255)  # picture t is what step t saw
    np.testing.assert_array_equal(shown[9], obs[0, 0] == 255)  # and the last is the end


def test_recording_filming_and_evaluating_play_the_same_random_actions(tmp_path: Path) -> None:
    policy = make_policy()
    played = [record_episode(policy, Game(CATCH, epsilon=0.7, seed=seed)) for seed in range(12)]
    totals = [episode.total for episode in played]
    assert set(totals) == {-1.0, 1.0}
    assert totals == [
        evaluate(policy, make_vec(CATCH, 1, seed), 1, epsilon=0.7, seed=seed).returns[0] for seed in range(12)
    ]
    assert totals[3] == film_episode(policy, Game(CATCH, epsilon=0.7, seed=3), tmp_path / "film.mp4")
    greedy = np.concatenate([episode.actions == episode.q_values.argmax(1) for episode in played])
    assert 0.4 < greedy.mean() < 0.68  # 1 − 0.7 · ⅔ of 108 steps
    assert not list(tmp_path.glob("*.mp4"))[1:]
    assert played[0].video is None


@settings(max_examples=examples(40), deadline=None)
@given(length=st.integers(1, 70), most=st.integers(1, 20))
def test_states_are_evenly_spaced(length: int, most: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        episode = counted(monkeypatch, length, most_states=most)
    apart = episode.states[1] if len(episode.states) > 1 else length
    np.testing.assert_array_equal(episode.states, np.arange(0, length, apart))
    assert len(episode.states) <= most
    assert length <= most or len(episode.states) > most // 2
    np.testing.assert_array_equal(episode.observations[:, 0], episode.states)
    np.testing.assert_array_equal(episode.pictures[:, 0, 0, 0], episode.states)
    np.testing.assert_array_equal(episode.rewards, np.arange(1, length + 1))


def test_high_pictures_are_thinned_and_low_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "screen", (600, 401))
    assert counted(monkeypatch, 3).pictures.shape == (3, 200, 134, 3)
    monkeypatch.setattr(Counting, "screen", (256, 10))
    assert counted(monkeypatch, 3).pictures.shape == (3, 256, 10, 3)
    assert counted(monkeypatch, 3).fps == 30


@settings(max_examples=examples(30), deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), most=st.integers(1, 30))
def test_states_of_several_episodes(lengths: list[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        episodes = [counted(monkeypatch, length) for length in lengths]
    observations, pictures, memories = states_of(episodes, most)
    assert memories is None
    everything = np.concatenate([np.arange(length) for length in lengths])
    count = min(most, len(everything))
    assert len(observations) == count
    np.testing.assert_array_equal(observations[:, 0], pictures[:, 0, 0, 0])
    expected = everything[np.round(np.linspace(0, len(everything) - 1, count)).astype(int)]
    np.testing.assert_array_equal(observations[:, 0], expected)
    if most >= len(everything):
        np.testing.assert_array_equal(observations[:, 0], everything)


def test_the_best_of_several_is_played_again() -> None:
    policy = make_policy()
    seed, returns = best_seed(policy, Game(CATCH, seed=44), 6)
    assert returns == tuple(evaluate(policy, make_vec(CATCH, 1, s), 1).returns[0] for s in range(44, 50))
    assert -1.0 in returns
    assert returns.count(1.0) > 1
    assert seed == 44 + returns.index(1.0)  # the first of those that are equally good
    assert record_episode(policy, Game(CATCH, seed=seed)).total == 1.0
    games = [Game(CATCH, epsilon=1.0, seed=seed) for seed in range(44, 50)]
    _, random_returns = best_seed(policy, games[0], 6)
    assert random_returns == tuple(record_episode(policy, game).total for game in games)


@pytest.mark.slow
def test_an_atari_episode_is_the_same_with_pictures() -> None:
    policy = make_policy((4, 84, 84), 6)
    game = Game("ALE/Pong-v5", "nature", epsilon=0.5, seed=3)
    seed, returns = best_seed(policy, game, 2)
    episode = record_episode(policy, replace(game, seed=seed), most_states=100)
    assert episode.total == max(returns) == returns[seed - 3]
    assert set(episode.rewards.tolist()) <= {-1.0, 0.0, 1.0}
    assert episode.fps == 15
    assert episode.action_names == ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
    assert 50 < len(episode.states) <= 100
    assert episode.observations.shape == (len(episode.states), 4, 84, 84)
    assert episode.pictures.shape == (len(episode.states), 210, 160, 3)
    np.testing.assert_allclose(episode.q_values[episode.states], policy.q_values(episode.observations), atol=1e-5)


def test_recordings_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRun, match=r"file/film.mp4 cannot be written .*; use another folder"):
        record_episode(make_policy(), Game(CATCH), tmp_path / "file" / "film.mp4")
    with pytest.raises(ValueError, match="most_states must be at least 1, got 0"):
        counted(monkeypatch, 3, most_states=0)
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        best_seed(make_policy(), Game(CATCH), 0)
    with pytest.raises(ValueError, match="episodes must hold at least 1 episode, got 0"):
        states_of([], 5)
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        states_of([counted(monkeypatch, 3)], 0)


# --- inside the network -----------------------------------------------------------------------------------------------


def values_from_hidden(policy: Policy, hidden: NDArray[np.float32]) -> Tensor:
    """Return the q-values [B, A] that the last layers' weights give to the activations of `last_hidden`."""
    config, streams = policy.config, policy.network.head.streams
    width = config.hidden
    given_to = torch.from_numpy(hidden)

    def out(stream: Any, x: Tensor) -> Tensor:
        return x @ stream.out.weight.T + stream.out.bias

    z = out(streams.advantage, given_to[:, :width]).unflatten(-1, (policy.num_actions, -1))  # type: ignore[no-untyped-call]
    if config.dueling:
        z = out(streams.state_value, given_to[:, width:]).unsqueeze(1) + z - z.mean(1, keepdim=True)
    if config.head == "categorical":
        return (z.softmax(-1) * torch.linspace(config.v_min, config.v_max, config.atoms)).sum(-1)
    return z.mean(-1)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("head", ["scalar", "categorical", "quantile", "implicit", "fqf"])
@torch.no_grad()
def test_the_last_hidden_layer_gives_the_values(head: str, dueling: bool, noisy: bool) -> None:
    policy = make_policy(head=head, dueling=dueling, noisy=noisy, quantiles=7, atoms=11, layer_norm=noisy)
    for name, parameter in policy.network.named_parameters():
        if "proposal" in name:  # uneven fractions, and others at each observation
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    obs = pixels(150, 1, 10, 5)
    hidden = last_hidden(policy, obs)
    assert hidden.shape == (150, 32 if dueling else 16)
    assert hidden.dtype == np.float32
    assert (hidden >= 0).all()  # after the ReLU
    assert hidden.std(0).max() > 0.01
    torch.testing.assert_close(values_from_hidden(policy, hidden), policy.q_values(obs), atol=1e-5, rtol=1e-4)


def test_nothing_stays_in_the_network() -> None:
    policy = make_policy((1, 44, 44), head="fqf", dueling=True)
    before = {name: value.clone() for name, value in policy.network.state_dict().items()}
    last_hidden(policy, pixels(2, 1, 44, 44))
    feature_maps(policy, pixels(1, 44, 44))
    with pytest.raises(ValueError, match="the observation must have shape"):
        last_hidden(policy, pixels(2, 1, 44, 43))
    first_filters(policy)[:] = 0
    for module in policy.network.modules():
        assert not module._forward_hooks
    for name, value in policy.network.state_dict().items():
        assert torch.equal(value, before[name])


def test_activations_of_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="obs must hold at least 1 observation, got 0"):
        last_hidden(make_policy(), pixels(0, 1, 10, 5))
    with pytest.raises(ValueError, match=r"the observation must have shape \(1, 10, 5\), got \(2, 1, 10, 5\)"):
        feature_maps(make_policy(), pixels(2, 1, 10, 5))


@torch.no_grad()
def test_filters_and_maps_of_the_nature_network() -> None:
    policy = make_policy((4, 84, 84), encoder="nature")
    weights: Any = dict(policy.network.encoder.named_parameters())
    filters = first_filters(policy)
    assert filters.shape == (32, 4, 8, 8)
    np.testing.assert_array_equal(filters, weights["convolutions.0.weight"].numpy())
    obs = pixels(4, 84, 84)
    shown = feature_maps(policy, obs)
    assert [layer.name for layer in shown] == ["1: 8×8", "2: 4×4", "3: 3×3"]
    assert [layer.maps.shape for layer in shown] == [(32, 20, 20), (64, 9, 9), (64, 7, 7)]
    x = torch.from_numpy(obs).float()[None] / 255
    for layer, (index, stride) in zip(shown, [(0, 4), (2, 2), (4, 1)], strict=True):
        x = F.conv2d(x, weights[f"convolutions.{index}.weight"], weights[f"convolutions.{index}.bias"], stride).relu()
        np.testing.assert_allclose(layer.maps, x[0], atol=1e-5)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize(
    ("encoder", "shape", "sizes"),
    [
        ("dopamine", (4, 84, 84), [(32, 21, 21), (64, 11, 11), (64, 11, 11)]),
        ("der", (4, 84, 84), [(32, 16, 16), (64, 3, 3)]),
        ("minatar", (1, 10, 5), [(16, 8, 3)]),
        ("minatar", (10, 10, 6), [(16, 8, 8)]),  # channels last
        ("minatar", (10, 5), [(16, 8, 3)]),  # no channels
        ("impala", (4, 84, 84), [(16, 84, 84), *[(16, 42, 42)] * 4, (32, 42, 42), *[(32, 21, 21)] * 4]),
    ],
)
@torch.no_grad()
def test_maps_of_the_other_encoders(
    encoder: str, shape: tuple[int, ...], sizes: list[tuple[int, ...]], layer_norm: bool
) -> None:
    policy = make_policy(shape, encoder=encoder, layer_norm=layer_norm)
    obs = pixels(*shape)
    shown = [layer.maps for layer in feature_maps(policy, obs)]
    if encoder == "impala":
        sizes = [*sizes, (32, 21, 21), *[(32, 11, 11)] * 4]
        # Stages open with a convolution that is pooled first; the second in a block is added first.
        assert [bool((maps >= 0).all()) for maps in shown] == [False, True, False, True, False] * 3
    else:
        features = policy.network.encoder(torch.from_numpy(obs)[None])
        np.testing.assert_allclose(shown[-1].reshape(-1), features[0], atol=1e-6)
    assert [maps.shape for maps in shown] == sizes
    filters = first_filters(policy)
    first = next(layer for layer in policy.network.encoder.modules() if isinstance(layer, nn.Conv2d))
    np.testing.assert_array_equal(filters, first.weight.numpy())
    assert filters.shape[:2] == (sizes[0][0], {(10, 10, 6): 6, (10, 5): 1}.get(shape, shape[0]))


def test_an_mlp_has_neither_filters_nor_maps() -> None:
    policy = make_policy((1, 10, 5), encoder="mlp")
    assert feature_maps(policy, pixels(1, 10, 5)) == ()
    assert first_filters(policy).shape == (0, 0, 0, 0)


# --- saliency ---------------------------------------------------------------------------------------------------------


class Looking(Policy):
    """A policy whose q-values are `weights` [A] times the sum of the pixels, in [0, 1], in the part `seen`."""

    def __init__(self, shape: tuple[int, ...], seen: Any, weights: tuple[float, ...], dtype: Any = np.uint8) -> None:
        config = AgentConfig(hidden=4, encoder="mlp")
        super().__init__(Box(0, 255, shape, dtype), Discrete(len(weights)), config, device="cpu")
        self.seen, self.weights, self.most = seen, torch.tensor(weights), 0

    def q_values(self, obs: NDArray[Any], memory: Any = None) -> Tensor:
        assert obs.shape[1:] == self.observation_space.shape
        assert obs.dtype == self.observation_space.dtype
        self.most = max(self.most, len(obs))
        sums = obs[(slice(None), *self.seen)].astype(np.float32).reshape(len(obs), -1).sum(1) / 255
        return torch.from_numpy(sums)[:, None] * self.weights


def salient(policy: Policy, obs: NDArray[Any]) -> Saliency:
    found = saliency(policy, obs)
    assert found is not None
    return found


def test_saliency_peaks_where_the_network_looks() -> None:
    policy = Looking((4, 84, 84), (3, slice(38, 43), slice(18, 23)), (1.0, -2.0, 0.5))
    obs = pixels(4, 84, 84)
    obs[3, 38:43, 18:23] = 255  # bright, so that blurring darkens it
    found = salient(policy, obs)
    assert found.value.shape == found.q_values.shape == (84, 84)
    for image in (found.value, found.q_values):
        assert np.unravel_index(image.argmax(), image.shape) == (40, 20)
        assert image[40, 20] > 3 * image[50, 20] > 0
        assert (image[:, 50:] == 0).all()  # 25 pixels away nothing of it is blurred
        assert (image[70:] == 0).all()
    assert policy.most <= 65
    # The numbers at a point of the grid, by the equations and scipy.
    frame = obs[3].astype(float)
    rows, columns = np.mgrid[:84, :84]
    for row, column in [(40, 20), (45, 20), (35, 30)]:
        mask = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 50)
        blurred = frame * (1 - mask) + gaussian_filter(frame, 3, mode="nearest") * mask
        change = (blurred - frame)[38:43, 18:23].sum() / 255
        assert found.value[row, column] == pytest.approx(change**2 / 2, rel=0.02)  # pixels are rounded
        assert found.q_values[row, column] == pytest.approx((1 + 4 + 0.25) * change**2 / 2, rel=0.02)


def test_no_saliency_without_dependence() -> None:
    found = salient(Looking((4, 84, 84), (slice(0, 0),), (1.0, 2.0)), pixels(4, 84, 84))
    assert not found.value.any()
    assert not found.q_values.any()
    plain = np.full((4, 84, 84), 97, np.uint8)  # blurring changes nothing in it
    assert not salient(make_policy((4, 84, 84)), plain).q_values.any()


def test_saliency_is_linear_between_the_points() -> None:
    for height, width in [(84, 84), (37, 50), (36, 41)]:
        policy = Looking((1, height, width), (0, slice(5, 25), slice(10, 20)), (1.0,))
        image = salient(policy, pixels(1, height, width)).value
        assert image.shape == (height, width)
        last = (height - 1) // 5 * 5
        np.testing.assert_allclose(image[7, :40:5], 0.6 * image[5, :40:5] + 0.4 * image[10, :40:5], rtol=1e-4)
        np.testing.assert_allclose(image[:35:5, 14], 0.2 * image[:35:5, 10] + 0.8 * image[:35:5, 15], rtol=1e-4)
        np.testing.assert_array_equal(image[last:], np.broadcast_to(image[last], image[last:].shape))


@settings(max_examples=examples(15), deadline=None)
@given(row=st.integers(0, 9), column=st.integers(0, 6))
def test_saliency_of_small_images_finds_the_pixel(row: int, column: int) -> None:
    obs = np.zeros((1, 10, 7), np.uint8)
    obs[0, row, column] = 255
    image = salient(Looking((1, 10, 7), (0, row, column), (1.0, 3.0)), obs).value
    assert np.unravel_index(image.argmax(), image.shape) == (row, column)
    near = np.hypot(np.arange(10)[:, None] - row, np.arange(7) - column) < 4
    assert (image[~near] == 0).all()


def test_saliency_of_every_layout_and_type() -> None:
    obs = pixels(40, 44)
    part = (slice(10, 15), slice(20, 25))
    expected = salient(Looking((1, 40, 44), (0, *part), (1.0,)), obs[None]).value
    flat = salient(Looking((40, 44), part, (1.0,)), obs).value
    np.testing.assert_array_equal(flat, expected)
    last = np.stack([pixels(40, 44, seed=1), obs, pixels(40, 44, seed=2)], -1)
    np.testing.assert_array_equal(salient(Looking((40, 44, 3), (*part, 1), (1.0,)), last).value, expected)
    floats = Looking((1, 40, 44), (0, *part), (1.0,), np.float32)
    np.testing.assert_allclose(salient(floats, obs[None].astype(np.float32)).value, expected, rtol=0.1, atol=1e-3)
    assert saliency(make_policy((4,), 2, np.float32), np.zeros(4, np.float32)) is None
    with pytest.raises(ValueError, match=r"the observation must have shape \(40, 44\), got \(1, 40, 44\)"):
        saliency(Looking((40, 44), part, (1.0,)), obs[None])


def test_saliency_is_of_the_allowed_actions() -> None:
    obs, part = pixels(1, 10, 7), (0, slice(2, 4), slice(3, 5))
    policy = Looking((1, 10, 7), part, (1.0, 3.0, -2.0))  # of all actions, the second has the greatest value
    found = saliency(policy, obs, action_mask=np.array([True, False, True]))
    assert found is not None
    expected = salient(Looking((1, 10, 7), part, (1.0, -2.0)), obs)
    np.testing.assert_array_equal(found.value, expected.value)
    np.testing.assert_array_equal(found.q_values, expected.q_values)
    assert found.value.max() == pytest.approx(salient(policy, obs).value.max() / 9)
    for mask in (np.zeros(3, np.bool_), np.ones(2, np.bool_)):
        with pytest.raises(ValueError, match=r"action_mask must allow at least one of 3 actions, got \["):
            saliency(policy, obs, action_mask=mask)


@settings(max_examples=examples(25), deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.5, 1.0, 3.0]))
def test_blur_and_mask(height: int, width: int, sigma: float) -> None:
    image = pixels(2, height, width).astype(np.float32)
    expected = gaussian_filter(image, (0, sigma, sigma), mode="nearest")
    np.testing.assert_allclose(gaussian_blur(torch.from_numpy(image), sigma), expected, atol=1e-3)
    row, column = height // 2, width // 3
    mask = gaussian_mask(height, width, row, column, sigma)
    assert mask.shape == (height, width)
    assert mask[row, column] == mask.max() == 1
    assert float(mask[0, 0]) == pytest.approx(np.exp(-(row**2 + column**2) / 2 / sigma**2))


# --- the map of states ------------------------------------------------------------------------------------------------


def test_like_states_lie_side_by_side() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(3), 30)
    features = (10 * rng.normal(size=(3, 20))[group] + rng.normal(size=(90, 20))).astype(np.float32)
    positions = embed(features)
    assert (positions.shape, positions.dtype) == ((90, 2), np.float32)
    apart = np.linalg.norm(positions[:, None] - positions, axis=-1) + np.diag(np.full(90, np.inf))
    np.testing.assert_array_equal(group[apart.argmin(1)], group)
    np.testing.assert_array_equal(embed(features), positions)
    flat = np.ones((20, 3), np.float32)  # where the start is random
    np.testing.assert_array_equal(embed(flat), embed(flat))


@pytest.mark.slow
def test_a_thousand_states_take_seconds() -> None:
    walk = np.random.default_rng(0).normal(size=(1000, 512)).cumsum(0)
    before = time.process_time()
    assert np.isfinite(embed(np.maximum(walk, 0).astype(np.float32))).all()
    assert time.process_time() - before < 20


@pytest.mark.parametrize(
    "features",
    [np.zeros((12, 8)), np.arange(12.0)[:, None], np.eye(4), np.repeat(np.eye(3), 5, 0), np.outer(range(9), range(5))],
    ids=["all the same", "one feature", "four states", "few that differ", "on a line"],
)
def test_states_that_hardly_differ_have_positions(features: NDArray[Any]) -> None:
    positions = embed(features.astype(np.float32))
    assert positions.shape == (len(features), 2)
    assert np.isfinite(positions).all()


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=1, max_size=40),
    st.integers(0, 12),
)
def test_representatives_are_spread(points: list[tuple[int, int]], count: int) -> None:
    positions = np.array(points, np.float32)
    chosen = spread(positions, count)
    assert len(chosen) == min(count, len(set(points)))
    assert len({points[i] for i in chosen}) == len(chosen)
    if len(chosen) > 1:
        between = np.linalg.norm(positions[chosen][:, None] - positions[chosen], axis=-1)
        closest = between[~np.eye(len(chosen), dtype=bool)].min()
        farthest = np.linalg.norm(positions[:, None] - positions[chosen], axis=-1).min(1).max()
        assert farthest <= closest + 1e-4


def test_the_map_of_an_episode() -> None:
    policy = make_policy(dueling=True)
    observations, _, _ = states_of(
        [record_episode(policy, Game(CATCH, epsilon=0.5, seed=seed)) for seed in range(9)], 70
    )
    found = map_states(policy, observations, thumbnails=5)
    assert found.positions.shape == (70, 2)
    np.testing.assert_array_equal(found.positions, embed(last_hidden(policy, observations)))
    np.testing.assert_allclose(found.values, policy.q_values(observations).max(1).values, atol=1e-6)
    np.testing.assert_array_equal(found.representatives, spread(found.positions, 5))
    assert len(found.representatives) == 5


def test_maps_that_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a map needs at least 4 states, got 3"):
        map_states(make_policy(), pixels(3, 1, 10, 5))
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(MissingExtra) as missing:
        map_states(make_policy(), pixels(5, 1, 10, 5))
    assert str(missing.value) == f"the map of states needs scikit-learn: {how_to_install('report')}"
