"""Learning curves of runs with actors, beside those of one process.

Run as `python -m pixelq.scripts.benchmarks.actor_curves --out DIR`. Each kind of run has the same seeds and games, one
run after another. Started again, it makes the runs that are missing, and prints the table in Markdown.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import logging
import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pixelq.agents import DQN, ActorEnvs, AgentConfig, preset
from pixelq.envs import make_vec

NUM_ENVS = 8
EVALUATIONS = 4
"""Evaluations of a run, at equal distances."""
SHOWN = (0, 1, 3)
"""Those in the table: at a quarter, at half and at the end of the steps."""
EPISODES = 20
"""Episodes of an evaluation."""


class Game(NamedTuple):
    """What is trained, and how long."""

    env: str
    config: AgentConfig
    steps: int
    digits: int
    """Decimals of a return in the table."""


CATCH = dataclasses.replace(
    preset("classic"),
    hidden=64,
    batch_size=32,
    learning_rate=5e-4,
    replay_capacity=4_000,
    learning_starts=500,
    train_every=4,
    target_update_every=200,
    epsilon_steps=3_000,
)
MINATAR = dataclasses.replace(preset("minatar_dqn"), learning_starts=1_000, epsilon_steps=15_000)
GAMES = (
    Game("pixelq/Catch-v0", CATCH, 8_000, 2),
    Game("CartPole-v1", preset("classic"), 12_000, 0),
    Game("MinAtar/Breakout-v1", MINATAR, 30_000, 1),
)
KINDS: dict[str, dict[str, Any]] = {
    "one process": {},
    "one actor, nothing ahead": {"actors": 1, "ahead": 0},
    "two actors": {"actors": 2},
}
"""Arguments of `ActorEnvs` for each kind of run; none for a training without actors."""


def train(game: Game, kind: str, seed: int, out: Path) -> None:
    """Train a run of a kind."""
    actors = KINDS[kind]
    envs: Any = ActorEnvs(game.env, NUM_ENVS, seed, **actors) if actors else make_vec(game.env, NUM_ENVS, seed)
    agent = DQN(envs.single_observation_space, envs.single_action_space, game.config, device="cpu", seed=seed)
    agent.learn(
        envs,
        game.steps,
        out,
        evaluation_envs=make_vec(game.env, 10, 1_000 + seed),
        evaluate_every=game.steps // EVALUATIONS,
        evaluation_episodes=EPISODES,
        progress=False,
    )
    envs.close()


def curve_of(run: Path) -> list[float]:
    """Return the mean returns of a run's evaluations; none before it has finished."""
    if not (run / "evaluations.csv").exists():
        return []
    with (run / "evaluations.csv").open(newline="") as file:
        means = [float(row["mean"]) for row in csv.DictReader(file)]
    return means if len(means) == EVALUATIONS else []


def row_of(game: Game, kind: str, curves: Sequence[Sequence[float]]) -> str:
    """Return a line of the table: means over the seeds, with their standard errors."""
    at, digits = np.array(curves)[:, SHOWN], game.digits
    errors = at.std(0, ddof=1) / math.sqrt(len(at))
    cells = [f"{mean:.{digits}f} ± {error:.{digits}f}" for mean, error in zip(at.mean(0), errors, strict=True)]
    lowest, highest = at[:, -1].min(), at[:, -1].max()
    return f"| {game.env} | {kind} | {' | '.join(cells)} | {lowest:.{digits}f} to {highest:.{digits}f} |"


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, at least 2")
    names = [game.env for game in GAMES]
    parser.add_argument("--envs", nargs="+", default=names, choices=names, help="environments; MinAtar is an extra")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error(f"--seeds must be at least 2, for the errors over seeds, got {args.seeds}")
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(  # once for all runs
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=2**28,
    )
    games = [game for game in GAMES if game.env in args.envs]
    curves: dict[tuple[Game, str], list[list[float]]] = {(game, kind): [] for game in games for kind in KINDS}
    for seed in range(args.seeds):
        for game, kind in curves:
            out = args.out / f"{game.env.replace('/', '-')}-{kind.replace(',', '').replace(' ', '-')}-seed{seed}"
            begun, has_run = time.monotonic(), bool(curve_of(out))
            if not has_run:
                shutil.rmtree(out, ignore_errors=True)  # of a run that was killed
                train(game, kind, seed, out)
            curves[game, kind].append(curve := curve_of(out))
            print(f"{out.name}: {curve}, {time.monotonic() - begun:.0f} s", flush=True)
    print(
        f"\n| environment | how | {' | '.join(f'{(at + 1) / EVALUATIONS:.0%}' for at in SHOWN)} | lowest to highest |"
    )
    print("| --- " * 6 + "|")
    for (game, kind), of_seeds in curves.items():
        print(row_of(game, kind, of_seeds))


if __name__ == "__main__":
    main()
