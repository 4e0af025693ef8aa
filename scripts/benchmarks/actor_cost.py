"""What actors cost: bytes of a row on the wire, and rows per second that a learner takes in and batches that it draws.

Run as `python -m pixelq.scripts.benchmarks.actor_cost`. Times are of the processor, so that other programs on the
machine change them little. Actors are simulated: they send the same block again and again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import gymnasium
import numpy as np

from pixelq.agents import DQN, AgentConfig, Replay
from pixelq.agents.distributed.actor_collector import ActorCollector
from pixelq.agents.distributed.block import Outcomes, Views, absent_outcomes
from pixelq.agents.distributed.team import Round, Team
from pixelq.agents.training.collector import Restarts
from pixelq.agents.training.interval import Interval
from pixelq.envs import make_vec

ROWS = 16
"""Rows of an environment in a block."""


class _SimulatedTeam:
    """Gives the same round again and again."""

    steps, in_flight, deaths, failure = ROWS, 0, 0, None

    def __init__(self, played: Round) -> None:
        self.played = played

    def begin(self) -> Views:
        return self.played.views

    def round(self, now: int) -> Round:
        return self.played

    def stop(self) -> None:
        pass


def simulated_round(num_envs: int, rng: np.random.Generator) -> Round:
    """Return a round of Atari rows in which no episode ends."""
    nothing = absent_outcomes(ROWS, num_envs, joins=True)
    outcomes = Outcomes(*nothing[:3], truncated=nothing.terminated, life_lost=nothing.life_lost)
    frames = rng.integers(256, size=(ROWS, num_envs, 84, 84), dtype=np.uint8)
    return Round(outcomes, Views(frames), [], np.zeros(num_envs, dtype=bool), 0)


def per_second(do: Callable[[], int], seconds: float) -> float:
    """Return how much is done in a second of the processor, by a function that returns how much it did."""
    do()
    begun, done = time.process_time(), 0
    while time.process_time() - begun < seconds:
        done += do()
    return done / (time.process_time() - begun)


def _given(team: Team) -> Team:
    return team


def _draw(replay: Replay) -> int:
    replay.sample(32)
    return 1


def main() -> None:
    """Measure, and print a line for each number of environments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of the processor for each figure")
    seconds = parser.parse_args().seconds
    rng = np.random.default_rng(0)
    envs = make_vec("ALE/Pong-v5", 1)
    for num_envs in (16, 64, 256):
        for prioritized in (False, True):
            config = AgentConfig(replay_capacity=200_000, prioritized=prioritized, hidden=16)
            space = envs.single_observation_space
            agent = DQN(space, gymnasium.spaces.Discrete(6), config, device="cpu")
            replay = agent.make_replay(num_envs, 4)
            assert isinstance(replay, Replay)
            team = cast(Team, _SimulatedTeam(simulated_round(num_envs, rng)))
            restarts = Restarts(agent, print, str)
            collector = ActorCollector(
                agent, _Like(envs, num_envs), replay, Interval(0), restarts, partial(_given, team)
            )
            collector.start()

            def write(collector: ActorCollector = collector, rows: int = num_envs) -> int:
                for _ in range(ROWS):
                    collector.act()
                    collector.receive()
                return ROWS * rows

            into = per_second(write, seconds)
            out = per_second(partial(_draw, replay), seconds)
            kind = "by priority" if prioritized else "uniform"
            print(f"{num_envs:4} environments, {kind:11}: {into:9,.0f} rows/s in, {out:7,.0f} batches of 32/s out")


class _Like(gymnasium.vector.VectorWrapper):
    """Environments that say that they are N."""

    def __init__(self, envs: gymnasium.vector.VectorEnv, num_envs: int) -> None:
        super().__init__(envs)
        self._total = num_envs

    @property
    def num_envs(self) -> int:  # type: ignore[override]
        return self._total


if __name__ == "__main__":
    main()
