"""Report sections about the best episode and about what the network computes, as data."""

import base64
import errno
import json
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import imageio.v3
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelq.agents import DQN, InvalidCheckpoint
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.evaluation.episode import Game, evaluation_game, evaluation_rules
from pixelq.agents.insight.activations import feature_maps, first_filters
from pixelq.agents.insight.recording import RecordedEpisode, record_episode
from pixelq.agents.insight.saliency import saliency
from pixelq.agents.insight.state_map import map_states
from pixelq.agents.report import episode as episode_module
from pixelq.agents.report import insight as insight_module
from pixelq.agents.report.episode import describe_game
from pixelq.agents.report.inside import channels_of, chosen_moments, inside_section
from pixelq.agents.report.insight import describe_policy, insight_sections
from pixelq.agents.report.page import Section, render
from pixelq.agents.report.pictures import bounded_film, data_uri, grey, grid, heat, sheet, shrunk, signed_grey
from tests.support.filmed_games import BLOCK, COUNTED, FPS, LENGTH, SIDE, Counted, agent_for, counting_agent


def pixels_of(uri: str) -> NDArray[Any]:
    """Return the picture of a data URI."""
    kind, data = uri.removeprefix("data:image/").split(";base64,")
    return np.asarray(imageio.v3.imread(base64.b64decode(data), extension=f".{kind}"))


def sections_of(agent: DQN, folder: Path, **options: Any) -> list[Section]:
    agent.save(folder / "agent")
    return insight_sections(folder / "agent", device="cpu", **options)


def recorded(q_values: list[list[float]], rewards: list[float], states: list[int]) -> RecordedEpisode:
    q = np.array(q_values, np.float32)
    pictures = np.zeros((len(states), 2, 2, 3), np.uint8)
    steps = np.array(states, np.int64)
    return RecordedEpisode(None, 10, 0, ("A", "B"), q, q.argmax(1), np.array(rewards, float), steps, steps, pictures)


