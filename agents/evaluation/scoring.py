"""Scores of saved policies: which checkpoint is meant, its full episodes in fresh games, and files of scores."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelq.agents import DQN, Evaluation, InvalidCheckpoint, evaluate
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.errors import RunFailed, UserError
from pixelq.agents.evaluation.episode import has_full_action_space, stacked_frames
from pixelq.agents.storage.checkpoint import NETWORK, find_checkpoint, read_checkpoint
from pixelq.agents.storage.files import digest_of_file, read_regular, write_synced
from pixelq.agents.storage.pretrained import find_policy, is_boxed
from pixelq.agents.storage.validation import count, flicker_of
from pixelq.envs import GYMNASIUM, PROTOCOLS, is_atari, make_vec

NUM_ENVS = 8
KEY = ("env", "weights", "step", "protocol", "episodes", "seed", "flicker")
"""By which the score of a request is known again."""
FIELDS = {*KEY, "checkpoint", "mark", "frames", "returns", "mean", "ci95", "human_normalized"}
"""What a line of a file of scores has at least."""
BEGINNING = '{"env": "'
"""Of each of its lines."""
MARKS = {"best": "best", "latest": "last"}
"""Links of a run's checkpoints, and what they are called."""


@dataclass(frozen=True)
class Request:
    """What is to be played.

    Attributes:
        checkpoint: its folder, or its name in the box.
        env: the id of the environment that it was trained in.
        weights: digest of its network, by which it is known wherever it lies.
        step: agent steps that it had learned for.
        protocol: by whose rules; outside Atari it makes no difference.
        episodes: full ones.
        seed: of the games and of the random actions.
        device: ``auto``, ``cpu`` or ``cuda``.
        flicker: probability that a picture is black.
    """

    checkpoint: Path
    env: str
    weights: str
    step: int
    protocol: str
    episodes: int
    seed: int = 0
    device: str = "auto"
    flicker: float = 0.0

    @property
    def key(self) -> tuple[Any, ...]:
        """What a score must have in common with this, in the order of ``KEY``."""
        rules = self.protocol if is_atari(self.env) else GYMNASIUM.name
        return self.env, self.weights, self.step, rules, self.episodes, self.seed, self.flicker


@dataclass(frozen=True)
class Score:
    """How good a checkpoint is.

    Attributes:
        request: what was played.
        mark: ``best``, ``last`` or ``best and last`` of its run; its own name if it is neither.
        frames: of the emulator, that it had learned for.
        protocol: by whose rules it was played.
        evaluation: returns and lengths.
    """

    request: Request
    mark: str
    frames: int
    protocol: str
    evaluation: Evaluation

    def to_json(self) -> dict[str, Any]:
        """JSON values: what ``pixelq evaluate --json`` writes."""
        result = self.evaluation
        return {
            "env": result.env,
            "protocol": self.protocol,
            "checkpoint": str(self.request.checkpoint),
            "step": self.request.step,
            "episodes": result.episodes,
            "returns": result.returns,
            "lengths": result.lengths,
            "mean": result.mean,
            "median": result.median,
            "std": result.std,
            "ci95": result.ci95,
            "human_normalized": result.human_normalized,
            "mark": self.mark,
            "frames": self.frames,
            "seed": self.request.seed,
            "weights": self.request.weights,
            "flicker": self.request.flicker,
        }


