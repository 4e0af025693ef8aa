"""Single episodes: what is played, step by step, and filmed as the game draws it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.agents.acting.memory import Memory
from pixelq.agents.acting.noise import EvaluationNoise
from pixelq.agents.acting.policy import Policy
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.errors import InvalidCheckpoint
from pixelq.agents.evaluation.evaluate import check_masks
from pixelq.agents.evaluation.exploration import evaluation_epsilon
from pixelq.agents.evaluation.film import Film
from pixelq.agents.storage.files import read_regular
from pixelq.agents.storage.json_values import MOST_JSON
from pixelq.agents.storage.pointers import run_of
from pixelq.agents.storage.rules import LIMIT, time_limit
from pixelq.envs import (
    PROTOCOLS,
    FilmedAtari,
    GymnasiumVec,
    check_imported,
    is_atari,
    make_filmed,
    resolve_protocol,
    split_rules,
    with_flicker,
)
from pixelq.envs.action_masks import ActionMasks
from pixelq.envs.atari import ATARI_STACK
from pixelq.envs.interface import has_time_limit
from pixelq.envs.make import check_arguments

ATARI_HZ = 60
DEFAULT_FPS = 30


@dataclass(frozen=True)
class Game:
    """One episode to play: environment, rules and seed."""

    env_id: str
    """An ID that `make_filmed` takes."""
    protocol: str = "sticky"
    """Rules of an Atari game, as in `make_vec`."""
    epsilon: float = 0.0
    """Probability of a random action."""
    seed: int = 0
    """Seed of the game and of the random actions."""
    env_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `make_vec`, as those of the policy's training."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of `make_vec` and `make_filmed`, besides the ID and the number of environments."""
        return {"seed": self.seed, "protocol": self.protocol, **self.env_arguments}


def evaluation_rules(trained: str | None, protocol: str | None = None, flicker: float | None = None) -> str:
    """Return the rules to evaluate by: those of the training, with another protocol or flicker where these are given.

    Args:
        trained: Rules of the training. Names that are not in `PROTOCOLS` stand for `sticky`.
        protocol: Name of another protocol; flicker stays that of the training.
        flicker: Another probability that a frame is black.

    Raises:
        InvalidEnv: If the protocol is unknown or the flicker out of range.
    """
    name, own_flicker = split_rules(trained or "")
    own = with_flicker(name if name in PROTOCOLS else "sticky", own_flicker)
    return with_flicker(protocol or own, own.flicker if flicker is None else flicker).rules


def make_arguments(
    folder: Path, env_id: str, own: Mapping[str, Any], num_actions: int, shape: Sequence[int]
) -> dict[str, Any]:
    """Return the arguments of `make_vec` that make the environments of a saved policy's training again.

    Checkpoints of older versions do not hold them. Then they follow from the network and the run's config.json.

    Args:
        folder: Folder of a checkpoint in its run, or of a pretrained policy.
        env_id: ID of the environment.
        own: Arguments that the checkpoint holds.
        num_actions: Number of the policy's actions.
        shape: Shape of its observations.

    Raises:
        InvalidCheckpoint: If config.json says something else than a number of steps.
        InvalidEnv: If this version has no such argument, or a name leads to code that the user has not named.
    """
    arguments, limit = dict(own), _time_limit_of(folder)
    if not arguments:
        if is_atari(env_id) and num_actions == 18:
            arguments["full_action_space"] = True
        if is_atari(env_id) and len(shape) == 3 and shape[0] != ATARI_STACK:
            arguments["frame_stack"] = shape[0]
        if limit is not None:
            arguments["max_episode_steps"] = limit
    check_arguments(arguments)
    check_imported(env_id, arguments)
    return arguments


def _time_limit_of(checkpoint: Path) -> int | None:
    """Return the steps after which episodes were cut off in the training of a checkpoint, if its config.json says so.

    Args:
        checkpoint: Folder of a checkpoint in its run, or of a pretrained policy.

    Raises:
        InvalidCheckpoint: If it says something else than a number of steps.
    """
    run = run_of(checkpoint)
    for path in (folder / "config.json" for folder in (checkpoint, run) if folder is not None):
        try:
            config = json.loads(read_regular(path, MOST_JSON))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(config, dict):
            try:
                return time_limit(config)
            except ValueError as error:
                raise InvalidCheckpoint(f"{path} does not describe a run ({error}); restore the file") from error
    return None


