"""`pixelq benchmark`: our training speed and memory beside those of other libraries, at the same work, in turns."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from pixelq.agents.config.device import resolve_device
from pixelq.agents.errors import RunFailed, UserError
from pixelq.envs.ids import check_id, is_atari
from pixelq.scripts.benchmarks.checkpoint_cost import checkpoint_costs, show_checkpoints
from pixelq.scripts.benchmarks.peers import OURS
from pixelq.scripts.benchmarks.sampling_cost import LEAST_ROWS, sampling_costs, show_sampling
from pixelq.scripts.benchmarks.speed import check_entries, show, summarize, take_turns, title
from pixelq.scripts.benchmarks.startup_cost import show_startup, startup_costs
from pixelq.scripts.benchmarks.step_cost import draw_steps
from pixelq.scripts.benchmarks.update_cost import presets_of, show_costs, update_costs
from pixelq.scripts.benchmarks.work import Work, least_capacity
from pixelq.scripts.command_line import STDOUT, check_least, check_writable, optional_value, parse, write_json
from pixelq.scripts.main import run

PICTURES = (".png", ".pdf", ".svg")
"""Endings of the files that a picture can be written to."""


@dataclass(frozen=True)
class BenchmarkArgs:
    """Measure training speed against other libraries on one Atari game.

    All do the same work, including inference and updates, and take turns in one run. Each has its own process, and its
    replay is full before the first turn.
    """

    against: str = "sb3"
    """Entries to compare with, with commas between them: sb3 (stable-baselines3), tianshou, cleanrl (no package; our
    own version of the loop in its dqn_atari.py), pixelq-bfloat16 (our agent with the products of an update in
    bfloat16)."""
    env: str = "ALE/Pong-v5"
    """Game to play: a Gymnasium ID ALE/*-v5."""
    num_envs: int = 8
    """Number of environments that each library plays at once."""
    replay_capacity: int = 20_000
    """Rows in each library's replay; a row is one step (7 kB in pixelq and tianshou, 56 kB in stable-baselines3, 28 kB
    in cleanrl)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on: auto (a GPU if there is one), cpu or cuda."""
    seconds: float = 60.0
    """Seconds for which each library or preset is measured over all turns; with --sampling, all ways together."""
    turns: int = 5
    """Number of turns of each library; medians are over these."""
    updates: str | None = None
    """Measure an update of these presets instead, with commas between them, or of all."""
    sampling: int | None = None
    """Measure drawing batches from a replay of this many rows instead (1,000,000 take 7.1 GB)."""
    checkpoints: int | None = None
    """Measure writing and reading the checkpoints of a run instead, with a replay of this many rows."""
    startup: bool = False
    """Measure the seconds from the start of `pixelq train` to its first environment step instead."""
    picture: Path | None = None
    """File (png, pdf or svg) for a picture of where a step's time goes; None draws none."""
    json: Path | None = None
    """File for the figures as JSON; without a value they go to stdout, and None writes none."""


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, measure, and print the figures."""
    args = parse(BenchmarkArgs, "benchmark", optional_value(arguments, "--json"))
    _check(args)
    device = resolve_device(args.device)
    console = Console(stderr=args.json == STDOUT)
    seconds = args.seconds / args.turns
    if args.updates is not None:
        figures = update_costs(presets_of(args.updates), device, args.turns, seconds)
        show_costs(figures, console)
    elif args.sampling is not None:
        figures = sampling_costs(args.sampling, args.num_envs, device, args.turns, seconds)
        show_sampling(figures, console)
    elif args.checkpoints is not None:
        figures = checkpoint_costs(args.env, args.checkpoints, args.num_envs, device)
        show_checkpoints(figures, console)
    elif args.startup:
        figures = startup_costs(args.env, args.num_envs, device, args.turns)
        show_startup(figures, console)
    else:
        work = Work(args.env, args.num_envs, args.replay_capacity)
        measured = take_turns([OURS, *check_entries(args.against, device)], work, device, args.turns, seconds)
        figures = summarize(measured, work, device)
        show(figures, console)
        if args.picture is not None:
            try:
                draw_steps(figures["milliseconds_per_step"], title(figures), args.picture)
            except OSError as error:
                raise RunFailed(f"the picture cannot be written to {args.picture} ({error.strerror})") from error
            console.print(f"picture in {args.picture}")
    if args.json is not None:
        write_json(figures, args.json, indent=2)


def _check(args: BenchmarkArgs) -> None:
    """Check, before anything is measured, that it can be."""
    if not 0 < args.seconds < math.inf:
        raise UserError(f"--seconds must be a positive number, got {args.seconds}")
    modes = {
        "--updates": args.updates is not None,
        "--sampling": args.sampling is not None,
        "--checkpoints": args.checkpoints is not None,
        "--startup": args.startup,
    }
    chosen = [flag for flag, is_given in modes.items() if is_given]
    if len(chosen) > 1:
        raise UserError(f"{chosen[0]} and {chosen[1]} measure different things; give only one of them")
    if args.picture is not None and chosen:
        raise UserError(f"--picture draws the parts of a step, which {chosen[0]} does not measure; leave it out")
    if args.picture is not None and args.picture.suffix not in PICTURES:
        raise UserError(f"--picture must be a file that ends in {', '.join(PICTURES)}, got {args.picture}")
    check_least(
        ("--turns", args.turns, 1),
        ("--num-envs", args.num_envs, 1),
        ("--replay-capacity", args.replay_capacity, least_capacity(args.num_envs)),
        ("--sampling", args.sampling, LEAST_ROWS),
        ("--checkpoints", args.checkpoints, least_capacity(args.num_envs)),
    )
    check_id(args.env)
    if not is_atari(args.env):
        raise UserError(f"--env must be an Atari game, such as ALE/Pong-v5, got {args.env}")
    for path, flag in ((args.json, "--json"), (args.picture, "--picture")):
        if path not in (None, STDOUT):
            check_writable(path, flag)


if __name__ == "__main__":
    sys.exit(run("benchmark"))
