"""Films an episode, as the game draws it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.exploration import epsilon_greedy
from pixelq.agents.run_log import InvalidRun
from pixelq.envs import make_filmed

if TYPE_CHECKING:
    from pixelq.agents.dqn import DQN

ATARI_HZ = 60
DEFAULT_FPS = 30
LEAST_HEIGHT = 400  # pixels; smaller screens are enlarged by a whole factor


def film_episode(
    agent: DQN,
    env_id: str,
    path: Path,
    *,
    protocol: str = "sticky",
    full_action_space: bool = False,
    epsilon: float = 0.0,
    seed: int = 0,
) -> float:
    """Plays one episode, writes it as an mp4 in real time, one picture for each agent step, and returns its return.

    Raises:
        InvalidEnv: the environment draws no pictures.
        InvalidRun: the file cannot be written.
    """
    import imageio.v2 as imageio  # brings its own ffmpeg

    envs = make_filmed(env_id, seed, protocol, full_action_space=full_action_space)
    fps = ATARI_HZ / envs.frames_per_step if envs.frames_per_step > 1 else envs.metadata.get("render_fps", DEFAULT_FPS)
    rng = np.random.default_rng(seed)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = imageio.get_writer(path, fps=fps, macro_block_size=2, codec="libx264", quality=8)
    except OSError as error:
        raise InvalidRun(f"{path} cannot be written ({error.strerror}); use another --video folder") from error
    total, done = 0.0, False
    with writer:
        obs, _ = envs.reset()
        writer.append_data(_enlarged(envs.frame()))
        while not done:
            actions, _ = agent.predict(obs)
            actions = epsilon_greedy(actions, agent.num_actions, epsilon, rng)
            obs, reward, terminated, truncated, _ = envs.step(actions)
            writer.append_data(_enlarged(envs.frame()))
            total += float(reward[0])
            done = bool(terminated[0] or truncated[0])
    envs.close()
    return total


def _enlarged(frame: NDArray[Any]) -> NDArray[Any]:
    """The picture with pixels repeated, and an even number of rows and columns as the codec needs."""
    factor = max(1, -(-LEAST_HEIGHT // frame.shape[0]))
    large = frame.repeat(factor, 0).repeat(factor, 1)
    return large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2]
