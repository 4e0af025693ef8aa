"""Scores of saved policies: which checkpoint is meant, its evaluation, and files of scores."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import UnionType
from typing import Any

from pixelq.agents.acting.policy import Policy
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.errors import InvalidCheckpoint, RunFailed, UserError
from pixelq.agents.evaluation.episode import evaluation_game, evaluation_rules, film_episode, make_arguments
from pixelq.agents.evaluation.evaluate import Evaluation, evaluate
from pixelq.agents.evaluation.exploration import evaluation_epsilon
from pixelq.agents.storage.checkpoint import read_description
from pixelq.agents.storage.checkpoint_files import NETWORK, find_checkpoint
from pixelq.agents.storage.environments import ARGUMENTS, FromFile, env_arguments
from pixelq.agents.storage.files import digest_of_file, open_to_append, read_regular, replace_file
from pixelq.agents.storage.hub import is_on_hub, pinned, repository, written
from pixelq.agents.storage.json_values import check_types, is_number
from pixelq.agents.storage.pointers import CHECKPOINTS, Mark, marked
from pixelq.agents.storage.pretrained import find_policy, is_pretrained
from pixelq.agents.storage.rules import LIMIT, rules_of, with_rules
from pixelq.agents.storage.validation import count, observations
from pixelq.envs import GYMNASIUM, PROTOCOLS, is_atari, make_vec, split_rules

NUM_ENVS = 8
KEY = ("env", "weights", "step", "protocol", "episodes", "seed", "max_episode_steps")
"""Entries of a score that identify its request."""
FIELDS: dict[str, type | UnionType] = {
    **dict.fromkeys(("env", "weights", "protocol", "checkpoint", "mark"), str),
    **dict.fromkeys(("step", "episodes", "seed", "frames"), int),
    **dict.fromkeys(("returns", "ci95"), list),
    **dict.fromkeys(("mean", "human_normalized"), float | int | None),
}
"""Entries that each line of a file of scores has at least, and their types."""
BEGINNING = '{"env": "'
"""Beginning of each of its lines."""
BEST = "best"
"""Mark of the checkpoint of the best evaluation."""
MARKS: dict[Mark, str] = {"best": BEST, "latest": "last"}
"""Marks of the checkpoints to which the pointers of a run lead."""


@dataclass(frozen=True)
class Request:
    """What to play.

    Attributes:
        checkpoint: Folder of the checkpoint, or name of a pretrained policy.
        env: ID of the environment of its training.
        weights: Digest of its network, which identifies it wherever it lies.
        step: Agent step at which it was written.
        protocol: Rules to play by, such as `sticky+flicker=0.5`; only Atari games depend on them.
        episodes: Number of full episodes.
        seed: Seed of the games and of the random actions.
        device: `auto`, `cpu` or `cuda`.
        env_arguments: Further arguments of `make_vec`.
    """

    checkpoint: Path
    env: str
    weights: str
    step: int
    protocol: str
    episodes: int
    seed: int = 0
    device: str = "auto"
    env_arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def max_episode_steps(self) -> int | None:
        """Number of steps after which an episode is cut off; None for the environment's own, or `LIMIT` without one."""
        limit: int | None = self.env_arguments.get("max_episode_steps")
        return limit

    @property
    def key(self) -> tuple[Any, ...]:
        """Values of `KEY` that a score of this request has."""
        rules = self.protocol if is_atari(self.env) else GYMNASIUM.name
        return self.env, self.weights, self.step, rules, self.episodes, self.seed, self.max_episode_steps