def evaluation_game(
    policy: Policy, env_id: str, rules: str, epsilon: float | None, seed: int, env_arguments: Mapping[str, Any]
) -> Game:
    """Return what a policy plays when it is evaluated, with seeds that no training uses.

    Args:
        policy: The policy.
        env_id: ID of the environment.
        rules: Rules of an Atari game; see `evaluation_rules`.
        epsilon: Probability of a random action; None for that of `evaluation_epsilon`.
        seed: Seed of the evaluation.
        env_arguments: Further arguments of `make_vec`; see `make_arguments`.
    """
    if epsilon is None:
        epsilon = evaluation_epsilon(policy.config, resolve_protocol(rules) if is_atari(env_id) else None)
    return Game(env_id, rules, epsilon, derived_seed(seed, "evaluation"), env_arguments)


class PlayedStep(NamedTuple):
    """One agent step of an episode: the state before it, the action and the reward."""

    observation: NDArray[Any]  # [*observation]
    picture: NDArray[np.uint8]  # [height, width, 3], the same moment in colour
    q_values: NDArray[np.float32]  # [A]; −∞ for actions that are not allowed
    action: int
    reward: float  # raw
    memory: Memory | None  # LSTM state before the observation was read; None without an LSTM


def film_episode(
    policy: Policy,
    game: Game,
    path: Path,
    stepped: Callable[[int], None] = lambda steps: None,
    most_seconds: float = math.inf,
) -> float:
    """Play one episode, write it as an mp4 in real time with one picture per agent step, and return its return.

    Args:
        policy: The policy, whose greedy actions are played.
        game: What to play.
        path: Path of the mp4.
        stepped: Called after each step with 1.
        most_seconds: Seconds of play after which the episode is left, and the return is that of these.

    Raises:
        InvalidCheckpoint: If the environment has other observations or actions than the policy.
        InvalidEnv: If the environment draws no pictures.
        InvalidRun: If the file cannot be created.
        RunFailed: If it can no longer be written.
    """
    envs = make_filmed(game.env_id, **game.arguments)
    try:
        if not policy.fits(envs):
            raise InvalidCheckpoint(f"the policy is of other observations or actions than {game.env_id} has here")
        total, most = 0.0, most_seconds * frames_per_second(envs)
        for step in play_episode(policy, envs, path, epsilon=game.epsilon, seed=game.seed, most_steps=most):
            stepped(1)
            total += step.reward
        return total
    finally:
        envs.close()


def play_episode(
    policy: Policy,
    envs: FilmedAtari | GymnasiumVec,
    path: Path | None,
    *,
    epsilon: float = 0.0,
    seed: int = 0,
    most_steps: float = math.inf,
) -> Iterator[PlayedStep]:
    """Play one episode and yield its steps; with a path, film it there as the T + 1 pictures of T steps.

    Picture t of the film is the state before step t. The last one shows how the episode ended. In environments without
    a time limit, it is cut off after `LIMIT` steps.

    Args:
        policy: The policy, whose greedy actions are played.
        envs: Environments of `make_filmed`; they are reset here.
        path: Path of the mp4; None films nothing.
        epsilon: Probability of a random action.
        seed: Seed of the random actions and of the noise.
        most_steps: Number of steps after which the episode is left.

    Raises:
        InvalidConfig: If the environments have no action masks and the policy was trained with them.
        InvalidRun: If the file cannot be created.
        RunFailed: If it can no longer be written.
    """
    rng, noise = np.random.default_rng(seed), EvaluationNoise(policy, seed)
    limit = min(most_steps, math.inf if has_time_limit(envs) else LIMIT)
    with nullcontext() if path is None else Film(path, frames_per_second(envs)) as film:
        action_masks = ActionMasks(envs, policy.num_actions)
        obs, info = envs.reset()
        masks = action_masks.read(info)
        check_masks(policy, masks)
        picture, done, memory, steps = envs.frame(), False, policy.make_memory(1), 0
        while not done:
            if film is not None:
                film.add(picture)
            # Act
            remembered = copy.copy(memory)  # a shallow copy serves: a step replaces a memory's arrays
            q_values = policy.q_values(obs, memory, noise.draw(1), masks)  # [1, A]
            greedy = q_values.argmax(1).cpu().numpy()
            actions = epsilon_greedy(greedy, policy.num_actions, epsilon, rng, masks)
            # Step
            before, seen = obs[0], picture
            obs, reward, terminated, truncated, info = envs.step(actions)
            masks = action_masks.read(info, terminated | truncated)
            picture, steps = envs.frame(), steps + 1
            done = bool(terminated[0] or truncated[0]) or steps >= limit
            if memory is not None:
                memory.step(actions, reward, terminated | truncated)
            if done and film is not None:
                film.add(picture)
            yield PlayedStep(before, seen, q_values[0].cpu().numpy(), int(actions[0]), float(reward[0]), remembered)


def frames_per_second(envs: FilmedAtari | GymnasiumVec) -> float:
    """Return the number of agent steps in a second of the game."""
    if envs.frames_per_step > 1:
        return ATARI_HZ / envs.frames_per_step
    return float(envs.metadata.get("render_fps", DEFAULT_FPS))
