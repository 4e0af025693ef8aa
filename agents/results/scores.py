"""Scores of runs, and of groups of runs over their seeds; human-normalised score matrices of seeds by games."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.errors import InvalidRun
from pixelq.agents.results.records import (
    Group,
    MeanReturn,
    Run,
    agent_of,
    evaluated_for,
    load_run,
    published_env,
    read_evaluation,
    trained_agent_of,
)
from pixelq.agents.runs.tables import FINAL_EVALUATION, read_config
from pixelq.agents.storage.environments import env_arguments
from pixelq.agents.storage.pointers import run_of
from pixelq.envs import ATARI57, human_normalized_score
from pixelq.envs.atari import FRAMES_PER_STEP
from pixelq.envs.games import game_of

FINAL = "best checkpoint, new games"
"""Name of the final evaluation, of the best checkpoint in games that it was not chosen by."""
LAST = "last evaluation"
"""Name of the last evaluation during training."""
_BEST, _LAST, _BEST_AND_LAST = "best", "last", "best and last"  # marks, as `mark_of` returns them


@dataclass(frozen=True)
class GroupScore:
    """Mean raw return of an agent on an environment after its training.

    Attributes:
        mean: Mean over seeds of the means over episodes.
        low: For one seed, the lower end of the 95% interval over its episodes; for several, one standard deviation
            over seeds below the mean.
        high: Upper end of the same interval.
        frames: Number of emulator frames before the evaluation, averaged over seeds.
        scores: Score of each of the N seeds.
    """

    mean: float
    low: float
    high: float
    frames: int
    scores: tuple[MeanReturn, ...]


class RunScore(NamedTuple):
    """Score of one run on its Atari game."""

    path: Path
    """Folder of the run, or file of the evaluation."""
    agent: str
    """Name of the preset and the settings that differ from it, as in `dqn, n_step 3`."""
    game: str
    """ROM name."""
    seed: int
    """Seed of the run."""
    steps: int
    """Number of agent steps that the run was set to take."""
    frames: int
    """Number of emulator frames at which the evaluated policy was saved."""
    mean: float
    """Mean raw return over the episodes of the evaluation."""
    human_normalized: float
    """Human-normalised score: 0 is random play, 1 is a human player."""


@dataclass(frozen=True)
class ScoreMatrices:
    """Scores of all agents on the same G games.

    Attributes:
        games: ROM names [G], in the order of `pixelq.envs.ATARI57`.
        seeds: Seeds [N] by agent.
        scores: Human-normalised scores [N, G] by agent, as `pixelq.agents.results.aggregates` takes them.
    """

    games: tuple[str, ...]
    seeds: dict[str, tuple[int, ...]]
    scores: dict[str, NDArray[np.float64]]


def score_of_group(group: Group) -> GroupScore | None:
    """Return the score of a group of runs: their last evaluations.

    These can be laid beside published means and aggregated. The best checkpoint of a run cannot: it is a maximum over
    the run, whichever games it is played in afterwards. Returns None if a run has no evaluation, or its last one has no
    finite mean.
    """
    found = tuple(score for run in group.runs if (score := run.last) is not None and math.isfinite(score.mean))
    if len(found) < len(group.runs):
        return None
    mean, low, high = mean_over_seeds(found)
    frames = [score.step * run.frames_per_step for score, run in zip(found, group.runs, strict=True)]
    return GroupScore(mean, low, high, round(sum(frames) / len(frames)), found)


def mean_over_seeds(scores: Sequence[MeanReturn]) -> tuple[float, float, float]:
    """Return the mean over seeds and an interval around it.

    The interval of one seed is the one over its episodes; that of several is one standard deviation to each side.
    """
    if len(scores) == 1:
        return scores[0].mean, scores[0].low, scores[0].high
    means = np.array([score.mean for score in scores])
    std = float(means.std(ddof=1))
    return float(means.mean()), float(means.mean()) - std, float(means.mean()) + std


def run_scores(group: Group) -> list[RunScore]:
    """Return the score of each run of a group, as in `score_of_group`; none outside the 57 Atari games."""
    of_group = score_of_group(group)
    if of_group is None or human_normalized_score(group.published_env, of_group.mean) is None:
        return []
    pairs = zip(group.runs, of_group.scores, strict=True)
    return [_score_of_run(run, score, group.agent) for run, score in pairs]


def gather_scores(paths: Iterable[str | os.PathLike[str]]) -> ScoreMatrices:
    """Return the score matrices of run folders and of files that `pixelq evaluate --json` wrote.

    Raises:
        InvalidRun: If one cannot be read, or the runs are not as `score_matrices` needs them.
    """
    return score_matrices(_named_by_mark([_read(Path(path)) for path in paths]))


def read_score(path: str | os.PathLike[str]) -> RunScore:
    """Read the score of a run folder, from its last evaluation, or of an evaluation's file.

    The seed and the preset, which an evaluation's file does not contain, come from the config.json beside it, or from
    the one in the folder of the run that the file names.

    Raises:
        InvalidRun: If there is no evaluation of a run on one of the 57 Atari games, or the run has not finished.
    """
    (score,) = _named_by_mark([_read(Path(path))])
    return score


def _read(path: Path) -> tuple[RunScore, str | None]:
    """Return what `read_score` does, without the mark in the agent's name, and the mark; None for a run folder.

    Raises:
        InvalidRun: As `read_score` does.
    """
    if not path.is_dir():
        return _score_and_mark(path, read_evaluation(path))
    run = load_run(path)
    _check_config(path, run.config)
    if run.last is None or run.last.step < run.config["steps"]:
        raise InvalidRun(f"{path} has no evaluation after its last step; let the run finish")
    if not math.isfinite(run.last.mean):
        raise InvalidRun(f"the last mean return of {path} is not finite or too large; leave out that run")
    if human_normalized_score(published_env(run.config), run.last.mean) is None:
        raise _no_human_score(path, run.config)
    return _score_of_run(run, run.last, agent_of(run.config)), None


def scores_of(evaluations: Iterable[tuple[Path, Mapping[str, Any]]]) -> list[RunScore]:
    """Return the scores in the JSON values of evaluations; best checkpoints are an agent of their own.

    A checkpoint that is both the best and the last of its run stands for what the agent's other evaluations are of.

    Args:
        evaluations: The values of each, after the file that they are from, or that they could be written to; see
            `read_score`.

    Raises:
        InvalidRun: If some are not of a run on one of the 57 Atari games.
    """
    return _named_by_mark([_score_and_mark(path, values) for path, values in evaluations])


def _named_by_mark(scores: Sequence[tuple[RunScore, str | None]]) -> list[RunScore]:
    """Return the scores with the best checkpoints as agents of their own, given the mark of each; see `scores_of`."""
    marks: dict[tuple[str, int], list[str | None]] = {}
    for score, mark in scores:
        marks.setdefault((score.agent, score.steps), []).append(mark)
    named = []
    for score, mark in scores:
        others = marks[score.agent, score.steps]
        is_best = mark == _BEST or (mark == _BEST_AND_LAST and _BEST in others)
        if not is_best or (mark == _BEST_AND_LAST and _LAST in others):
            named.append(score)
        if is_best:
            named.append(score._replace(agent=f"{score.agent}, best checkpoint"))
    return named


def _score_and_mark(path: Path, evaluation: Mapping[str, Any]) -> tuple[RunScore, str | None]:
    """Return the score in the JSON values of an evaluation, without the mark in the agent's name, and the mark.

    Raises:
        InvalidRun: If they are not of a run on one of the 57 Atari games.
    """
    config = _config_of(path, evaluation["checkpoint"])
    if config["env"] != evaluation["env"]:
        raise InvalidRun(
            f"{path} is an evaluation on {evaluation['env']}, but its run was trained on {config['env']}; "
            "give an evaluation of that run"
        )
    _check_config(path, config)
    if evaluation["mean"] is None:
        raise InvalidRun(f"{path} has a mean return that is not finite; leave out that evaluation")
    score = human_normalized_score(published_env(config), evaluation["mean"])
    if score is None:
        raise _no_human_score(path, config)
    agent = trained_agent_of(config)
    if evaluation["protocol"] != config["protocol"]:
        agent += f", evaluated as {evaluation['protocol']}"
    limit = evaluation.get("max_episode_steps")
    if limit != env_arguments(config).get("max_episode_steps", config.get("max_episode_steps")):
        agent += evaluated_for(limit)
    mark = evaluation.get("mark", _BEST if path.name == FINAL_EVALUATION else None)
    game, frames, mean = game_of(evaluation["env"]), evaluation["step"] * FRAMES_PER_STEP, float(evaluation["mean"])
    return RunScore(path, agent, game, config["seed"], config["steps"], frames, mean, score), mark


def score_matrices(runs: Sequence[RunScore]) -> ScoreMatrices:
    """Group runs by agent, with a row for each seed and a column for each game.

    Runs of one agent that were trained for different numbers of steps are different agents, with the steps in their
    names.

    Raises:
        InvalidRun: If there is no run, if two are of the same agent, game and seed, or if an agent lacks a seed on a
            game that it has on another game, or a game that another agent played.
    """
    if not runs:
        raise InvalidRun("no run is given; give the folders of one or more")
    games = tuple(game for game in ATARI57 if any(run.game == game for run in runs))
    lengths: dict[str, set[int]] = {}
    for run in runs:
        lengths.setdefault(run.agent, set()).add(run.steps)

    # Scores by agent, then by seed and game
    cells: dict[str, dict[tuple[int, str], RunScore]] = {}
    for run in runs:
        name = run.agent if len(lengths[run.agent]) == 1 else f"{run.agent}, {run.steps:,} steps"
        of_agent = cells.setdefault(name, {})
        twin = of_agent.setdefault((run.seed, run.game), run)
        if twin is not run:
            raise InvalidRun(
                f"{twin.path} and {run.path} are both {name} on {run.game} with seed {run.seed}; give one of them"
            )

    # Matrices without gaps
    seeds = {name: tuple(sorted({seed for seed, _ in of_agent})) for name, of_agent in cells.items()}
    missing = [
        f"{name} lacks seed {seed} on {game}"
        for name, of_agent in cells.items()
        for game in games
        for seed in seeds[name]
        if (seed, game) not in of_agent
    ]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InvalidRun(
            f"{', '.join(missing[:3])}{more}; every agent needs each of its seeds on each game: give those runs, or "
            "leave out that seed or game"
        )
    scores = {
        name: np.array([[of_agent[seed, game].human_normalized for game in games] for seed in seeds[name]])
        for name, of_agent in cells.items()
    }
    return ScoreMatrices(games, seeds, scores)


def _score_of_run(run: Run, score: MeanReturn, agent: str) -> RunScore:
    """Return the score of a run on one of the 57 Atari games, given one of its evaluations."""
    normalized = human_normalized_score(run.config["env"], score.mean)
    assert normalized is not None
    seed, steps = int(run.config.get("seed") or 0), int(run.config.get("steps") or run.steps)
    frames = round(score.step * run.frames_per_step)
    return RunScore(run.path, agent, game_of(run.config["env"]), seed, steps, frames, score.mean, normalized)


def _no_human_score(path: Path, config: Mapping[str, Any]) -> InvalidRun:
    changed = "" if published_env(config) else " with other arguments or wrappers"
    return InvalidRun(f"{path} is of {config['env']}{changed}, which has no human score; give Atari runs")


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Check that a run has a seed and a number of steps.

    Raises:
        InvalidRun: If it has not.
    """
    if type(config.get("seed")) is not int or type(config.get("steps")) is not int:
        raise InvalidRun(f"the config.json of {path} has no seed or no steps; give another run")


def _config_of(path: Path, checkpoint: str) -> dict[str, Any]:
    """Return the config.json of the run that an evaluation is of.

    Raises:
        InvalidRun: If it is missing or damaged.
    """
    run = run_of(Path(checkpoint))
    for folder in (path.parent, run):  # a run that was moved is not where the evaluation says
        if folder is not None and (folder / "config.json").exists():
            return read_config(folder)
    raise InvalidRun(
        f"{path} is of a run that is not at {run or checkpoint}; put the file into the run's folder, beside its "
        "config.json"
    )