class TestEpisode:
    def test_the_best_of_several_with_all_its_numbers(self, tmp_path: Path) -> None:
        agent = agent_for("pixelq/Catch-v0", (1, 10, 5), 3)
        section, _ = sections_of(agent, tmp_path, episodes=4, seed=3)
        first = derived_seed(3, "evaluation")
        played = [record_episode(agent, Game("pixelq/Catch-v0", seed=first + i)) for i in range(4)]
        totals = [episode.total for episode in played]
        assert set(totals) == {-1.0, 1.0}
        best = played[totals.index(1.0)]
        assert section.title == "The best of 4 episodes"
        assert section.values["returns"] == ["−1.0" if total < 0 else "1.0" for total in sorted(totals)]
        assert section.values["rules"] == f"pixelq/Catch-v0, greedy, seed {best.seed}"
        assert f"<p>The policy of agent after 0 steps. {section.values['rules']}: return" in render("", "", [section])
        assert (section.values["steps"], section.values["total"]) == (9, "1.0")
        data = section.data
        q_values = np.frombuffer(base64.b64decode(data["q_values"]), "<f4").reshape(9, 3)
        np.testing.assert_array_equal(q_values, best.q_values)
        assert data["actions"] == best.actions.tolist()
        assert data["rewards"] == best.rewards.tolist()
        assert (data["fps"], data["names"]) == (5, ["0", "1", "2"])

    def test_the_film_has_a_picture_before_each_step_and_one_of_the_end(self, tmp_path: Path) -> None:
        section, _ = sections_of(counting_agent(), tmp_path, episodes=1)
        (tmp_path / "film.mp4").write_bytes(base64.b64decode(section.data["film"]))
        with imageio.get_reader(tmp_path / "film.mp4") as film:
            frames = np.stack([np.asarray(frame) for frame in film])
            assert film.get_meta_data()["fps"] == FPS
        assert len(frames) == LENGTH + 1
        factor = frames.shape[1] // BLOCK
        bits = frames[:, frames.shape[1] // 2, factor * BLOCK // 2 :: factor * BLOCK, 0] > 128
        assert (bits @ (1 << np.arange(bits.shape[1]))).tolist() == list(range(LENGTH + 1))
        assert section.title == "An episode"

    @pytest.mark.parametrize("head", ["categorical", pytest.param("fqf", marks=pytest.mark.slow)])
    def test_every_head_has_q_values(self, tmp_path: Path, head: str) -> None:
        agent = counting_agent(head=head, dueling=True, noisy=True, quantiles=5, atoms=11)
        section, inside = sections_of(agent, tmp_path, episodes=1)
        q_values = np.frombuffer(base64.b64decode(section.data["q_values"]), "<f4").reshape(LENGTH, 3)
        played = record_episode(agent, Game(COUNTED, seed=derived_seed(0, "evaluation")))
        np.testing.assert_allclose(q_values, agent.q_values(played.observations), atol=1e-5)
        assert q_values.std(0).min() > 0
        assert len(inside.data["x"]) == LENGTH

    @pytest.mark.slow
    def test_a_film_that_is_too_large_is_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(episode_module, "bounded_film", lambda path, fps, most_bytes: None)
        section, _ = sections_of(counting_agent(), tmp_path, episodes=1)
        assert section.data["film"] is None
        assert "The film is too large for a page, but values and rewards can still be stepped through" in render(
            "", "", [section]
        )

    def test_where_nothing_is_drawn_a_sentence_says_so(self, tmp_path: Path) -> None:
        agent = counting_agent()
        agent.env_id = "tests/Undrawn-v0"
        sections = sections_of(agent, tmp_path)
        assert [section.name for section in sections] == ["episode"]
        page = render("", "", sections)
        assert "No episode is shown: &#39;tests/Undrawn-v0&#39; cannot be filmed: " in page
        assert "<video" not in page
        agent.env_id = "tests/Nowhere-v0"
        (section,) = sections_of(agent, tmp_path)
        assert "tests/Nowhere" in section.values["problem"]

    def test_an_environment_that_fails_leaves_a_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> None:
            raise RuntimeError("the game broke")

        monkeypatch.setattr(Counted, "step", fail)
        (section,) = sections_of(counting_agent(), tmp_path, episodes=2)
        assert "the game broke" in section.values["problem"]

    def test_a_film_that_cannot_be_written_leaves_a_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("pixelq.agents.report.insight.record_episode", full)
        (section,) = sections_of(counting_agent(), tmp_path, episodes=1)
        assert section.values["problem"] == "the film cannot be written (No space left on device)"

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("runs/pong", "pong"),
            ("runs/pong/checkpoints/best", "pong, best"),
            ("demo", "demo"),
            ("agents/mine", "mine"),
        ],
    )
    def test_whose_episode_it_is_is_said(self, path: str, name: str) -> None:
        agent = counting_agent()
        agent.step = 12_345
        assert describe_policy(path, agent) == f"The policy of {name} after 12,345 steps"

    def test_policies_that_cannot_be_played(self, tmp_path: Path) -> None:
        agent = counting_agent()
        agent.env_id = "CartPole-v1"
        with pytest.raises(InvalidCheckpoint, match="trained on other observations or actions than CartPole-v1 has"):
            sections_of(agent, tmp_path)
        agent.env_id = None
        with pytest.raises(InvalidCheckpoint, match="does not say which environment it was trained in"):
            sections_of(agent, tmp_path)
        agent.env_id = COUNTED
        with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
            sections_of(agent, tmp_path, episodes=0)


class TestRules:
    @pytest.mark.parametrize(
        ("own", "protocol", "epsilon", "expected"),
        [
            ("sticky", None, None, ("sticky", 0.001)),
            ("nature", None, None, ("nature", 0.05)),
            ("nature", "sticky", None, ("sticky", 0.001)),
            ("nature", None, 0.5, ("nature", 0.5)),
            ("sticky+flicker=0.5", "nature", None, ("nature+flicker=0.5", 0.05)),
            ("one of my own", None, None, ("sticky", 0.001)),
            (None, None, None, ("sticky", 0.001)),
        ],
    )
    def test_of_atari(
        self, own: str | None, protocol: str | None, epsilon: float | None, expected: tuple[str, float]
    ) -> None:
        agent = agent_for("ALE/Pong-v5", (4, 84, 84), 18)
        game = evaluation_game(agent, "ALE/Pong-v5", evaluation_rules(own, protocol), epsilon, 7, {"frame_stack": 2})
        assert game == Game("ALE/Pong-v5", *expected, derived_seed(7, "evaluation"), {"frame_stack": 2})

    def test_in_words(self) -> None:
        assert describe_game(Game("ALE/Pong-v5", epsilon=0.05)) == "ALE/Pong-v5, protocol sticky, ε = 0.05, seed 0"
        said = describe_game(Game("ALE/Pong-v5", "nature+flicker=0.5", seed=3))
        assert said == "ALE/Pong-v5, protocol nature with 50% of the frames black, greedy, seed 3"
        assert describe_game(Game("CartPole-v1")) == "CartPole-v1, greedy, seed 0"

    def test_of_others(self) -> None:
        assert evaluation_game(counting_agent(), COUNTED, "gymnasium", None, 0, {}).epsilon == 0