@dataclass(frozen=True)
class Score:
    """How good a checkpoint is.

    Attributes:
        request: What was played.
        mark: `best`, `last` or `best and last` of its run; the checkpoint's name if it is neither.
        frames: Number of emulator frames that it had learned for.
        protocol: Rules that it was played by.
        evaluation: Returns and lengths.
        epsilon: Probability with which each action was random.
    """

    request: Request
    mark: str
    frames: int
    protocol: str
    evaluation: Evaluation
    epsilon: float = 0.0

    @property
    def cut(self) -> int:
        """Number of episodes that were cut off after `limit` steps."""
        # The lengths do not tell: an episode may terminate at the limit, and wrappers may skip steps that it counts
        is_given = self.request.max_episode_steps is not None
        return self.evaluation.truncated if is_given else self.evaluation.cut

    @property
    def limit(self) -> int:
        """Number of steps after which an episode was cut off; not those of the environment's own limit."""
        return self.request.max_episode_steps or LIMIT

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, as `pixelq evaluate --json` writes them; None for numbers that are not finite."""
        result = self.evaluation
        return {
            "env": result.env,
            "protocol": self.protocol,
            "checkpoint": written(self.request.checkpoint),
            "step": self.request.step,
            "episodes": result.episodes,
            "returns": [_finite(value) for value in result.returns],
            "lengths": result.lengths,
            "mean": _finite(result.mean),
            "median": _finite(result.median),
            "std": _finite(result.std),
            "ci95": [_finite(end) for end in result.ci95],
            "human_normalized": _finite(result.human_normalized),
            "mark": self.mark,
            "frames": self.frames,
            "seed": self.request.seed,
            "weights": self.request.weights,
            "epsilon": self.epsilon,
            "max_episode_steps": self.request.max_episode_steps,
            **({ARGUMENTS: dict(self.request.env_arguments)} if self.request.env_arguments else {}),
            "cut": self.cut,
        }


def _finite(value: float | None) -> float | None:
    """Return a number if JSON has it, and None for NaN and infinities."""
    return value if value is not None and math.isfinite(value) else None


def request_of(
    checkpoint: Path,
    episodes: int,
    *,
    protocol: str | None = None,
    flicker: float | None = None,
    seed: int = 0,
    device: str = "auto",
    max_episode_steps: int | None = None,
) -> Request:
    """Return what to play of a checkpoint; without `protocol`, `flicker` and a limit, by the rules of its training.

    Raises:
        InvalidEnv: If its environment is in a module that has not been imported, or a name that it needs leads to one
            that the user has not named.
        InvalidCheckpoint: If it is damaged, or does not say in which environment it was trained.
        UserError: If its protocol has no known name, or it cannot be played with that flicker.
    """
    folder = find_policy(checkpoint)
    state = read_description(folder)[0]
    try:
        weights = digest_of_file(folder / NETWORK)
    except OSError as error:
        raise InvalidCheckpoint(f"{folder / NETWORK} cannot be read ({error.strerror}); evaluate again") from error
    env = state.get("env")
    if env is None:
        raise InvalidCheckpoint(
            f"{checkpoint} does not say which environment it was trained in; evaluate it from Python, or train in one "
            "with a name: an ID, or classes and functions of a module, also as wrappers, and arguments that JSON has"
        )
    try:
        check_types(state, {"env": str})
        step, own, made = count(state, "step"), rules_of(state), env_arguments({ARGUMENTS: state.get(ARGUMENTS, {})})
        num_actions, (shape, _) = count(state, "num_actions"), observations(state.get("observation_space"))
    except (LookupError, ValueError) as error:
        raise InvalidCheckpoint(f"{checkpoint} does not describe an agent of this version: {error}") from error
    arguments = make_arguments(folder, env, made, num_actions, shape)
    if max_episode_steps is not None:
        arguments["max_episode_steps"] = max_episode_steps
    if protocol is None and split_rules(own or "")[0] not in (*PROTOCOLS, GYMNASIUM.name):
        raise UserError(f"{checkpoint} was trained with a protocol of its own, {own!r:.80}; give `protocol`")
    if flicker is not None and not 0 <= flicker < 1:
        raise UserError(f"`flicker` must be a probability in [0, 1), got {flicker:g}")
    if flicker and not is_atari(env):
        raise UserError(f"{checkpoint} plays {env:.80}, and only Atari games flicker; leave out `flicker`")
    rules = evaluation_rules(own, protocol, flicker)
    return Request(checkpoint, FromFile(env), weights, step, rules, episodes, seed, device, arguments)


def checkpoints_of(path: Path, which: str | None) -> list[Path]:
    """Return the checkpoints that a run or checkpoint, and `best`, `last` or `both` of a run, stand for.

    The name of a pretrained policy stays a name, so that what is said of it does not depend on where the package lies.
    One on the Hub stays one there, with its present commit as revision.

    Raises:
        InvalidCheckpoint: If there are none.
        UserError: If `which` is given for a checkpoint, or asks for a best one that is missing.
    """
    is_run = os.path.isdir(path / CHECKPOINTS)
    if which is not None and not is_run and find_policy(path):
        raise UserError(f"{path} is a checkpoint and not a run; leave out `which`")
    if is_pretrained(path):
        return [path]
    if is_on_hub(path):
        return [pinned(path)]
    found = [find_checkpoint(path / CHECKPOINTS / "latest")] if which in ("last", "both") else []
    if which != "last":
        found.insert(0, find_policy(path))
    if which == "best" and marked(path / CHECKPOINTS, "best") is None:
        raise UserError(f"{path} has no best checkpoint yet; give `which=last`")
    return list(dict.fromkeys(map(_without_link, found)))


def _without_link(folder: Path) -> Path:
    """Return what an older run's link leads to, as a path beside it; of another link, and of `.`, the full path."""
    target = folder.resolve()
    return folder.with_name(target.name) if folder.name and folder.parent.resolve() == target.parent else target


