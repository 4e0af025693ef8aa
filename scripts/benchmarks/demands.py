"""What each preset demands of a machine, without a measurement of time: a table in Markdown.

`python -m pixelq.scripts.benchmarks.demands PRESET …` prints it, for all presets without a name. Arithmetic is that of
matrix products, convolutions and LSTMs for one agent step: acting, and the updates that the step calls for, relative
to `dqn`. Observations are Pong's for the presets of Atari games, CartPole's for vectors and MinAtar's Breakout's.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction

import gymnasium
import numpy as np
import torch

from pixelq.agents import DQN, PQN, AgentConfig, preset
from pixelq.agents.config.at_step import epochs_at, minibatches_at, past_rollouts_at
from pixelq.agents.config.presets import ATARI_PRESETS, PRESET_NUM_ENVS, PRESET_PROTOCOLS, PRESETS
from pixelq.agents.errors import UserError
from pixelq.agents.experience.replay import make_replay
from pixelq.agents.experience.rollout import Minibatch, Rollout, make_rollout
from pixelq.scripts.benchmarks.update_cost import ACTIONS, flop_of, random_batch

CPU = torch.device("cpu")
FEW_ROWS = 10_000
"""Rows of the replay that tells what a row takes: the preset's own may be more than the machine has memory for."""
LATE = 10**12
"""Step at which the demands of presets with schedules are counted."""
OF_MINATAR = "minatar_"
"""Beginning of the names of the presets for MinAtar."""
HEADER = (
    "| preset | environments | protocol | memory | updates per step | times | arithmetic |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


@dataclasses.dataclass(frozen=True)
class Demands:
    """Demands of one preset."""

    num_envs: int
    """Environments that `pixelq train` plays at once."""
    protocol: str
    """Rules of its Atari games; empty where it is not for Atari."""
    memory: float
    """Bytes of the replay, or of the rollout."""
    updates: Fraction
    """Updates for each agent step."""
    times: Fraction
    """How often a step is learned from, in the mean."""


def made_for(name: str) -> tuple[AgentConfig, gymnasium.spaces.Box, gymnasium.spaces.Discrete]:
    """Return the configuration of a preset, and the observations and actions of an environment that it is made for."""
    config = preset(name)
    if name in ATARI_PRESETS:
        shape = (config.frame_stack, config.frame_size, config.frame_size)
        return config, gymnasium.spaces.Box(0, 255, shape, np.uint8), ACTIONS
    whole = dataclasses.replace(config, frame_stack=1)
    if name.startswith(OF_MINATAR):
        return whole, gymnasium.spaces.Box(0, 255, (4, 10, 10), np.uint8), gymnasium.spaces.Discrete(3)
    return whole, gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32), gymnasium.spaces.Discrete(2)


def demands_of(name: str) -> Demands:
    """Return the demands of a preset but for its arithmetic.

    Raises:
        InvalidConfig: If there is no such preset.
    """
    config, observations, _ = made_for(name)
    num_envs = PRESET_NUM_ENVS[name]
    if config.algorithm == "pqn":
        rollout = _rollout(config, observations, num_envs)
        memory: float = rollout.ring.nbytes + rollout.values.nbytes
        updates = Fraction(minibatches_at(config, LATE), config.rollout_length * num_envs)
        times = Fraction(minibatches_at(config, LATE), config.minibatches)
    else:
        small = dataclasses.replace(config, replay_capacity=FEW_ROWS)
        replay = make_replay(
            observations.shape,
            observations.dtype,
            small,
            num_envs=num_envs,
            frame_stack=config.frame_stack,
            device=CPU,
            seed=0,
        )
        memory = replay.bytes_per_row * config.replay_capacity
        updates = Fraction(config.gradient_steps, config.train_every)
        steps = 1 if config.lstm is None else config.sequence_length - config.burn_in
        times = updates * config.batch_size * steps
    return Demands(num_envs, PRESET_PROTOCOLS[name] if name in ATARI_PRESETS else "", memory, updates, times)