@pytest.fixture(scope="module")
def seen() -> tuple[DQN, RecordedEpisode, Section]:
    """A policy, an episode of it, and the section about its network."""
    agent = counting_agent()
    episode = record_episode(agent, Game(COUNTED, seed=2))
    return agent, episode, inside_section(agent, episode)


class TestInside:
    def test_filters(self, seen: tuple[DQN, RecordedEpisode, Section]) -> None:
        agent, _, section = seen
        weights = first_filters(agent)
        assert len(section.values["filters"]) == len(weights) == 16
        for uri, one in zip(section.values["filters"], weights, strict=True):
            picture = pixels_of(uri)  # two channels of 3 × 3, a line between them
            expected = 128 + np.round(127 * one / np.abs(one).max())
            np.testing.assert_array_equal(picture[:3], expected[0])
            np.testing.assert_array_equal(picture[4:], expected[1])
            assert (picture[3] == 128).all()

    def test_what_is_seen_at_each_moment(self, seen: tuple[DQN, RecordedEpisode, Section]) -> None:
        agent, episode, section = seen
        moments = section.values["moments"]
        assert [moment["step"] for moment in moments] == [moment.index for moment in chosen_moments(episode)]
        assert len(moments) >= 3
        for moment in moments:
            observation = episode.observations[moment["step"]]
            np.testing.assert_array_equal([pixels_of(uri) for uri in moment["inputs"]], observation)
            np.testing.assert_array_equal(pixels_of(moment["newest"]), observation[-1])
            np.testing.assert_array_equal(pixels_of(moment["picture"]), episode.pictures[moment["step"]])
            assert moment["action"] == str(episode.actions[moment["step"]])
            (layer,), (maps,) = moment["layers"], feature_maps(agent, observation)
            assert (layer["name"], layer["count"], layer["size"]) == ("1: 3×3", 16, "10×10")
            picture = pixels_of(layer["grid"])
            assert picture.shape == (2 * 11 - 1, 8 * 11 - 1)
            tenth = picture[11:21, 11:21]  # the second of the second row
            assert 0 < maps.maps[9].max() < maps.maps.max()  # each map has its own scale
            np.testing.assert_array_equal(tenth, np.round(maps.maps[9] / maps.maps[9].max() * 255))
            found = saliency(agent, observation)
            assert found is not None
            of_value, of_q = moment["saliency"]
            for shown, values in ((of_value, found.value), (of_q, found.q_values)):
                opacity = pixels_of(shown["heat"])[..., 3] / 255
                np.testing.assert_allclose(opacity, 0.85 * np.sqrt(values / values.max()), atol=0.003)
                row, column = np.unravel_index(values.argmax(), values.shape)
                assert shown["where"] == f"strongest at row {row} and column {column} of 12×12"
                assert float(shown["most"].replace("−", "-")) == pytest.approx(values.max(), rel=0.01)

    def test_the_map(self, seen: tuple[DQN, RecordedEpisode, Section]) -> None:
        agent, episode, section = seen
        found, data = map_states(agent, episode.observations, thumbnails=12), section.data
        np.testing.assert_allclose(np.stack([data["x"], data["y"]], 1), found.positions, atol=6e-4)
        np.testing.assert_allclose(data["values"], episode.values, rtol=1e-4)
        assert data["steps"] == list(range(LENGTH))
        assert data["representatives"] == found.representatives.tolist()
        assert len(data["representatives"]) == 12
        shown = pixels_of(data["sheet"])
        assert shown.shape == (3 * BLOCK, 25 * 8 * BLOCK, 3)
        for i in (0, 24, 25, 59):
            top, left = i // 25 * data["height"], i % 25 * data["width"]
            bits = shown[top + BLOCK // 2, left + BLOCK // 2 : left + 8 * BLOCK : BLOCK, 0] > 128
            assert bits @ (1 << np.arange(8)) == i

    def test_forbidden_actions_are_left_out(self, seen: tuple[DQN, RecordedEpisode, Section]) -> None:
        agent, episode, _ = seen
        best = int(episode.q_values.max(0).argmax())
        q_values = episode.q_values.copy()
        q_values[:, best] = -np.inf
        states = episode.states[::10]
        masked = replace(episode, q_values=q_values, states=states, observations=episode.observations[states])
        section = inside_section(agent, replace(masked, pictures=episode.pictures[states]))
        np.testing.assert_allclose(section.data["values"], np.delete(episode.q_values, best, 1)[states].max(1), 1e-5)
        assert (np.array(section.data["values"]) < episode.values[states]).any()
        for moment in section.values["moments"]:
            found = saliency(agent, episode.observations[moment["step"]], action_mask=np.arange(3) != best)
            assert found is not None
            for shown, values in zip(moment["saliency"], (found.value, found.q_values), strict=True):
                assert float(shown["most"].replace("−", "-")) == pytest.approx(values.max(), rel=0.01)

    def test_stacks_of_colour_pictures_have_filters_alone(self) -> None:
        agent = agent_for(COUNTED, (2, SIDE, SIDE, 3), 3, encoder="minatar")
        frames, q_values = np.zeros((3, 2, SIDE, SIDE, 3), np.uint8), np.zeros((3, 3), np.float32)
        steps, pictures = np.arange(3), np.zeros((3, 2, 2, 3), np.uint8)
        episode = RecordedEpisode(None, 10, 0, ("A", "B", "C"), q_values, steps, np.zeros(3), steps, frames, pictures)
        section = inside_section(agent, episode)
        page = render("", "", [section])
        assert len(section.values["filters"]) == 16
        assert "its weights for the channels of the stacked pictures, one picture after the other." in page
        assert "<p>Feature maps and saliency are shown of single pictures only.</p>" in page
        assert "The observations are not pictures" not in page

    def test_observations_that_are_no_pictures(self, tmp_path: Path) -> None:
        agent = agent_for("CartPole-v1", (4,), 2, np.float32)
        sections = sections_of(agent, tmp_path, episodes=2)
        inside = sections[1]
        assert (inside.values["filters"], inside.values["moments"]) == ([], [])
        page = render("", "", sections)
        assert "The observations are not pictures, so there are no filters" in page
        assert "Chosen moments of the episode" not in page
        assert len(inside.data["x"]) == sections[0].values["steps"] >= 4

    @pytest.mark.parametrize("length", [1, 3, 4])
    def test_few_states_have_no_map(self, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
        monkeypatch.setattr(Counted, "length", length)
        agent = counting_agent()
        section = inside_section(agent, record_episode(agent, Game(COUNTED)))
        text = f"The episode has only {length} state{'s' * (length > 1)}; a map needs 4."
        assert (section.data is None) == (text in render("", "", [section])) == (length < 4)

    def test_a_long_episode_is_thinned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Counted, "length", 250)
        agent = counting_agent()
        section = inside_section(agent, record_episode(agent, Game(COUNTED), most_states=100))
        assert section.data["steps"] == list(range(0, 250, 4))
        assert "63 states of the episode, 4 steps apart" in render("", "", [section])

    @pytest.mark.slow
    def test_atari(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(insight_module, "record_episode", partial(record_episode, most_states=100))
        agent = agent_for("ALE/Pong-v5", (4, 84, 84), 6)
        agent.protocol = "sticky+flicker=0.5"
        sections = sections_of(agent, tmp_path, episodes=1)
        episode, inside = sections
        assert re.fullmatch(
            r"ALE/Pong-v5, protocol sticky with 50% of the frames black, ε = 0.001, seed \d+", episode.values["rules"]
        )
        assert episode.data["names"][:3] == ["NOOP", "FIRE", "RIGHT"]
        assert sum(episode.data["rewards"]) == float(episode.values["total"].replace("−", "-"))
        moment = inside.values["moments"][-1]
        assert [layer["name"] for layer in moment["layers"]] == ["1: 8×8", "2: 4×4", "3: 3×3"]
        assert [pixels_of(uri).shape for uri in moment["inputs"]] == [(84, 84)] * 4
        assert pixels_of(moment["picture"]).shape == (210, 160, 3)
        assert (inside.data["height"], inside.data["width"]) == (105, 80)
        page = render("", "", sections)
        assert "From top to bottom are its weights for the stacked frames, from the oldest to the newest" in page
        own = json.dumps([[section.values, section.data] for section in sections])
        assert len(own) < 4e6


class TestMoments:
    def test_each_is_chosen_for_a_reason(self) -> None:
        q = [[0, 1], [5, 5], [2, 0], [-3, -2.5], [1, 0.5], [1, 1]]
        moments = chosen_moments(recorded(q, [0, 0, 0, 2, -1, 0], [0, 1, 2, 3, 4, 5]))
        assert [(moment.index, moment.why) for moment in moments] == [
            (1, "the highest value"),
            (2, "the clearest choice, with the widest gap between the two best actions"),
            (3, "the lowest value; before the greatest reward, +2.0"),
            (4, "before the lowest reward, −1.0"),
        ]

    def test_of_a_thinned_episode_they_are_the_states_before(self) -> None:
        q = [[0.0, 1.0]] * 9
        moments = chosen_moments(recorded(q, [0, 0, 0, 1, 0, 0, 0, -1, 0], [0, 2, 4, 6, 8]))
        by_why = {why: moment.index for moment in moments for why in moment.why.split("; ")}
        assert by_why["before the greatest reward, +1.0"] == 1
        assert by_why["before the lowest reward, −1.0"] == 3

    def test_rewards_that_are_all_alike_choose_none(self) -> None:
        moments = chosen_moments(recorded([[0, 1], [1, 0]], [1, 1], [0, 1]))
        assert "reward" not in " ".join(moment.why for moment in moments)


class TestPictures:
    def test_grey(self) -> None:
        np.testing.assert_array_equal(signed_grey(np.array([[-2.0, 0, 1]])), [[1, 128, 192]])
        np.testing.assert_array_equal(signed_grey(np.zeros((1, 2))), [[128, 128]])
        np.testing.assert_array_equal(grey(np.array([[0.0, 1, 4]])), [[0, 64, 255]])
        np.testing.assert_array_equal(grey(np.array([[2.0, 4]])), [[128, 255]])  # 0 is black though nothing is 0
        np.testing.assert_array_equal(grey(np.array([[-1.0, 0, 3]])), [[0, 64, 255]])
        np.testing.assert_array_equal(grey(np.array([[-1.0, -1]])), [[0, 0]])
        np.testing.assert_array_equal(grey(np.array([[3, 7]], np.uint8)), [[3, 7]])

    def test_grid_and_sheet(self) -> None:
        tiles = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((1, 1, 2), np.uint8)
        np.testing.assert_array_equal(grid(tiles, 2), [[0, 0, 128, 1, 1], [128] * 5, [2, 2, 128, 128, 128]])
        np.testing.assert_array_equal(grid(tiles, 8), [[0, 0, 128, 1, 1, 128, 2, 2]])
        colour = np.stack([tiles + 1] * 3, -1)
        np.testing.assert_array_equal(sheet(colour, 2)[..., 0], [[1, 1, 2, 2], [3, 3, 0, 0]])

    def test_heat(self) -> None:
        colours = heat(np.array([[0.0, 1, 4]]))[0]
        assert colours[:, 3].tolist() == [0, 108, 217]  # 0.85 · √share
        assert colours[2, :3].tolist() == [240, 249, 33]  # the end of plasma
        assert heat(np.zeros((2, 2)))[..., 3].tolist() == [[0, 0], [0, 0]]

    def test_shrunk(self) -> None:
        rows = np.repeat(np.arange(0, 70, 10, dtype=np.uint8)[:, None], 5, 1)  # [7, 5]
        pictures = np.stack([rows] * 3, -1)[None]
        np.testing.assert_array_equal(shrunk(pictures, 4)[0, ..., 0], [[5, 5], [25, 25], [45, 45]])
        np.testing.assert_array_equal(shrunk(pictures, 7), pictures)

    @pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3), (4, 6, 4)])
    def test_png_is_exact(self, shape: tuple[int, ...]) -> None:
        image = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
        np.testing.assert_array_equal(pixels_of(data_uri(image)), image)

    def test_channels(self) -> None:
        image = np.arange(24).reshape(4, 6)
        np.testing.assert_array_equal(channels_of(image), image[None])
        np.testing.assert_array_equal(channels_of(np.stack([image, -image], -1)), [image, -image])
        np.testing.assert_array_equal(channels_of(np.stack([image, -image])), [image, -image])

    @pytest.mark.slow
    def test_a_film_is_made_to_fit(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(256, size=(40, 64, 64, 3), dtype=np.uint8)
        path = tmp_path / "film.mp4"
        with imageio.get_writer(path, fps=15, macro_block_size=2, codec="libx264", quality=8) as film:
            for picture in noise:
                film.append_data(picture)
        whole = path.read_bytes()
        assert bounded_film(path, 15, len(whole)) == whole
        small = bounded_film(path, 15, len(whole) // 3)
        assert small is not None
        assert len(whole) // 20 < len(small) <= len(whole) // 3
        (tmp_path / "small.mp4").write_bytes(small)
        with imageio.get_reader(tmp_path / "small.mp4") as film:
            assert sum(1 for _ in film) == 40
            assert film.get_meta_data()["fps"] == 15
        assert bounded_film(path, 15, 500) is None
