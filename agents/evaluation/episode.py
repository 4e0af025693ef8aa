"""Single episodes: what is played, step by step, and filmed as the game draws it."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.agents.acting.memory import Memory
from pixelq.agents.acting.policy import Policy
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.errors import InvalidRun
from pixelq.agents.evaluation.exploration import EvaluationNoise, evaluation_epsilon
from pixelq.envs import (
    PROTOCOLS,
    FilmedAtari,
    GymnasiumVec,
    is_atari,
    make_filmed,
    resolve_protocol,
    split_rules,
    with_flicker,
)

ATARI_HZ = 60
DEFAULT_FPS = 30
LEAST_HEIGHT = 400  # pixels; smaller screens are enlarged by an integer factor


@dataclass(frozen=True)
class Game:
    """One episode to play: environment, rules and seed."""

    env_id: str
    """An ID that `make_filmed` takes."""
    protocol: str = "sticky"
    """Rules of an Atari game, as in `make_vec`."""
    full_action_space: bool = False
    """Atari only: whether to use all 18 actions."""
    epsilon: float = 0.0
    """Probability of a random action."""
    seed: int = 0
    """Seed of the game and of the random actions."""
    frame_stack: int | None = None
    """Atari only: number of frames in an observation; None for 4."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of `make_vec` and `make_filmed`, besides the ID and the number of environments."""
        return {
            "seed": self.seed,
            "protocol": self.protocol,
            "full_action_space": self.full_action_space,
            "frame_stack": self.frame_stack,
        }


def has_full_action_space(policy: Policy) -> bool:
    """Return whether an Atari policy has all 18 joystick actions, whether its game has as many of its own or not."""
    return policy.num_actions == 18


def stacked_frames(policy: Policy) -> int | None:
    """Return the number of frames in an observation of an Atari policy; None for other policies."""
    shape = policy.observation_space.shape
    return shape[0] if is_atari(policy.env_id or "") and len(shape) == 3 else None


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


def evaluation_game(policy: Policy, env_id: str, rules: str, epsilon: float | None, seed: int) -> Game:
    """Return what a policy plays when it is evaluated, with seeds that no training uses.

    Args:
        policy: Its actions and frame stack are taken.
        env_id: ID of the environment.
        rules: Rules of an Atari game; see `evaluation_rules`.
        epsilon: Probability of a random action; None for that of `evaluation_epsilon`.
        seed: Seed of the evaluation.
    """
    if epsilon is None:
        epsilon = evaluation_epsilon(policy.config, resolve_protocol(rules) if is_atari(env_id) else None)
    seed = derived_seed(seed, "evaluation")
    return Game(env_id, rules, has_full_action_space(policy), epsilon, seed, stacked_frames(policy))


class PlayedStep(NamedTuple):
    """One agent step of an episode: the state before it, the action and the reward."""

    observation: NDArray[Any]  # [*observation]
    picture: NDArray[np.uint8]  # [height, width, 3], the same moment in colour
    q_values: NDArray[np.float32]  # [A]
    action: int
    reward: float  # raw
    memory: Memory | None  # LSTM state before the observation was read; None without an LSTM


def film_episode(policy: Policy, game: Game, path: Path) -> float:
    """Play one episode, write it as an mp4 in real time with one picture per agent step, and return its return.

    Raises:
        InvalidEnv: If the environment draws no pictures.
        InvalidRun: If the file cannot be written.
    """
    envs = make_filmed(game.env_id, **game.arguments)
    try:
        steps = play_episode(policy, envs, path, epsilon=game.epsilon, seed=game.seed)
        return sum((step.reward for step in steps), 0.0)
    finally:
        envs.close()


def play_episode(
    policy: Policy, envs: FilmedAtari | GymnasiumVec, path: Path | None, *, epsilon: float = 0.0, seed: int = 0
) -> Iterator[PlayedStep]:
    """Play one episode and yield its steps; with a path, film it there as the T + 1 pictures of T steps.

    Picture t of the film is the state before step t. The last one shows how the episode ended.

    Args:
        policy: The policy, whose greedy actions are played.
        envs: Environments of `make_filmed`; they are reset here.
        path: Path of the mp4; None films nothing.
        epsilon: Probability of a random action.
        seed: Seed of the random actions and of the noise.

    Raises:
        InvalidRun: If the file cannot be written.
    """
    rng, noise = np.random.default_rng(seed), EvaluationNoise(policy, seed)
    with nullcontext() if path is None else _writer(path, frames_per_second(envs)) as film:
        obs, _ = envs.reset()
        picture, done, memory = envs.frame(), False, policy.make_memory(1)
        while not done:
            if film is not None:
                film.append_data(_enlarged(picture))
            # Act
            remembered = copy.copy(memory)  # a shallow copy serves: a step replaces a memory's arrays
            q_values = policy.q_values(obs, memory, noise.draw(1))  # [1, A]
            greedy = q_values.argmax(1).cpu().numpy()
            actions = epsilon_greedy(greedy, policy.num_actions, epsilon, rng)
            # Step
            before, seen = obs[0], picture
            obs, reward, terminated, truncated, _ = envs.step(actions)
            picture, done = envs.frame(), bool(terminated[0] or truncated[0])
            if memory is not None:
                memory.step(actions, reward, terminated | truncated)
            if done and film is not None:
                film.append_data(_enlarged(picture))
            yield PlayedStep(before, seen, q_values[0].cpu().numpy(), int(actions[0]), float(reward[0]), remembered)


def frames_per_second(envs: FilmedAtari | GymnasiumVec) -> float:
    """Return the number of agent steps in a second of the game."""
    if envs.frames_per_step > 1:
        return ATARI_HZ / envs.frames_per_step
    return float(envs.metadata.get("render_fps", DEFAULT_FPS))


def _writer(path: Path, fps: float) -> Any:
    import imageio.v2 as imageio  # brings its own ffmpeg

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.islink(path):  # nothing is written through a link that came with a run
            path.unlink()
        return imageio.get_writer(path, fps=fps, macro_block_size=2, codec="libx264", quality=8)
    except OSError as error:
        raise InvalidRun(f"{path} cannot be written ({error.strerror}); use another folder for the film") from error


def _enlarged(frame: NDArray[Any]) -> NDArray[Any]:
    """Return the picture with pixels repeated, and an even number of rows and columns as the codec needs."""
    factor = max(1, -(-LEAST_HEIGHT // frame.shape[0]))
    large = frame.repeat(factor, 0).repeat(factor, 1)
    return large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2]
