"""``pixelq benchmark``: our training speed and memory beside other libraries', at the same work, turn by turn."""

from __future__ import annotations

import importlib
import math
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from pixelq.agents import PRESETS, preset
from pixelq.agents.dqn import resolve_device
from pixelq.agents.run_log import hardware
from pixelq.envs.ids import check_id, is_atari
from pixelq.scripts.command_line import STDOUT, UsageError, check_writable, optional_value, parse, write_json
from pixelq.scripts.peers import ENTRIES, OURS, PEERS, Turn, serve
from pixelq.scripts.sampling_cost import LEAST_ROWS, sampling_costs, show_sampling
from pixelq.scripts.update_cost import show_costs, update_costs
from pixelq.scripts.work import Work


@dataclass(frozen=True)
class BenchmarkArgs:
    """Measure training speed against other libraries on one Atari game.

    All do the same work, the networks' actions and their updates included, and take turns in one run. Each has a
    process of its own. Its replay is full before the first turn.
    """

    against: str = "sb3"
    """Libraries to compare with, with commas between them: sb3 (stable-baselines3), tianshou, cleanrl (no package;
    our own writing of the loop in its dqn_atari.py)."""
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
        figures = update_costs(_presets(args.updates), device, args.turns, seconds)
        show_costs(figures, console)
    elif args.sampling is not None:
        figures = sampling_costs(args.sampling, args.num_envs, device, args.turns, seconds)
        show_sampling(figures, console)
    else:
        work = Work(args.env, args.num_envs, args.replay_capacity)
        runs = take_turns([OURS, *_peers(args.against)], work, device.type, args.turns, seconds)
        figures = summarize(runs, work, device)
        show(figures, console)
    if args.json is not None:
        write_json(figures, args.json, indent=2)


def _check(args: BenchmarkArgs) -> None:
    """Sees before anything is measured whether it can be."""
    if not 0 < args.seconds < math.inf:
        raise UsageError(f"--seconds is {args.seconds}; it must be a positive number")
    if args.updates is not None and args.sampling is not None:
        raise UsageError("--updates and --sampling measure different things; give one of them")
    for flag, value, least in (
        ("--turns", args.turns, 1),
        ("--num-envs", args.num_envs, 1),
        ("--replay-capacity", args.replay_capacity, max(Work.batch_size, 8 * args.num_envs)),
        ("--sampling", args.sampling, LEAST_ROWS),
    ):
        if value is not None and value < least:
            raise UsageError(f"{flag} is {value}; it must be at least {least}")
    check_id(args.env)
    if not is_atari(args.env):
        raise UsageError(f"--env is {args.env}; it must be an Atari game, such as ALE/Pong-v5")
    if args.json not in (None, STDOUT):
        check_writable(args.json, "--json")


def _presets(names: str) -> list[str]:
    """The presets in --updates; ``classic`` is for vectors and not among all."""
    if names == "all":
        return [name for name in PRESETS if name != "classic"]
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in chosen:
        preset(name)
    return chosen


def _peers(against: str) -> list[str]:
    """The names in --against, if each of these libraries is there."""
    peers = list(dict.fromkeys(name.strip() for name in against.split(",")))
    for name in peers:
        if name not in PEERS:
            raise UsageError(f"--against does not know {name!r}; there are {', '.join(PEERS)}")
        for module, requirement in PEERS[name].needs.items():
            try:
                importlib.import_module(module)
            except ImportError:
                raise UsageError(f"{name} needs {module}: pip install {requirement}") from None
    return peers


def take_turns(names: Sequence[str], work: Work, device: str, turns: int, seconds: float) -> dict[str, list[Turn]]:
    """Measures the entries in turn, ``turns`` times for about ``seconds`` each; the others wait meanwhile."""
    runs: dict[str, list[Turn]] = {name: [] for name in names}
    with ExitStack() as stack, Console(stderr=True).status("") as status:
        connections = {}
        for name in names:
            status.update(f"{name} fills its replay with {work.replay_capacity:,} steps")
            connections[name] = stack.enter_context(_process(name, work, device))
            _receive(name, connections[name])
        for turn in range(turns):
            for name, connection in connections.items():
                status.update(f"turn {turn + 1} of {turns}: {name}, {seconds:.0f} s")
                connection.send(seconds)
                runs[name].append(_receive(name, connection))
    return runs


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


def _receive(name: str, connection: Connection) -> Turn:
    try:
        turn: Turn = connection.recv()
    except EOFError:
        raise RuntimeError(f"the process that measures {name} ended; why is printed above") from None
    return turn


def summarize(runs: dict[str, list[Turn]], work: Work, device: torch.device) -> dict[str, Any]:
    """The figures as JSON values; a ratio is our median of steps per second over the peer's."""
    results: list[dict[str, Any]] = []
    for name, turns in runs.items():
        speeds = [turn.steps / turn.seconds for turn in turns]
        result: dict[str, Any] = {
            "name": name,
            "version": ENTRIES[name].version(),
            "steps_per_second": median(speeds),
            "updates_per_second": median(turn.updates / turn.seconds for turn in turns),
            "peak_memory_mib": max(turn.peak_memory_mib for turn in turns),
            "runs": speeds,
            "steps": sum(turn.steps for turn in turns),
            "updates": sum(turn.updates for turn in turns),
            "seconds": sum(turn.seconds for turn in turns),
        }
        if device.type == "cuda":
            result["peak_device_memory_mib"] = max(turn.peak_device_memory_mib or 0.0 for turn in turns)
        results.append(result)
    ours, *peers = results
    return {
        "hardware": hardware(device),
        "device": device.type,
        "work": asdict(work),
        "results": results,
        "ratios": {peer["name"]: ours["steps_per_second"] / peer["steps_per_second"] for peer in peers},
        "ratio_runs": {
            peer["name"]: [a / b for a, b in zip(ours["runs"], peer["runs"], strict=True)] for peer in peers
        },
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """Prints a table of the figures."""
    work, hardware_ = figures["work"], figures["hardware"]
    table = Table(
        title=f"{work['env']} · {work['num_envs']} environments · batch {work['batch_size']} · an update per "
        f"{work['train_every']} steps · {work['precision']} · {figures['device']}",
        caption="steps/s: median (min–max) over turns; a step is four frames. Ratio: of the medians, pixelq over the "
        f"library (min–max over turns). Peak MiB: of the process, with {work['replay_capacity']:,} rows of replay.",
    )
    table.add_column("name")
    for title in ("version", "steps/s", "updates/s", "peak MiB", "ratio"):
        table.add_column(title, justify="right")
    for result in figures["results"]:
        name, runs = result["name"], result["runs"]
        ratios = figures["ratio_runs"].get(name)
        table.add_row(
            name,
            result["version"],
            f"{result['steps_per_second']:,.0f} ({min(runs):,.0f}–{max(runs):,.0f})",
            f"{result['updates_per_second']:,.0f}",
            f"{result['peak_memory_mib']:,.0f}",
            f"{figures['ratios'][name]:.2f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else "",
        )
    console.print(table)
    console.print(f"{hardware_['cpu']}, {hardware_['cores']} cores, {hardware_['device']}", style="dim")


if __name__ == "__main__":
    from pixelq.scripts.main import run

    sys.exit(run("benchmark"))