def mark_of(checkpoint: Path) -> str:
    """Return which of its run's checkpoints it is; its folder's name if it is neither the best nor the last.

    Of a policy on the Hub, it is the name of the repository.
    """
    if is_on_hub(checkpoint):
        return repository(checkpoint)[0]
    marks = [mark for name, mark in MARKS.items() if _is_marked(checkpoint, name)]
    return " and ".join(marks) or checkpoint.name


def _is_marked(checkpoint: Path, name: Mark) -> bool:
    target = marked(checkpoint.parent, name)
    return target is not None and target.resolve() == checkpoint.resolve()


def score(
    request: Request,
    played: Callable[[], None] = lambda: None,
    stepped: Callable[[int], None] = lambda steps: None,
) -> tuple[Policy, Score]:
    """Play a checkpoint in new games of its environment; `played` and `stepped` are called as by `evaluate`.

    Raises:
        InvalidCheckpoint: If it cannot be loaded, or its environment is not the same here.
        InvalidEnv: If there is no such environment.
    """
    policy = Policy.load(request.checkpoint, request.device)
    envs = make_vec(
        request.env,
        min(NUM_ENVS, request.episodes),
        derived_seed(request.seed, "evaluation"),
        request.protocol,
        **request.env_arguments,
    )
    try:
        if not policy.fits(envs):
            raise InvalidCheckpoint(
                f"{request.checkpoint} was trained on other observations or actions than {request.env} has here"
            )
        epsilon = evaluation_epsilon(policy.config, envs.protocol)
        options: dict[str, Any] = {"epsilon": epsilon, "seed": request.seed, "played": played, "stepped": stepped}
        result = evaluate(policy, envs, request.episodes, **options)
    finally:
        envs.close()
    frames = request.step * envs.frames_per_step
    return policy, Score(request, mark_of(request.checkpoint), frames, envs.protocol.rules, result, epsilon)


def film(
    request: Request,
    path: Path,
    stepped: Callable[[int], None] = lambda steps: None,
    most_seconds: float = math.inf,
) -> float:
    """Film an episode of a checkpoint that `score` does not play, and return its return; see `film_episode`."""
    policy = Policy.load(request.checkpoint, request.device)
    game = evaluation_game(policy, request.env, request.protocol, None, request.seed, request.env_arguments)
    game = replace(game, seed=derived_seed(request.seed, "evaluation", 1))  # part 0 is that of `score`
    return film_episode(policy, game, path, stepped, most_seconds)


class ScoreFile:
    """A file of scores, one line of JSON each, with which an interrupted evaluation can go on.

    Args:
        path: The file; created if it is missing. Half a line at its end, which a crash leaves, is cut off.

    Attributes:
        scores: JSON values of the scores that it held, by `Request.key`.

    Raises:
        UserError: If it cannot be written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = read_regular(path).decode() if path.exists() else ""
            whole = text[: text.rfind("\n") + 1]
            rest = text[len(whole) :]
            if rest[: len(BEGINNING)] != BEGINNING[: len(rest)]:  # not a line of ours that a crash cut off
                raise ValueError(rest)
            scores = [_checked_score(json.loads(line)) for line in whole.splitlines()]
            self.scores: dict[tuple[Any, ...], dict[str, Any]] = {
                tuple(values[name] for name in KEY): values for values in scores
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, whole.encode()) if whole != text else open_to_append(path).close()
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}); use another `results` file") from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} holds something else than scores; use another `results` file") from error

    def append(self, score: Score) -> None:
        """Append a score.

        Raises:
            RunFailed: If it cannot be written.
        """
        try:
            with open_to_append(self.path) as file:
                file.write(json.dumps(score.to_json()) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunFailed(
                f"{self.path} can no longer be written ({error.strerror}); evaluate again to continue"
            ) from error


def _checked_score(values: Any) -> dict[str, Any]:
    """Return the JSON values of a line of a file of scores, as `with_rules` has them.

    Raises:
        ValueError: If they are not those of a score.
    """
    if not isinstance(values, dict) or not values.keys() >= FIELDS.keys():
        raise ValueError("a field is missing")
    found = with_rules({"max_episode_steps": None} | values)  # older versions knew no limit
    check_types(found, FIELDS)
    low, high = found["ci95"]
    for value in (low, high, found["mean"], *found["returns"]):
        if not (value is None or isinstance(value, float) or is_number(value)):  # None is what JSON has for infinities
            raise ValueError(f"a score must be a number, got {value!r:.80}")
    return found
