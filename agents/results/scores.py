"""Human-normalised scores of runs, gathered from their files into a matrix of seeds by games for each agent."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.presets import PRESETS
from pixelq.agents.errors import InvalidRun
from pixelq.agents.results.comparison import differences
from pixelq.agents.runs.tables import FINAL_EVALUATION, read_config
from pixelq.agents.storage.checkpoint import MOST_JSON, one_line
from pixelq.agents.storage.files import read_regular
from pixelq.envs import ATARI57, human_normalized_score
from pixelq.envs.atari import FRAMES_PER_STEP
from pixelq.envs.games import game_of

SAME_RESULT = frozenset({"cuda_graph"})
"""Settings that change the speed and not the scores."""


class RunScore(NamedTuple):
    """What one run came to on its game."""

    path: Path
    """The file with the evaluation."""
    agent: str
    """The preset and what differs from it: ``dqn, n_step 3``."""
    game: str
    """ROM name."""
    seed: int
    steps: int
    """Agent steps that the run was to take."""
    frames: int
    """At which the evaluated policy was saved."""
    mean: float
    """Raw return, over the evaluation's episodes."""
    human_normalized: float


@dataclass(frozen=True)
class ScoreMatrices:
    """Scores of all agents on the same G games."""

    games: tuple[str, ...]
    """[G], ROM names in the order of `pixelq.envs.ATARI57`."""
    seeds: dict[str, tuple[int, ...]]
    """[N], by agent."""
    scores: dict[str, NDArray[np.float64]]
    """[N, G], human-normalised, by agent: what `pixelq.agents.results.aggregates` takes."""


def gather_scores(paths: Iterable[str | os.PathLike[str]]) -> ScoreMatrices:
    """The score matrices of runs' folders and of files that ``pixelq evaluate --json`` wrote; see ``score_matrices``.

    Raises:
        InvalidRun: one cannot be read, or seeds or games are lacking.
    """
    return score_matrices([read_score(path) for path in paths])


def read_score(path: str | os.PathLike[str]) -> RunScore:
    """The score of a run's folder, by its final evaluation, or of an evaluation's file.

    A file tells of no seed or preset; config.json beside it does, or the one in the folder of the run that it names.

    Raises:
        InvalidRun: there is no evaluation of a run on one of the 57 Atari games.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FINAL_EVALUATION
    return score_of(path, read_evaluation(path))


def score_of(path: Path, evaluation: Mapping[str, Any]) -> RunScore:
    """The score in the JSON values of an evaluation that stand, or might stand, in a file; see ``read_score``.

    Raises:
        InvalidRun: they are not of a run on one of the 57 Atari games.
    """
    config = _config_of(path, evaluation["checkpoint"])
    if config["env"] != evaluation["env"]:
        raise InvalidRun(
            f"{path} is an evaluation on {evaluation['env']}, and its run plays {config['env']}; give that run's own"
        )
    seed, steps = config.get("seed"), config.get("steps")
    if type(seed) is not int or type(steps) is not int:
        raise InvalidRun(f"the config.json of {path} names no seed or no steps; give another run")
    score = human_normalized_score(evaluation["env"], evaluation["mean"])
    if score is None:
        raise InvalidRun(f"{path} is of {evaluation['env']}, of which no human score is known; give Atari runs")
    agent = agent_of(config)
    if evaluation["protocol"] != config["protocol"]:
        agent += f", evaluated as {evaluation['protocol']}"
    flicker = config.get("flicker", 0.0)
    if evaluation.get("flicker", flicker) != flicker:
        agent += f", evaluated with flicker {evaluation['flicker']}"
    game, frames = game_of(evaluation["env"]), evaluation["step"] * FRAMES_PER_STEP
    return RunScore(path, agent, game, seed, steps, frames, float(evaluation["mean"]), score)


def score_matrices(runs: Sequence[RunScore]) -> ScoreMatrices:
    """Runs grouped by agent, a row for each seed and a column for each game.

    Agents of one name that were trained for different numbers of steps are apart, with the steps in their names.

    Raises:
        InvalidRun: there is no run, two are of the same agent, game and seed, or an agent lacks a seed on a game
            that it has on another, or that another agent played.
    """
    if not runs:
        raise InvalidRun("no run is given; give the folders of one or more")
    games = tuple(game for game in ATARI57 if any(run.game == game for run in runs))
    lengths: dict[str, set[int]] = {}
    for run in runs:
        lengths.setdefault(run.agent, set()).add(run.steps)
    cells: dict[str, dict[tuple[int, str], RunScore]] = {}
    for run in runs:
        name = run.agent if len(lengths[run.agent]) == 1 else f"{run.agent}, {run.steps:,} steps"
        of_agent = cells.setdefault(name, {})
        twin = of_agent.setdefault((run.seed, run.game), run)
        if twin is not run:
            raise InvalidRun(
                f"{twin.path} and {run.path} are both {name} on {run.game} with seed {run.seed}; give one of them"
            )
    seeds = {name: tuple(sorted({seed for seed, _ in of_agent})) for name, of_agent in cells.items()}
    lacking = [
        f"{name} lacks seed {seed} on {game}"
        for name, of_agent in cells.items()
        for game in games
        for seed in seeds[name]
        if (seed, game) not in of_agent
    ]
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise InvalidRun(
            f"{', '.join(lacking[:3])}{more}; every agent needs each of its seeds on each game: give those runs, or "
            "leave out that seed or game"
        )
    scores = {
        name: np.array([[of_agent[seed, game].human_normalized for game in games] for seed in seeds[name]])
        for name, of_agent in cells.items()
    }
    return ScoreMatrices(games, seeds, scores)


def agent_of(config: dict[str, Any]) -> str:
    """The preset's name, and in what the run differs from it, or from the defaults where it has no preset."""
    name = str(config.get("preset", "custom"))
    settings = PRESETS[name]() if name in PRESETS else AgentConfig()
    different = differences(config, settings)
    return ", ".join([name, *(f"{key} {value}" for key, value in different.items() if key not in SAME_RESULT)])


def read_evaluation(path: Path) -> dict[str, Any]:
    """What ``pixelq evaluate --json`` wrote.

    Raises:
        InvalidRun: it is not there, or something else.
    """
    try:
        evaluation = json.loads(read_regular(path, MOST_JSON))
    except OSError as error:
        raise InvalidRun(
            f"{path} cannot be read ({error.strerror}); let the run end, or give a file of pixelq evaluate --json"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRun(f"{path} is damaged ({one_line(error)}); evaluate the run again") from error
    kinds = {"env": str, "protocol": str, "checkpoint": str, "step": int, "mean": float | int}
    if (
        not isinstance(evaluation, dict)
        or not all(isinstance(evaluation.get(name), kind) for name, kind in kinds.items())
        or not abs(evaluation["mean"]) <= sys.float_info.max  # NaN too, and a whole number that is no float
    ):
        raise InvalidRun(f"{path} does not describe an evaluation; give a file of pixelq evaluate --json")
    return evaluation


def _config_of(path: Path, checkpoint: str) -> dict[str, Any]:
    """The config.json of the run that an evaluation is of.

    Raises:
        InvalidRun: there is none, or it is damaged.
    """
    folders = (path.parent, Path(checkpoint).parent.parent)  # a run that was moved is no longer where the file says
    for folder in folders:
        if (folder / "config.json").exists():
            return read_config(folder)
    raise InvalidRun(
        f"{path} is of a run that is not at {folders[1]}; put the file into the run's folder, beside its config.json"
    )
