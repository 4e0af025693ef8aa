"""``pixelq benchmark``: our training speed and memory beside other libraries', at the same work, turn by turn."""

from __future__ import annotations

import importlib
import math
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from pixelq.agents import PRESETS, preset
from pixelq.agents.config.device import resolve_device
from pixelq.agents.errors import UserError
from pixelq.agents.learning.learner import has_bfloat16
from pixelq.envs.ids import check_id, is_atari
from pixelq.scripts.benchmarks.checkpoint_cost import checkpoint_costs, show_checkpoints
from pixelq.scripts.benchmarks.peers import ENTRIES, OURS, OURS_BFLOAT16, OWN, PEERS, serve
from pixelq.scripts.benchmarks.roofline import measure_peaks
from pixelq.scripts.benchmarks.sampling_cost import LEAST_ROWS, sampling_costs, show_sampling
from pixelq.scripts.benchmarks.speed import Measured, show, summarize, title
from pixelq.scripts.benchmarks.startup_cost import show_startup, startup_costs
from pixelq.scripts.benchmarks.step_cost import draw_steps
from pixelq.scripts.benchmarks.update_cost import show_costs, update_costs
from pixelq.scripts.benchmarks.work import Work, least_capacity
from pixelq.scripts.command_line import STDOUT, check_least, check_writable, optional_value, parse, write_json

PICTURES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class BenchmarkArgs:
    """Measure training speed against other libraries on one Atari game.

    All do the same work, the networks' actions and their updates included, and take turns in one run. Each has a
    process of its own. Its replay is full before the first turn.
    """

    against: str = "sb3"
    """Whom to compare with, with commas between them: sb3 (stable-baselines3), tianshou, cleanrl (no package; our own
    writing of the loop in its dqn_atari.py), pixelq-bfloat16 (our agent, its updates' products in bfloat16)."""
    env: str = "ALE/Pong-v5"
    """The game: a Gymnasium id ALE/*-v5."""
    num_envs: int = 8
    """Environments that each library plays at once."""
    replay_capacity: int = 20_000
    """Rows in each library's replay; a row is one step (7 kB of ours and tianshou's, 56 kB of stable-baselines3's,
    28 kB of cleanrl's)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto (a GPU where there is one), cpu or cuda."""
    seconds: float = 60.0
    """Seconds for which each library or preset is measured, or all ways to sample, over all turns."""
    turns: int = 5
    """Turns of each library; medians are over these."""
    updates: str | None = None
    """Instead, measure an update of these presets, with commas between them, or of all."""
    sampling: int | None = None
    """Instead, measure drawing batches from a replay of so many rows (1,000,000 take 7.1 GB)."""
    checkpoints: int | None = None
    """Instead, measure writing and reading the checkpoints of a run with a replay of so many rows."""
    startup: bool = False
    """Instead, measure the seconds from the start of `pixelq train` to its first environment step."""
    picture: Path | None = None
    """Draw where a step's time goes to this file (png, pdf or svg)."""
    json: Path | None = None
    """Write the figures as JSON to this file, or to stdout if no file is given."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, measures and prints."""
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
            draw_steps(figures["milliseconds_per_step"], title(figures), args.picture)
            console.print(f"picture in {args.picture}")
    if args.json is not None:
        write_json(figures, args.json, indent=2)


def _check(args: BenchmarkArgs) -> None:
    """Sees before anything is measured whether it can be."""
    if not 0 < args.seconds < math.inf:
        raise UserError(f"--seconds is {args.seconds}; it must be a positive number")
    modes = {
        "--updates": args.updates is not None,
        "--sampling": args.sampling is not None,
        "--checkpoints": args.checkpoints is not None,
        "--startup": args.startup,
    }
    chosen = [flag for flag, is_given in modes.items() if is_given]
    if len(chosen) > 1:
        raise UserError(f"{chosen[0]} and {chosen[1]} measure different things; give one of them")
    if args.picture is not None and (chosen or args.picture.suffix not in PICTURES):
        also = f" without {chosen[0]}" if chosen else ""
        raise UserError(f"--picture is {args.picture}; it must be a file that ends in {', '.join(PICTURES)}{also}")
    check_least(
        ("--turns", args.turns, 1),
        ("--num-envs", args.num_envs, 1),
        ("--replay-capacity", args.replay_capacity, least_capacity(args.num_envs)),
        ("--sampling", args.sampling, LEAST_ROWS),
        ("--checkpoints", args.checkpoints, least_capacity(args.num_envs)),
    )
    check_id(args.env)
    if not is_atari(args.env):
        raise UserError(f"--env is {args.env}; it must be an Atari game, such as ALE/Pong-v5")
    for path, flag in ((args.json, "--json"), (args.picture, "--picture")):
        if path not in (None, STDOUT):
            check_writable(path, flag)


def presets_of(names: str) -> list[str]:
    """The presets in --updates; ``classic`` is for vectors and not among all."""
    if names == "all":
        return [name for name in PRESETS if name != "classic"]
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in chosen:
        preset(name)
    return chosen


def check_entries(against: str, device: torch.device) -> list[str]:
    """The names in --against, if each of these libraries is there.

    Raises:
        UserError: one is not known or not there.
    """
    peers = list(dict.fromkeys(name.strip() for name in against.split(",")))
    known = [*PEERS, OURS_BFLOAT16]
    for name in peers:
        if name not in known:
            raise UserError(f"--against does not know {name!r}; there are {', '.join(known)}")
        if name == OURS_BFLOAT16 and not has_bfloat16(device):
            raise UserError(f"--against has {name}, but this {device.type} does not compute in bfloat16; leave it out")
        for module, requirement in ENTRIES[name].needs.items():
            try:
                importlib.import_module(module)
            except ImportError:
                raise UserError(f"{name} needs {module}: pip install {requirement}") from None
    return peers


def take_turns(names: Sequence[str], work: Work, device: torch.device, turns: int, seconds: float) -> Measured:
    """Measures the entries in turn, ``turns`` times for about ``seconds`` each; the others wait meanwhile."""
    measured = Measured({name: [] for name in names}, {}, {})
    with ExitStack() as stack, Console(stderr=True).status("") as status:
        connections = {}
        for name in names:
            status.update(f"{name} fills its replay with {work.replay_capacity:,} steps")
            connections[name] = stack.enter_context(_process(name, work, device.type))
            _receive(name, connections[name])
        for turn in range(turns):
            for name, connection in connections.items():
                status.update(f"turn {turn + 1} of {turns}: {name}, {seconds:.0f} s")
                connection.send(seconds)
                measured.runs[name].append(_receive(name, connection))
            for name, peak in measure_peaks(device).items():
                measured.peaks[name] = max(peak, measured.peaks.get(name, 0.0))
        for name in (name for name in names if name in OWN):
            status.update(f"{name}, part by part, {seconds:.0f} s")
            connections[name].send(None)
            measured.parts[name] = _receive(name, connections[name])
    return measured


@contextmanager
def _process(name: str, work: Work, device: str) -> Iterator[Connection]:
    """A process that serves an entry, and the connection to it."""
    context = multiprocessing.get_context("spawn")
    connection, far_end = context.Pipe()
    process = context.Process(target=serve, args=(far_end, name, work, device))  # no daemon: those may have no children
    process.start()
    far_end.close()  # so that the process's end is noticed here
    try:
        yield connection
    finally:
        connection.close()
        process.kill()  # it has nothing to save
        process.join()


def _receive(name: str, connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        raise RuntimeError(f"the process that measures {name} ended; why is printed above") from None


if __name__ == "__main__":
    from pixelq.scripts.main import run

    sys.exit(run("benchmark"))
