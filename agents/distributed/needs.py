"""What a cell needs of a machine: memory, which is known before it starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from pixelq.agents.acting.network import learning_bytes
from pixelq.agents.config.env_flags import env_arguments
from pixelq.agents.distributed.cells import Cell
from pixelq.agents.errors import InvalidConfig, InvalidSpec
from pixelq.agents.experience.replay import replay_bytes
from pixelq.agents.experience.rollout import check_minibatches, rollout_bytes
from pixelq.envs import frame_stack_of, is_atari, make_vec

PROCESS = 600_000_000
"""Bytes of a process that trains, without what it learns from: Python, PyTorch and a few emulators."""
EMULATOR = 2_000_000
"""Bytes of an environment."""


class Need(NamedTuple):
    """Memory of a cell's process, in bytes."""

    process: int
    """Without what it learns from, which lies on the host in any case."""
    learning: int
    """Replay or rollout, network and updates, which lie on the device that it learns on."""


def needs_of(cells: Iterable[Cell]) -> dict[str, Need]:
    """Return what each cell needs, by name; one environment of each kind is made for it.

    Raises:
        InvalidEnv: If an environment cannot be made.
        InvalidSpec: If the settings of a cell do not fit its environment.
    """
    spaces: dict[Any, tuple[tuple[int, ...], np.dtype[Any], int, int]] = {}
    found, known = {}, dict[Any, Need]()
    for cell in cells:
        made = env_arguments(cell.flags, cell.config, cell.preset, is_game=is_atari(cell.env))
        kind = (cell.env, repr(made))
        if kind not in spaces:
            spaces[kind] = _observed(cell.env, made)
        agent = (kind, cell.preset, tuple(sorted((name, str(value)) for name, value in cell.agent.items())))
        if agent not in known:
            known[agent] = _need(cell, *spaces[kind])
        found[cell.name] = known[agent]
    return found


def _observed(env: str, made: dict[str, Any]) -> tuple[tuple[int, ...], np.dtype[Any], int, int]:
    """Return shape and type of an environment's observations, the frames in one, and the number of actions."""
    envs = make_vec(env, 1, 0, **made)
    try:
        space: Any = envs.single_observation_space
        actions: Any = envs.single_action_space
        return space.shape, np.dtype(space.dtype), frame_stack_of(envs), int(actions.n)
    finally:
        envs.close()


def _need(cell: Cell, shape: tuple[int, ...], dtype: np.dtype[Any], frame_stack: int, num_actions: int) -> Need:
    num_envs = cell.flags.num_envs
    assert num_envs is not None  # the preset's, if no other
    config, stored = cell.config, {"num_envs": num_envs, "frame_stack": frame_stack}
    try:
        if config.algorithm == "pqn":
            check_minibatches(config, num_envs)
            rows: float = rollout_bytes(shape, dtype, config, **stored)
        else:
            rows = replay_bytes(shape, dtype, config, **stored)
        network = learning_bytes(shape, num_actions, config, num_envs)
    except InvalidConfig as error:
        raise InvalidSpec(f"{cell.name} cannot be run: {error}") from error
    return Need(PROCESS + EMULATOR * num_envs, int(rows) + network)
