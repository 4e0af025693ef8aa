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
    """Measure training speed against other libraries on one Atari game.

    All do the same work, including inference and updates, and take turns in one run. Each has its own process, and its
    replay is full before the first turn. With --to-score, they race instead: each learns with the settings of its own
    source, up to a score.
    """

    algorithm: Literal["dqn", "pqn"] = "dqn"
    """What to train: dqn, or pqn with 128 environments by default, 32 steps of each in a rollout, and two epochs of 32
    minibatches, against cleanrl (our own version of the loop in its pqn_atari_envpool.py) on our environments."""
    against: str = "sb3"
    """Entries to compare with, with commas between them: sb3 (stable-baselines3), tianshou, cleanrl (no package; our
    own version of the loop in its dqn_atari.py), pixelq-bfloat16 (our agent with the products of an update in
    bfloat16), or none. In a race: sb3 with the settings of rl-baselines3-zoo, cleanrl with those of its script, or
    none."""
    to_score: float | None = None
    """Race to this score instead: learning curves over wall-clock time, in turns, up to the moment when our presets
    have it. A score is the mean raw return of the last 30 whole games of the training."""
    presets: str = "quick"
    """Our presets in a race, with commas between them; all entries play by the protocol of the first."""
    seeds: str = "0"
    """Seeds of the races, with commas between them; one race for each."""
    env: str = "ALE/Pong-v5"
    """Game to play: a Gymnasium ID ALE/*-v5."""
    num_envs: int | None = None
    """Number of environments that each library plays at once; None for 8. In a race those of our presets; None for that
    of `pixelq train`."""
    replay_capacity: int = 20_000
    """Rows in each library's replay; a row is one step (7 kB in pixelq and tianshou, 56 kB in stable-baselines3, 28 kB
    in cleanrl)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on: auto (a GPU if there is one), cpu or cuda."""
    seconds: float = 60.0
    """Seconds for which each library or preset is measured over all turns; with --sampling, all ways together. In a
    race the most seconds of each entry, by default 1200; of growth those of each point, by default 8."""
    turns: int = 5
    """Number of turns of each library; medians are over these. With --growth those of each point, by default 3."""
    updates: str | None = None
    """Measure an update of these presets instead, with commas between them, or of all."""
    sampling: int | None = None
    """Measure drawing batches from a replay of this many rows instead (1,000,000 take 7.1 GB)."""
    checkpoints: int | None = None
    """Measure writing and reading the checkpoints of a run instead, with a replay of this many rows."""
    startup: bool = False
    """Measure the seconds from the start of `pixelq train` to its first environment step instead, and those of other
    commands and of imports."""
    growth: str | None = None
    """Measure how speed and memory grow instead, of the preset quick and of DQN with the settings of the comparison:
    with the number of environments (envs), rows of the replay (replay, up to 7.1 GB), batch, cores, frame stack
    (stack) or frame size (frame). Names with commas between them; without a value all of them."""
    small: bool = False
    """Measure a small network instead: the work of our preset classic on CartPole, with one environment, one-step
    returns and clipped gradients, against sb3."""
    evaluation: bool = False
    """Measure greedy evaluation instead: the policy that comes with pixelq in one episode of Pong and in eight at once,
    or in --num-envs, against the same games with fixed actions."""
    picture: Path | None = None
    """File (png, pdf or svg) for a picture of where a step's time goes, of a race, or of growth; None draws none."""
    json: Path | None = None
    """File for the figures as JSON; without a value they go to stdout, and None writes none. Figures of speed, updates,
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
            raise UserError(f"--seeds must be integers from 0 on, with commas between them, got {self.seeds}")
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
