"""The film at the end of a training, and the limit of its evaluations.

The film is whole for a short game, cut for a long one, and there is none where nothing is drawn.
"""

import json
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pixelq.agents.evaluation.limits import evaluation_limit
from pixelq.envs import InvalidEnv
from pixelq.scripts import train
from tests.support.runs import TINY, run_here, table, words


def events_of(run: Path) -> Any:
    events = EventAccumulator(str(run))
    events.Reload()
    return events


def pictures_in(film: Path) -> int:
    with imageio.get_reader(film) as reader:
        return reader.count_frames()


def test_a_training_ends_with_a_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    flags = words(TINY, steps=20, evaluation_episodes=1, final_episodes=1, out=out)
    ended = run_here(["train", *flags, "--film"])
    assert ended.code == 0, ended
    assert f"film      {out / 'film.mp4'}" in ended.out
    assert pictures_in(out / "film.mp4") == 10  # Catch has nine steps
    (event,) = events_of(out).Images("eval/film")  # the same for TensorBoard
    gif = imageio.mimread(event.encoded_image_string, format="GIF")
    assert (event.step, len(gif), gif[0].shape[:2]) == (20, 10, (event.height, event.width))
    # Without the flag, a run that goes on leaves the film; with it, there is another, here of 0.8 s at 5 Hz
    ended = run_here(["train", "--resume", "--out", str(out), "--steps", "40"])
    assert ended.code == 0, ended
    assert "film.mp4" not in ended.out
    assert pictures_in(out / "film.mp4") == 10
    monkeypatch.setattr(train, "FILM_SECONDS", 0.8)
    ended = run_here(["train", "--resume", "--out", str(out), "--steps", "60", "--film"])
    assert ended.code == 0, ended
    assert pictures_in(out / "film.mp4") == 5


def test_an_environment_without_pictures_ends_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def film(*_: object, **__: object) -> float:
        raise InvalidEnv("it draws no pictures")

    monkeypatch.setattr(train, "film", film)
    out = tmp_path / "run"
    flags = words(TINY, steps=20, evaluation_episodes=1, final_episodes=1, out=out)
    ended = run_here(["train", *flags, "--film"])
    assert ended.code == 0, ended
    assert ended.err.count("pixelq train: there is no film: it draws no pictures\n") == 1
    assert "film" not in ended.out
    assert (out / "final_evaluation.json").exists()


@pytest.mark.parametrize(
    ("env", "own", "given", "played"),
    [
        ("ALE/Pong-v5", None, 4_500, 4_500),
        ("ALE/Pong-v5", 300, 4_500, None),
        ("ALE/Pong-v5", None, 27_000, None),
        ("ALE/Pong-v5", None, None, None),
        ("CartPole-v1", None, 4_500, None),
    ],
)
def test_games_of_evaluations_are_cut_off_unless_their_own_limit_is_lower(
    env: str, own: int | None, given: int | None, played: int | None
) -> None:
    config = {"env": env, "evaluation_episode_steps": given, "max_episode_steps": own}
    assert evaluation_limit(config) == played


def test_all_evaluations_of_a_training_are_cut_off(tmp_path: Path) -> None:
    """Within 30 steps nobody scores in Pong, where random play loses by 20; a resumed run has the same limit."""
    out = tmp_path / "run"
    atari = {"env": "ALE/Pong-v5", "preset": "quick_dqn", "steps": 20, "agent.encoder": "minatar", "out": out}
    once = {"final_episodes": 1, "evaluation_episodes": 1, "evaluation_episode_steps": 30}
    begun = run_here(["train", *words(TINY, **atari, **once)])
    assert begun.code == 0, begun
    assert run_here(["train", "--resume", "--out", str(out), "--steps", "40"]).code == 0
    assert [row["mean"] for row in table(out / "evaluations.csv")] == [0.0, 0.0]
    assert json.loads((out / "config.json").read_text())["evaluation_episode_steps"] == 30
    final = json.loads((out / "final_evaluation.json").read_text())
    assert (final["lengths"], final["max_episode_steps"]) == ([30], 30)
    # The best of a run is chosen among evaluations of one limit
    for given, got in (("None", "None"), ("50", "50")):
        ended = run_here(["train", "--resume", "--out", str(out), "--evaluation-episode-steps", given])
        sentence = f"--evaluation-episode-steps must be 30 as in the run in {out}, got {got}; "
        sentence += "leave the flag out, or start another run in another --out"
        assert (ended.code, ended.err) == (2, f"pixelq train: {sentence}\n")
