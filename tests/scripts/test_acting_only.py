"""Playing needs a policy alone: no target network, no optimiser, and no file of theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelq.agents import DQN, Policy
from pixelq.agents.evaluation.episode import Game, film_episode
from pixelq.agents.evaluation.scoring import checkpoints_of, request_of, score
from pixelq.agents.insight.activations import last_hidden
from pixelq.agents.insight.recording import record_episode, states_of
from pixelq.agents.insight.saliency import saliency
from pixelq.agents.insight.state_map import map_states
from pixelq.agents.learning import gradient
from pixelq.agents.report import ReportOptions, write_report
from pixelq.agents.storage.checkpoint_files import LEARNER
from tests.support.runs import TINY, run_here, words
from tests.support.small_agents import seal


class LearnerMade(BaseException):
    """A learner was made; no code of ours catches this."""


def refuse(*_: Any, **__: Any) -> None:
    raise LearnerMade


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose checkpoints lack what only a learner needs."""
    out = tmp_path_factory.mktemp("acting") / "run"
    ended = run_here(["train", *words(TINY, out=out)])
    assert ended.code == 0, ended.err
    for checkpoint in {path.resolve() for path in (out / "checkpoints").glob("step_*")}:
        (checkpoint / LEARNER).unlink()
        seal(checkpoint)
    return out


@pytest.fixture(autouse=True)
def no_learner(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient.GradientLearner, "__init__", refuse)
    monkeypatch.setattr(gradient, "make_optimizer", refuse)


def test_a_dqn_would_be_noticed(run: Path) -> None:
    policy = Policy.load(run, "cpu")
    with pytest.raises(LearnerMade):
        DQN(policy.observation_space, policy.action_space, policy.config, device="cpu")


def test_a_policy_has_neither(run: Path) -> None:
    policy = Policy.load(run, "cpu")
    assert policy.step == 200
    assert not {"learner", "replay"} & vars(policy).keys()


def test_evaluate(run: Path, tmp_path: Path) -> None:
    ended = run_here(["evaluate", str(run), "--episodes", "2", "--device", "cpu", "--video", str(tmp_path)])
    assert ended.code == 0, ended.err
    assert len(list(tmp_path.glob("*.mp4"))) == 1


def test_score_and_film(run: Path, tmp_path: Path) -> None:
    (checkpoint,) = checkpoints_of(run, None)
    policy, result = score(request_of(checkpoint, 2, device="cpu"))
    assert result.evaluation.episodes == 2
    assert -1 <= film_episode(policy, Game("pixelq/Catch-v0"), tmp_path / "film.mp4") <= 1


def test_insight(run: Path) -> None:
    policy = Policy.load(run, "cpu")
    episode = record_episode(policy, Game("pixelq/Catch-v0", epsilon=0.5))
    observations, _, memories = states_of([episode])
    assert len(last_hidden(policy, observations, memories)) == 9
    assert saliency(policy, observations[3]) is not None
    assert np.isfinite(map_states(policy, observations, memories, thumbnails=3).positions).all()


def test_report(run: Path, tmp_path: Path) -> None:
    options = ReportOptions(None, 2, 0, "cpu", None)
    write_report([run], tmp_path / "report.html", options, tell=lambda _: None)
    assert (tmp_path / "report.html").stat().st_size > 1e5
