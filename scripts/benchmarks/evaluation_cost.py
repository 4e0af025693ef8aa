"""Greedy steps per second of an evaluation, beside those of the same games with fixed actions."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pixelq.agents import Policy
from pixelq.agents.evaluation.evaluate import evaluate
from pixelq.agents.runs.machine import hardware
from pixelq.envs import make_vec
from pixelq.envs.interface import resting
from pixelq.scripts.benchmarks.processes import process, receive
from pixelq.scripts.main import let_threads_sleep

POLICY = "pong"
"""The pretrained policy that is played."""
PARALLEL = (1, 8)
"""Numbers of episodes at once, of which the last is that of `pixelq evaluate`."""
ENDLESS = 10**6
"""Episodes of each environment: more than any turn has time for, so that all take part to its end."""
GREEDY, EMULATOR = "evaluation", "emulator alone"


class Played(NamedTuple):
    """What a turn has played."""

    steps: int
    """Agent steps, summed over the episodes."""
    seconds: float
    """Time that they took."""


class _Turn:
    """A clock that starts at the first step after the reset, which an evaluation has once in thousands of steps."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps, self.start = seconds, 0, 0.0

    def is_over(self) -> bool:
        """Return whether the turn has lasted long enough; asked before each step."""
        if not self.steps:
            self.start = time.perf_counter()
        return time.perf_counter() - self.start >= self.seconds

    def count(self, steps: int) -> None:
        """Count a step of some environments."""
        self.steps += steps

    def played(self) -> Played:
        """Return what has been played until now."""
        return Played(self.steps, time.perf_counter() - self.start)


def serve(connection: Connection, way: str, num_envs: int, device: str) -> None:
    """Play for each number of seconds received, and answer with what was played; the main function of a process.

    Args:
        connection: Connection to the process that measures.
        way: `GREEDY` or `EMULATOR`.
        num_envs: Number of episodes at once.
        device: `cpu` or `cuda`.
    """
    os.dup2(2, 1)  # stdout belongs to the parent
    policy = Policy.load(POLICY, device)
    envs = make_vec(policy.env_id or "", num_envs, 0, policy.protocol or "sticky", **policy.env_arguments)
    play = play_greedily if way == GREEDY else play_fixed_actions
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            connection.send(play(policy, envs, connection.recv()))


def play_greedily(policy: Policy, envs: Any, seconds: float) -> Played:
    """Play an evaluation for a time; all its environments take part to the end."""
    turn = _Turn(seconds)
    with suppress(InterruptedError):
        evaluate(policy, envs, ENDLESS * envs.num_envs, should_stop=turn.is_over, stepped=turn.count)
    return turn.played()


def play_fixed_actions(policy: Policy, envs: Any, seconds: float) -> Played:
    """Step the games of an evaluation for a time, each with one action after the other."""
    turn, step = _Turn(seconds), 0
    able = resting(envs)
    if able is not None:  # as an evaluation does, which changes how the games are stepped
        able.rest(np.zeros(envs.num_envs, np.bool_))
    envs.reset()
    actions = np.arange(policy.num_actions).repeat(envs.num_envs).reshape(-1, envs.num_envs)
    while not turn.is_over():
        turn.count(envs.num_envs)
        envs.step(actions[step % policy.num_actions])
        step += 1
    return turn.played()


def evaluation_costs(parallel: Sequence[int], device: torch.device, turns: int, seconds: float) -> dict[str, Any]:
    """Return the figures of all ways, measured in turns, as JSON values.

    Args:
        parallel: Numbers of episodes at once.
        device: Device of the policy.
        turns: Number of turns of each way.
        seconds: Length of a turn.
    """
    let_threads_sleep()  # as in `pixelq evaluate`, for the processes that are started here
    speeds: dict[tuple[int, str], list[float]] = {(n, way): [] for n in parallel for way in (GREEDY, EMULATOR)}
    with ExitStack() as stack, Console(stderr=True).status("") as status:
        connections = {}
        for num_envs, way in speeds:
            connections[num_envs, way] = stack.enter_context(process(serve, way, num_envs, device.type))
        for turn in range(-1, turns):
            for (num_envs, way), connection in connections.items():
                status.update(f"turn {turn + 1} of {turns}: {way}, {num_envs} episodes")
                connection.send(seconds if turn >= 0 else 0.1 * seconds)  # the first turn warms up
                played = receive(way, connection)
                if turn >= 0:
                    speeds[num_envs, way].append(played.steps / played.seconds)
    return summarize(speeds, device)


def summarize(speeds: dict[tuple[int, str], list[float]], device: torch.device) -> dict[str, Any]:
    """Return the figures of steps per second [turns] by number of episodes and way."""
    results = [
        {
            "episodes": num_envs,
            "steps_per_second": median(greedy),
            "emulator_steps_per_second": median(speeds[num_envs, EMULATOR]),
            "share": median(greedy) / median(speeds[num_envs, EMULATOR]),
            "runs": greedy,
            "emulator_runs": speeds[num_envs, EMULATOR],
        }
        for (num_envs, way), greedy in speeds.items()
        if way == GREEDY
    ]
    return {"hardware": hardware(device), "device": device.type, "policy": POLICY, "results": results}


def show_evaluation(figures: dict[str, Any], console: Console) -> None:
    """Print a table of the figures of `evaluation_costs`."""
    table = Table(
        title=f"greedy evaluation of the policy {figures['policy']} · {figures['device']}",
        caption="Agent steps/s over all episodes: median (min–max) over turns; a step is four frames.",
    )
    table.add_column("episodes at once", justify="right")
    for heading in (GREEDY, EMULATOR, "share"):
        table.add_column(heading, justify="right")
    for result in figures["results"]:
        cells = [
            f"{result[name]:,.0f} ({min(result[runs]):,.0f}–{max(result[runs]):,.0f})"
            for name, runs in (("steps_per_second", "runs"), ("emulator_steps_per_second", "emulator_runs"))
        ]
        table.add_row(str(result["episodes"]), *cells, f"{result['share']:.0%}")
    console.print(table)