def step_flop(name: str) -> float:
    """Return the multiplications and additions that a preset takes for one agent step, acting and learning."""
    config, observations, actions = made_for(name)
    agent = (PQN if config.algorithm == "pqn" else DQN)(observations, actions, config, device=CPU)

    def act(count: int) -> int:
        shown, noise = np.zeros((count, *observations.shape), observations.dtype), agent.network.draw_noise(count)
        return flop_of(lambda: agent.q_values(shown, noise=noise)).total

    def learn(count: int) -> int:
        if isinstance(agent, PQN):
            minibatch = _minibatch(agent, count)
            return flop_of(lambda: agent.learner.update(minibatch)).total
        small = dataclasses.replace(config, batch_size=count)
        batch = random_batch(small, CPU, observations, int(actions.n))
        return flop_of(lambda: agent.learner.update(batch)).total

    num_envs = PRESET_NUM_ENVS[name]
    size = num_envs / config.minibatches if config.algorithm == "pqn" else config.batch_size
    updates = float(demands_of(name).updates)
    valued = 1 + epochs_at(config, LATE) * past_rollouts_at(config, LATE)  # times, also as a step of earlier rollouts
    return valued * _extended(act, num_envs) / num_envs + updates * _extended(learn, size)


def _extended(flop: Callable[[int], int], size: float) -> float:
    """Return a count for a batch of some size from those of 1 and 2, since it grows by as much with each item."""
    one, two = flop(1), flop(2)
    return one + (size - 1) * (two - one)


def _rollout(config: AgentConfig, observations: gymnasium.spaces.Box, num_envs: int) -> Rollout:
    """Return an empty rollout."""
    shape, dtype, stack = observations.shape, observations.dtype, config.frame_stack
    whole = dataclasses.replace(config, minibatches=1)
    return make_rollout(shape, dtype, whole, num_envs=num_envs, frame_stack=stack, device=CPU, seed=0)


def _minibatch(agent: PQN, num_envs: int) -> Minibatch:
    """Return all steps of a rollout of N environments whose observations are all 0."""
    config, space = agent.config, agent.observation_space
    rollout, obs = _rollout(config, space, num_envs), np.zeros((num_envs, *space.shape), space.dtype)
    never, memory = np.zeros(num_envs, dtype=bool), agent.make_memory(num_envs)
    for _ in range(config.rollout_length):
        rollout.observe(obs, None if memory is None else memory.state)
        rollout.complete(never.astype(np.int64), never.astype(np.float32), never, never)
    target = torch.zeros(config.rollout_length, num_envs)
    return rollout.gather(next(rollout.draw(target, count=1, epochs=1)))


def row_of(name: str, demands: Demands) -> str:
    """Return the cells of a preset but for the arithmetic, each with its bar before it."""
    protocol = f"`{demands.protocol}`" if demands.protocol else ""
    cells = [f"`{name}`", demands.num_envs, protocol, _bytes(demands.memory)]
    cells += [f"{demands.updates.numerator}/{demands.updates.denominator:,}".removesuffix("/1")]
    cells += [f"{float(demands.times):.3g}"]
    return "".join(f"| {cell} " if cell != "" else "| " for cell in cells)


def _bytes(count: float) -> str:
    unit, name = (1e9, "GB") if count >= 1e9 else (1e6, "MB")
    return f"{count / unit:.2g} {name}" if count < 10 * unit else f"{count / unit:.0f} {name}"


def main(names: Sequence[str]) -> int:
    """Print the table of some presets, or of all; return the exit code."""
    try:
        rows = {name: row_of(name, demands_of(name)) for name in names or PRESETS}
    except UserError as error:
        print(f"demands: {error}", file=sys.stderr)
        return 2
    print(HEADER)
    dqn = step_flop("dqn")
    for name, row in rows.items():
        print(f"{row}| {step_flop(name) / dqn:.2g} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
