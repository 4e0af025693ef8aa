"""Plays an episode step by step, and films it as the game draws it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.acting.exploration import epsilon_greedy
from pixelq.agents.acting.memory import Memory
from pixelq.agents.config.seeds import derived_seed
from pixelq.agents.errors import InvalidRun
from pixelq.envs import PROTOCOLS, ClassicVec, FilmedAtari, is_atari, make_filmed

if TYPE_CHECKING:
    from pixelq.agents.dqn import DQN

ATARI_HZ = 60
DEFAULT_FPS = 30
LEAST_HEIGHT = 400  # pixels; smaller screens are enlarged by a whole factor


@dataclass(frozen=True)
class Game:
    """One episode to be played: of what, by which rules, and with which chance."""

    env_id: str
    """An id that ``make_filmed`` takes."""
    protocol: str = "sticky"
    """As in ``make_vec``."""
    full_action_space: bool = False
    """Atari only: all 18 actions."""
    epsilon: float = 0.0
    """Probability of a random action."""
    seed: int = 0
    """Of the game and of the random actions."""
    frame_stack: int = 4
    """Atari only: frames in an observation."""
    flicker: float = 0.0
    """Atari only: probability that a frame is black."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Of ``make_vec`` and ``make_filmed``, beside id and number of environments."""
        return {
            "seed": self.seed,
            "protocol": self.protocol,
            "full_action_space": self.full_action_space,
            "frame_stack": self.frame_stack,
            "flicker": self.flicker,
        }


def has_full_action_space(agent: DQN) -> bool:
    """Whether an Atari agent plays with all 18 joystick actions, its game's own or not."""
    return agent.num_actions == 18


def stacked_frames(agent: DQN) -> int:
    """Frames in an observation of an Atari agent; of others a number that nothing asks for."""
    return agent.observation_space.shape[0] if len(agent.observation_space.shape) == 3 else 1


def evaluation_game(
    agent: DQN, env_id: str, protocol: str | None, epsilon: float | None, seed: int, flicker: float | None = None
) -> Game:
    """What an agent plays of an environment when it is evaluated, in games that no training has seen.

    Args:
        agent: whose rules and actions are taken.
        env_id: of the environment.
        protocol: Atari rules; None for those of the training, or ``sticky`` where these have no name.
        epsilon: probability of a random action; None for the protocol's in evaluations.
        seed: of the evaluation.
        flicker: probability that a picture is black; None for that of the training.
    """
    rules = protocol or (agent.protocol if agent.protocol in PROTOCOLS else "sticky") or "sticky"
    if epsilon is None:
        epsilon = PROTOCOLS[rules].evaluation_epsilon if is_atari(env_id) and rules in PROTOCOLS else 0.0
    seed = derived_seed(seed, "evaluation")
    flicker = agent.flicker if flicker is None else flicker
    return Game(env_id, rules, has_full_action_space(agent), epsilon, seed, stacked_frames(agent), flicker)


class PlayedStep(NamedTuple):
    """One agent step of an episode: what was seen before it, what was done, and what came of it."""

    observation: NDArray[Any]  # [*observation]
    picture: NDArray[np.uint8]  # [height, width, 3], the same moment in colour
    q_values: NDArray[np.float32]  # [A]
    action: int
    reward: float  # raw
    memory: Memory | None  # what the agent remembered before it saw the observation; None without an LSTM


def film_episode(agent: DQN, game: Game, path: Path) -> float:
    """Plays one episode, writes it as an mp4 in real time, one picture for each agent step, and returns its return.

    Raises:
        InvalidEnv: the environment draws no pictures.
        InvalidRun: the file cannot be written.
    """
    envs = make_filmed(game.env_id, **game.arguments)
    try:
        steps = play_episode(agent, envs, path, epsilon=game.epsilon, seed=game.seed)
        return sum((step.reward for step in steps), 0.0)
    finally:
        envs.close()


def play_episode(
    agent: DQN, envs: FilmedAtari | ClassicVec, path: Path | None, *, epsilon: float = 0.0, seed: int = 0
) -> Iterator[PlayedStep]:
    """Plays one episode and yields its steps; with a path, it is filmed there: the T + 1 pictures of T steps.

    Picture t of the film is what was seen before step t; the last shows how the episode ended.

    Args:
        agent: its greedy policy is played.
        envs: of ``make_filmed``; reset here.
        path: of the mp4; None films nothing.
        epsilon: probability of a random action.
        seed: of the random actions.

    Raises:
        InvalidRun: the file cannot be written.
    """
    rng = np.random.default_rng(seed)
    with nullcontext() if path is None else _writer(path, frames_per_second(envs)) as film:
        obs, _ = envs.reset()
        picture, done, memory = envs.frame(), False, agent.make_memory(1)
        while not done:
            if film is not None:
                film.append_data(_enlarged(picture))
            remembered = copy.copy(memory)  # which a step does not change: a memory's arrays are replaced as it goes on
            q_values = agent.q_values(obs, memory)  # [1, A]
            greedy = q_values.argmax(1).cpu().numpy()
            actions = epsilon_greedy(greedy, agent.num_actions, epsilon, rng)
            before, seen = obs[0], picture
            obs, reward, terminated, truncated, _ = envs.step(actions)
            picture, done = envs.frame(), bool(terminated[0] or truncated[0])
            if memory is not None:
                memory.step(actions, reward, terminated | truncated)
            if done and film is not None:
                film.append_data(_enlarged(picture))
            yield PlayedStep(before, seen, q_values[0].cpu().numpy(), int(actions[0]), float(reward[0]), remembered)


def frames_per_second(envs: FilmedAtari | ClassicVec) -> float:
    """Agent steps in a second of the game's own time."""
    if envs.frames_per_step > 1:
        return ATARI_HZ / envs.frames_per_step
    return float(envs.metadata.get("render_fps", DEFAULT_FPS))


def _writer(path: Path, fps: float) -> Any:
    import imageio.v2 as imageio  # brings its own ffmpeg

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return imageio.get_writer(path, fps=fps, macro_block_size=2, codec="libx264", quality=8)
    except OSError as error:
        raise InvalidRun(f"{path} cannot be written ({error.strerror}); use another folder for the film") from error


def _enlarged(frame: NDArray[Any]) -> NDArray[Any]:
    """The picture with pixels repeated, and an even number of rows and columns as the codec needs."""
    factor = max(1, -(-LEAST_HEIGHT // frame.shape[0]))
    large = frame.repeat(factor, 0).repeat(factor, 1)
    return large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2]