def request_of(
    checkpoint: Path,
    episodes: int,
    *,
    protocol: str | None = None,
    flicker: float | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Request:
    """What is to be played of a checkpoint; without ``protocol`` and ``flicker`` by the rules of its training.

    Raises:
        InvalidCheckpoint: it is damaged, or does not say in which environment it was trained.
        UserError: its protocol has no name, or it cannot play with such a flicker.
    """
    folder = find_policy(checkpoint)
    state, weights = read_checkpoint(folder).state, digest_of_file(folder / NETWORK)
    env, own = state.get("env"), state.get("protocol")
    if env is None:
        raise InvalidCheckpoint(
            f"{checkpoint} does not say which environment it was trained in; evaluate it from Python"
        )
    if protocol is None and own not in (*PROTOCOLS, GYMNASIUM.name):
        raise UserError(f"{checkpoint} was trained with a protocol of its own, {own!r:.80}; give --protocol")
    if flicker is not None and not 0 <= flicker < 1:
        raise UserError(f"--flicker is {flicker:g}; it must be a probability in [0, 1)")
    if flicker and not is_atari(str(env)):
        raise UserError(f"{checkpoint} plays {env:.80}, and only Atari games flicker; leave out --flicker")
    try:
        step = count(state, "step")
        own_flicker = flicker_of(state)
    except ValueError as error:
        raise InvalidCheckpoint(f"{checkpoint} does not describe an agent of this version: {error}") from error
    rules = protocol or (own if own in PROTOCOLS else "sticky")
    flicker = own_flicker if flicker is None else flicker
    return Request(checkpoint, str(env), weights, step, rules, episodes, seed, device, flicker)


def checkpoints_of(path: Path, which: str | None) -> list[Path]:
    """The checkpoints that are meant by a run or checkpoint, and by ``best``, ``last`` or ``both`` of a run.

    A name in the box stays a name, so that what is said of the policy does not depend on where the package lies.

    Raises:
        InvalidCheckpoint: there are none.
        UserError: ``which`` is given for a checkpoint, or asks for a best one that is not there.
    """
    is_run = os.path.isdir(path / "checkpoints")
    if which is not None and not is_run and find_policy(path):
        raise UserError(f"{path} is a checkpoint and no run; leave out --which")
    if is_boxed(path):
        return [path]
    found = [find_checkpoint(path / "checkpoints" / "latest")] if which in ("last", "both") else []
    if which != "last":
        found.insert(0, find_policy(path))
    if which == "best" and not os.path.isdir(path / "checkpoints" / "best"):
        raise UserError(f"{path} has no best checkpoint yet; give --which last")
    return list(dict.fromkeys(map(_without_link, found)))


def _without_link(folder: Path) -> Path:
    """What a link in a run leads to, beside it; of another link, and of ``.``, the whole path."""
    target = folder.resolve()
    return folder.with_name(target.name) if folder.name and folder.parent.resolve() == target.parent else target


def mark_of(checkpoint: Path) -> str:
    """What a checkpoint is to its run; its folder's name if that is nothing special."""
    marks = [mark for link, mark in MARKS.items() if _leads_to(checkpoint.parent / link, checkpoint)]
    return " and ".join(marks) or checkpoint.name


def _leads_to(link: Path, folder: Path) -> bool:
    return link.is_symlink() and link.resolve() == folder.resolve()


def score(request: Request, played: Callable[[], None] = lambda: None) -> tuple[DQN, Score]:
    """Plays a checkpoint in fresh games of its environment; ``played`` is called after each episode that counts.

    Raises:
        InvalidCheckpoint: it cannot be loaded, or its environment is not here what it was.
        InvalidEnv: there is no such environment.
    """
    agent = DQN.load(request.checkpoint, request.device)
    envs = make_vec(
        request.env,
        min(NUM_ENVS, request.episodes),
        derived_seed(request.seed, "evaluation"),
        request.protocol,
        full_action_space=has_full_action_space(agent),
        frame_stack=stacked_frames(agent),
        flicker=request.flicker,
    )
    try:
        if not agent.fits(envs):
            raise InvalidCheckpoint(
                f"{request.checkpoint} was trained on other observations or actions than {request.env} has here"
            )
        epsilon = envs.protocol.evaluation_epsilon
        result = evaluate(agent, envs, request.episodes, epsilon=epsilon, seed=request.seed, played=played)
    finally:
        envs.close()
    frames = request.step * envs.frames_per_step
    return agent, Score(request, mark_of(request.checkpoint), frames, envs.protocol.name, result)


class ScoreFile:
    """A file of scores, a line of JSON each, on which a broken evaluation can go on.

    Args:
        path: made if it is not there; half a line at its end, which a crash leaves, is cut off.

    Attributes:
        scores: what it held, by ``Request.key``.

    Raises:
        UserError: it cannot be written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = read_regular(path).decode() if path.exists() else ""
            whole = text[: text.rfind("\n") + 1]
            rest = text[len(whole) :]
            if rest[: len(BEGINNING)] != BEGINNING[: len(rest)]:  # no line of ours that a crash cut off
                raise ValueError(rest)
            scores = [{"flicker": 0.0} | json.loads(line) for line in whole.splitlines()]  # which older ones lack
            if not all(values.keys() >= FIELDS and isinstance(values["flicker"], int | float) for values in scores):
                raise ValueError("a field is missing or wrong")
            self.scores: dict[tuple[Any, ...], dict[str, Any]] = {
                tuple(values[name] for name in KEY): values for values in scores
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            write_synced(path, whole.encode()) if whole != text else path.open("a").close()
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}); use another --results file") from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} holds something else than scores; use another --results file") from error

    def append(self, score: Score) -> None:
        """Adds a score.

        Raises:
            RunFailed: it cannot be written.
        """
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(score.to_json()) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunFailed(
                f"{self.path} can no longer be written ({error.strerror}); it goes on when it can"
            ) from error
