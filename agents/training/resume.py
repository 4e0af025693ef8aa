"""What a checkpoint holds of a run beside its agent, gathered from the loop and put back into it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.errors import InvalidCheckpoint
from pixelq.agents.runs.machine import arithmetic
from pixelq.agents.storage.checkpoint import NETWORK, one_line, pack_tensors
from pixelq.agents.storage.files import digest, digest_of_file
from pixelq.agents.storage.validation import count, number, part
from pixelq.envs import InvalidEnv

if TYPE_CHECKING:
    from pixelq.agents.training.loop import Loop


def run_state(loop: Loop, obs: NDArray[Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """JSON values and arrays of a loop whose environments show ``obs`` [N, *observation]."""
    interval, arrays = loop.interval.state()
    state = {
        "learn_from": loop.learn_from,
        "steps_owed": loop.steps_owed,
        "restarts": loop.restarts,
        "evaluation_due": loop.evaluation_due,
        "wall_seconds": time.monotonic() - loop.wall_start,
        "arithmetic": arithmetic(loop.agent.device),
        **interval,
    }
    if loop.memory is not None:
        arrays |= {f"policy.{name}": tensor for name, tensor in loop.memory.arrays().items()}
    arrays["obs"] = torch.from_numpy(np.ascontiguousarray(obs))
    if hasattr(type(loop.envs), "get_state"):
        games = loop.envs.get_state()  # type: ignore[attr-defined]
        arrays |= {f"games.{name}": torch.from_numpy(values) for name, values in games.items()}
    return state, arrays


def restore_run(loop: Loop) -> dict[str, Any]:
    """Puts a loop where the run's checkpoint at its agent's step was written.

    Returns:
        an entry of ``resumed`` in config.json: the step, whether the run goes on exactly, and what is not as it was.

    Raises:
        InvalidCheckpoint: the checkpoint is damaged, or not of such a run.
    """
    step = loop.agent.step
    loop.line.say(f"going on from {loop.checkpoints.path(step)}")
    _check_agent(loop)
    learn_from = loop.learn_from
    state, arrays, lost = loop.checkpoints.read(step)
    try:
        loop.learn_from, loop.restarts = (count(state, name) for name in ("learn_from", "restarts"))
        loop.steps_owed = count(state, "steps_owed", most=loop.agent.config.train_every - 1)
        loop.evaluation_due = bool(state["evaluation_due"])
        loop.wall_before = number(state, "wall_seconds")
        loop.interval.load_state(state, arrays, loop.agent.device)
        if loop.memory is not None:
            loop.memory.load_arrays(part(arrays, "policy"))
        obs = arrays["obs"].numpy()
        games = {name: values.numpy() for name, values in part(arrays, "games").items()}
        if not isinstance(state["arithmetic"], dict) or "device" not in state["arithmetic"]:
            raise ValueError("arithmetic does not name the device")
        space = loop.agent.observation_space
        if (obs.shape, obs.dtype) != ((loop.envs.num_envs, *space.shape), space.dtype):
            raise ValueError(f"obs is {obs.dtype} {[*obs.shape]}")
        if not ((loop.replay.ring.action >= 0) & (loop.replay.ring.action < loop.agent.num_actions)).all():
            raise ValueError("the replay holds actions that there are not")
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidCheckpoint(f"{loop.checkpoints.path(step)} does not fit this run: {one_line(error)}") from error
    if lost is not None:
        lost, loop.learn_from = f"an empty replay: {lost}", learn_from
    else:
        lost = _restore_games(loop, obs, games)
        if lost is not None:
            loop.replay.cut(obs)
    if lost is not None:
        loop.interval.cut()
        loop.obs, _ = loop.envs.reset()
        if loop.memory is not None:
            loop.memory.restart()
    own = arithmetic(loop.agent.device)
    before = state["arithmetic"]
    changes = [
        f"{name} was {before[name]} and is {value}" for name, value in own.items() if before.get(name, value) != value
    ]
    if not own.get("deterministic", True):
        changes.append("a GPU repeats its sums only with deterministic algorithms")
    lost = lost or "; ".join(changes) or None
    how = "exactly" if lost is None else f"but not exactly ({lost})"
    loop.line.say(f"resumed at step {step:,}, {how}")
    return {"step": step, "exact": lost is None, "why_not": lost}


def _check_agent(loop: Loop) -> None:
    """Sees that a loop's agent is the run's at that step: a run goes on with its own.

    Raises:
        InvalidCheckpoint: it is another.
    """
    path = loop.checkpoints.path(loop.agent.step)
    weights = digest(pack_tensors(dict(loop.agent.network.state_dict())))
    if path.exists() and weights != digest_of_file(path / NETWORK):
        raise InvalidCheckpoint(f"the agent is not the one that {path} holds; go on with DQN.load({str(path)!r})")


def _restore_games(loop: Loop, obs: NDArray[Any], games: dict[str, NDArray[Any]]) -> str | None:
    """Puts the environments where they showed ``obs``; returns why that cannot be, or None."""
    if not games or not hasattr(type(loop.envs), "set_state"):
        return f"new episodes: {type(loop.envs).__name__} cannot be put back where it was"
    try:
        shown = loop.envs.set_state(games)  # type: ignore[attr-defined]
    except InvalidEnv as error:
        return f"new episodes: {error}"
    if not np.array_equal(shown, obs, equal_nan=shown.dtype.kind == "f"):
        return "new episodes: the environments show something else than they did"
    loop.obs = shown
    return None
