"""The flags of `pixelq benchmark`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pixelq.agents.errors import UserError
from pixelq.scripts.benchmarks.growth_points import ALL, names_of
from pixelq.scripts.benchmarks.pqn_work import PQN_ENVS
from pixelq.scripts.benchmarks.work import LEAST_ROWS, SMALL, least_capacity
from pixelq.scripts.command_line import check_least, integer, optional_value, parse

PICTURES = (".png", ".pdf", ".svg")
"""Endings of the files that a picture can be written to."""
EQUAL_ENVS = 8
"""Number of environments of each library where they do equal work."""
RACE_SECONDS = 1200.0
"""Most seconds of each entry of a race."""
RACE_ALONE, EQUAL_ALONE = ("--presets", "--seeds"), ("--turns", "--replay-capacity")
"""Flags of a race alone, and those that a race has no use for."""
GROWTH_SECONDS, GROWTH_TURNS = 8.0, 3
"""Seconds and turns of each point of `--growth`, with which all of them take about ten minutes on two cores."""
NOT_FOR_GROWTH = ("--algorithm", "--against", "--num-envs", "--replay-capacity")
"""Flags whose place the points of `--growth` take."""
OWN_GAME = {"--small": SMALL.env, "--evaluation": "Pong"}
"""Measurements that do not play the game of --env, and what they play."""


@dataclass(frozen=True)
class BenchmarkArgs:
    """Compare the training speed of pixelq and other libraries on one Atari game.

    All do the same work, including acting and updates, each in its own process, and take turns. Replays are filled
    before the first turn. With --to-score, the libraries race to a score instead, each with its own settings.
    """

    algorithm: Literal["dqn", "pqn"] = "dqn"
    """What to train: dqn, or pqn with rollouts of 32 steps in (by default) 128 environments and two epochs of 32
    minibatches. pqn can be compared with cleanrl (our implementation of pqn_atari_envpool.py), on our environments."""
    against: str = "sb3"
    """Entries to compare with, separated by commas: sb3 (stable-baselines3), tianshou, cleanrl (our implementation of
    dqn_atari.py), pixelq-bfloat16 (updates in bfloat16), or none. In a race: sb3 with the settings of
    rl-baselines3-zoo, cleanrl with those of its script, or none."""
    to_score: float | None = None
    """Race to this score instead: record learning curves over wall-clock time, in turns, until our presets have reached
    it. The score is the mean raw return of the last 30 whole training games."""
    presets: str = "quick"
    """Our presets in a race, separated by commas; all entries use the protocol of the first."""
    seeds: str = "0"
    """Seeds of the races, separated by commas; one race per seed."""
    env: str = "ALE/Pong-v5"
    """Game to play: a Gymnasium ID ALE/*-v5."""
    num_envs: int | None = None
    """Number of environments that each library plays at once; None for 8. In a race, that of our presets; None for the
    same as in `pixelq train`."""
    replay_capacity: int = 20_000
    """Rows in each library's replay; a row is one step (7 kB in pixelq and tianshou, 56 kB in stable-baselines3, 28 kB
    in cleanrl)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on: auto (a GPU if there is one), cpu or cuda."""
    seconds: float = 60.0
    """Seconds for which each library or preset is measured, over all turns; for drawing batches, all methods together.
    In a race, the maximum for each entry, by default 1200; for growth, for each point, by default 8."""
    turns: int = 5
    """Number of turns of each library; results are medians over turns. For growth, turns of each point, by default
    3."""
    updates: str | None = None
    """Measure an update of these presets instead, separated by commas, or of all."""
    sampling: int | None = None
    """Measure drawing batches from a replay of this many rows instead (1,000,000 take 7.1 GB)."""
    checkpoints: int | None = None
    """Measure writing and reading the checkpoints of a run instead, with a replay of this many rows."""
    startup: bool = False
    """Measure the time from the start of `pixelq train` to its first environment step instead, and the start-up times
    of other commands and of imports."""
    growth: str | None = None
    """Measure how speed and memory grow instead, for the preset quick and for DQN with the settings of the comparison,
    with the number of environments (envs), rows of the replay (replay, up to 7.1 GB), batch size (batch), cores, frame
    stack (stack) or frame size (frame). Separate names by commas; without a value, measure all."""
    small: bool = False
    """Measure a small network instead: the preset classic on CartPole, with one environment, one-step returns and
    clipped gradients, compared with sb3."""
    evaluation: bool = False
    """Measure greedy evaluation instead: the pretrained policy of Pong in one episode and in eight (or --num-envs) at
    once, compared with the same games with fixed actions."""
    picture: Path | None = None
    """File (png, pdf or svg) for a plot of the parts of a step, a race or growth; None for no plot."""
    json: Path | None = None
    """File for the results as JSON; without a value, print them on stdout; None writes none. Results of speed, updates,
    races and growth are written after every round of turns."""

    @property
    def envs_of_each(self) -> int:
        """Number of environments of each library where they do equal work."""
        usual = SMALL.num_envs if self.small else EQUAL_ENVS
        return usual if self.num_envs is None else self.num_envs

    @property
    def seeds_to_race(self) -> list[int]:
        """Seeds of the races.

        Raises:
            UserError: If one is no seed.
        """
        try:
            seeds = list(dict.fromkeys(integer(text.strip()) for text in self.seeds.split(",")))
        except ValueError:
            seeds = [-1]
        if min(seeds) < 0:
            raise UserError(f"--seeds must be integers of at least 0, separated by commas, got {self.seeds}")
        return seeds

    @property
    def series_to_measure(self) -> list[str]:
        """Series of `--growth`.

        Raises:
            UserError: If there is no such series, or it cannot be measured here.
        """
        return names_of(ALL if self.growth is None else self.growth)


def read(arguments: Sequence[str]) -> BenchmarkArgs:
    """Return the flags of a command line.

    Raises:
        UserError: If they do not fit.
    """
    given = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    is_race = "--to-score" in given
    defaults = BenchmarkArgs(seconds=RACE_SECONDS) if is_race else None
    if "--growth" in given:
        defaults = BenchmarkArgs(seconds=GROWTH_SECONDS, turns=GROWTH_TURNS)
    arguments = optional_value(optional_value(arguments, "--json"), "--growth", ALL)
    args = parse(BenchmarkArgs, "benchmark", arguments, defaults)
    if args.algorithm == "pqn" and not is_race:
        args = parse(BenchmarkArgs, "benchmark", arguments, BenchmarkArgs(against="cleanrl", num_envs=PQN_ENVS))
    if not 0 < args.seconds < math.inf:
        raise UserError(f"--seconds must be a positive number, got {args.seconds}")
    modes = {
        "--to-score": args.to_score is not None,
        "--updates": args.updates is not None,
        "--sampling": args.sampling is not None,
        "--checkpoints": args.checkpoints is not None,
        "--startup": args.startup,
        "--growth": args.growth is not None,
        "--small": args.small,
        "--evaluation": args.evaluation,
    }
    chosen = [flag for flag, is_given in modes.items() if is_given]
    if len(chosen) > 1:
        raise UserError(f"{chosen[0]} and {chosen[1]} measure different things; give only one of them")
    for flag in RACE_ALONE if args.to_score is None else EQUAL_ALONE:
        if flag in given:
            use = "is for a race, which --to-score starts" if args.to_score is None else "is not for a race"
            raise UserError(f"{flag} {use}; leave it out")
    if args.to_score is not None and not math.isfinite(args.to_score):
        raise UserError(f"--to-score must be a finite number, got {args.to_score}")
    _ = args.seeds_to_race  # which are checked
    if args.growth is not None:
        _ = args.series_to_measure  # which are checked
        for flag in NOT_FOR_GROWTH:
            if flag in given:
                raise UserError(f"{flag} is not for --growth, which has its own points; leave it out")
    if args.algorithm != "dqn" and chosen:
        raise UserError(f"{chosen[0]} measures DQN alone; leave out --algorithm {args.algorithm}")
    for flag in chosen:
        if flag in OWN_GAME and "--env" in given:
            raise UserError(f"{flag} always plays {OWN_GAME[flag]}; leave out --env")
    if args.picture is not None and chosen not in ([], ["--to-score"], ["--growth"], ["--small"]):
        raise UserError(f"--picture draws the parts of a step, which {chosen[0]} does not measure; leave it out")
    if args.picture is not None and args.picture.suffix not in PICTURES:
        raise UserError(f"--picture must be a file that ends in {', '.join(PICTURES)}, got {args.picture}")
    check_least(
        ("--turns", args.turns, 1),
        ("--num-envs", args.num_envs, 1),
        ("--replay-capacity", args.replay_capacity, least_capacity(args.envs_of_each)),
        ("--sampling", args.sampling, LEAST_ROWS),
        ("--checkpoints", args.checkpoints, least_capacity(args.envs_of_each)),
    )
    return args
